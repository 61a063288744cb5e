"""`rankline serve`."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.cli.other_names import is_debug
from pipeline.cli.redis_cache import cache_address
from pipeline.errors import UsageError
from pipeline.options.monitoring import DriftLimits, NotifyOptions
from pipeline.options.names import Names
from pipeline.options.serve import ServeOptions
from pipeline.runtime.redis_address import RedisAddress

__all__: list[str] = []

_NEEDS = ("fastapi", "uvicorn", "uvloop", "httptools", "orjson", "cachetools", "prometheus_client")


@command(
    "serve",
    panel=RECOMMENDATIONS,
    examples=("rankline serve", "rankline serve --port 9000 --workers 4 --item-fields title,genres"),
    specs=(ServeOptions, NotifyOptions),
    json_option=False,
    named=True,
)
def _serve(run: Invocation, spec: ServeOptions, telling: NotifyOptions) -> Outputs:
    """Answer over HTTP: lists by the champion, and new interactions.

    It follows the champion: a version that is promoted is served within seconds, without a failed request. While none
    has been promoted, it serves the newest version. Ctrl-C ends it.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(f"serve needs {', '.join(missing)}: pip install 'rankline[serve]'")
    environment = dict(os.environ)  # a training may use all cores
    # Each request is short and runs on one core: threads of BLAS would only be in one another's way.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from pipeline.config import options_from
    from pipeline.monitoring.notify_targets import parse_target
    from pipeline.serving.service import ServiceConfig
    from pipeline.serving.supervisor import serve

    settings = run.settings
    if is_debug(["serve"]) and not os.environ.get("RANKLINE_DEBUG"):
        run.reporter.say("tracebacks are shown: DEBUG is set")
    live, redis = (spec.live_dir or settings.live_path).absolute(), _redis(spec)
    also = [Names(name.strip()) for name in (spec.also or "").split(",") if name.strip()]
    limits = options_from(DriftLimits, settings.config, os.environ)
    for target in telling.targets:
        parse_target(target)  # said now, and not by the agent
    config, *others = (
        ServiceConfig(
            spec,
            live,
            named.names.model,
            named.tracking_uri,
            named.rules_path,
            run.log_format,
            None if settings.config is None else settings.config.path.absolute(),
            environment,
            redis,
            notify=telling.targets,
            alerts=settings.state_path,
            notify_hours=telling.notify_hours,
            max_log_age_hours=limits.max_log_age_hours,
            max_table_age_hours=limits.max_table_age_hours,
        )
        for named in map(settings.named, (settings.names, *also))
    )
    if redis is not None:
        run.reporter.say(f"the second cache is {redis.shown}")
    serve(replace(config, others=tuple(others)), run.reporter.say)
    return []


def _redis(spec: ServeOptions) -> RedisAddress | None:
    """Where Redis is; None without it. Raises UsageError."""
    if "@" in (spec.redis_url or "") and spec.redis_url != os.environ.get("RANKLINE_REDIS_URL"):
        raise UsageError("--redis-url takes no user and password, which a list of processes would show: REDIS_PASSWORD")
    address = cache_address(spec.redis_url, spec.redis_db)
    if spec.redis_url:  # for the commands that the service starts, such as forget
        os.environ["RANKLINE_REDIS_URL"] = spec.redis_url
    if spec.redis_db is not None:
        os.environ["RANKLINE_REDIS_DB"] = str(spec.redis_db)
    return address
