"""`rankline serve`."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.cli.redis_cache import cache_address
from pipeline.errors import UsageError
from pipeline.options.base import types_of
from pipeline.options.serve import ServeOptions
from pipeline.runtime.redis_address import RedisAddress

__all__: list[str] = []

# Names of these settings elsewhere, which are read where ours are not set.
_OTHER_NAMES = {"host": "API_HOST", "port": "API_PORT", "workers": "API_WORKERS"}
_NEEDS = ("fastapi", "uvicorn", "uvloop", "httptools", "orjson", "cachetools", "prometheus_client")


@command(
    "serve",
    panel=RECOMMENDATIONS,
    examples=("rankline serve", "rankline serve --port 9000 --workers 4 --item-fields title,genres"),
    specs=(ServeOptions,),
    json_option=False,
    named=True,
)
def _serve(run: Invocation, spec: ServeOptions) -> Outputs:
    """Answer over HTTP: lists by the champion, and new interactions.

    It follows the champion: a version that is promoted is served within seconds, without a failed request. While none
    has been promoted, it serves the newest version. Ctrl-C ends it.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(f"serve needs {', '.join(missing)}: pip install 'rankline[serve]'")
    # Each request is short and runs on one core: threads of BLAS would only be in one another's way.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from pipeline.serving.service import ServiceConfig
    from pipeline.serving.supervisor import serve

    settings = run.settings
    options = _with_other_names(spec, run)
    live = (options.live_dir or settings.live_path).absolute()
    config = ServiceConfig(
        options, live, settings.names.model, settings.tracking_uri, settings.rules_path, run.log_format, _redis(spec)
    )
    if config.redis is not None:
        run.reporter.say(f"the second cache is {config.redis.shown}")
    serve(config, run.reporter.say)
    return []


def _redis(spec: ServeOptions) -> RedisAddress | None:
    """Where Redis is; None without it. Raises UsageError."""
    if "@" in (spec.redis_url or "") and spec.redis_url != os.environ.get("RANKLINE_REDIS_URL"):
        raise UsageError("--redis-url takes no user and password, which a list of processes would show: REDIS_PASSWORD")
    return cache_address(spec.redis_url, spec.redis_db)


def _with_other_names(spec: ServeOptions, run: Invocation) -> ServeOptions:
    """The options, with values of other names' variables where ours have their defaults."""
    values: dict[str, Any] = {}
    for name, variable in _OTHER_NAMES.items():
        text = os.environ.get(variable)
        if (
            text
            and not os.environ.get(f"RANKLINE_{name.upper()}")
            and getattr(spec, name) == getattr(ServeOptions, name)
        ):
            try:
                values[name] = types_of(ServeOptions)[name].parse(text)
            except ValueError:
                raise UsageError(f"{variable}: {text!r} is no {name}") from None
            run.reporter.say(f"{name} {values[name]} is from {variable}")
    return replace(spec, **values)
