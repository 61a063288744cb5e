"""What `score` and `forget` do in the cache of the service in Redis, where there is one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipeline.config import options_from
from pipeline.errors import UsageError
from pipeline.options.serve import ServeOptions
from pipeline.runtime.redis_address import RedisAddress

if TYPE_CHECKING:
    from pipeline.cli.command import Invocation
    from pipeline.jobs.score import Then

__all__ = ["cache_address", "filling", "forget_in_cache"]

_NEEDS = ("redis", "orjson", "cachetools")


def cache_address(url: str | None, db: int | None) -> RedisAddress | None:
    """Where Redis is; None without it. Raises UsageError where its client is not installed."""
    address = RedisAddress.of_environment(os.environ, url or "", db)
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if address is not None and missing:
        raise UsageError(f"a cache in Redis needs {', '.join(missing)}: pip install 'rankline[serve,redis]'")
    return address


def filling(run: Invocation) -> Then:
    """What `score --fill-cache` does after it has published. Raises UsageError without Redis."""
    options = options_from(ServeOptions, run.settings.config, os.environ)
    address = cache_address(options.redis_url, options.redis_db)
    if address is None:
        raise UsageError("--fill-cache needs Redis: set REDIS_URL, such as redis://cache:6379/0")
    from pipeline.serving.shared_cache.filling import fill

    fields = tuple(name.strip() for name in options.item_fields.split(",") if name.strip())

    def then(scorer: Any, version: Any, forgotten: Any) -> None:
        def progress(done: int, total: int) -> None:
            run.reporter.progress("fill", done, total, "users")

        n_lists = fill(
            address, scorer, (version.name, version.version, version.run_id), fields, forgotten, progress
        )  # fmt: skip
        run.reporter.say(f"{n_lists:,} lists of {version.label} are in {address.shown} for an hour")

    return then


def forget_in_cache(user: str, run: Invocation) -> None:
    """Delete the lists and the embedding of a user in Redis, where there is one. A failure is said."""
    options = options_from(ServeOptions, run.settings.config, os.environ)
    address = cache_address(options.redis_url, options.redis_db)
    if address is None:
        return
    from pipeline.serving.shared_cache.published import forget_in

    try:
        forget_in(address, user)
    except OSError as error:
        run.reporter.say(f"{error}: lists of the user that are there end within an hour, an embedding within a day")
