"""Options of `rankline serve`: where it listens, its processes, its folder, and what an answer holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from pipeline.options.base import Options, Rule, YesNo, option

__all__ = ["ITEM_FIELDS", "ServeOptions"]

ITEM_FIELDS = ("title", "genres", "popularity")


def _are_fields(text: str) -> bool:
    return text == "" or all(name.strip() in ITEM_FIELDS for name in text.split(","))


@dataclass(frozen=True)
class ServeOptions(Options):
    """How the service runs. Raises UsageError for an invalid value."""

    PANEL: ClassVar[str] = "The service"
    SECTION: ClassVar[str] = "serving"

    host: str = option(
        "127.0.0.1",
        "The address to listen on.",
        details="Another than this machine's own (127.0.0.1, ::1, localhost) needs a key: `rankline key add`.",
    )
    port: Annotated[int, Ge(0), Le(65535)] = option(8001, "The port to listen on; 0: a free one.")
    metrics_port: Annotated[int, Ge(0), Le(65535)] = option(
        0,
        "Another port, where /metrics alone is answered; 0: none.",
        details="/metrics is on --port too. With keys both ask for one of the scope metrics.",
        advanced=True,
    )
    workers: Annotated[int, Ge(1), Le(64)] = option(2, "Processes that answer requests.")
    also: str | None = option(
        None,
        "Further registered models to serve, separated by commas: each under /api/v1/NAME/….",
        details="The model of --name has the paths without a name, and those with it besides.",
    )
    live_dir: Path | None = option(
        None, "The folder of the service: models, new interactions, keys. Default: live, beside MLflow's store."
    )
    item_fields: Annotated[str, Rule(_are_fields, f"some of {', '.join(ITEM_FIELDS)}, separated by commas")] = option(
        "title", "What answers say of an item besides its id and score: title, genres, popularity."
    )
    min_rating: Annotated[float, Ge(0)] = option(0.5, "The smallest rating that the service takes.")
    max_rating: Annotated[float, Gt(0)] = option(5.0, "The largest rating that the service takes.")
    poll_seconds: Annotated[float, Gt(0), Le(3600)] = option(
        2.0, "Seconds between two looks at the champion in MLflow.", advanced=True
    )
    drain_seconds: Annotated[float, Ge(0), Le(600)] = option(
        3.0, "Seconds for which it still answers after SIGTERM, while it says that it is not ready.", advanced=True
    )
    cache_mb: Annotated[int, Ge(0), Le(1 << 20)] = option(
        64, "Megabytes of ready answers that each worker keeps.", advanced=True
    )
    redis_url: str | None = option(
        None,
        "Redis as a second cache, such as redis://cache:6379/0; rediss:// with TLS. Default: REDIS_URL, else none.",
        details="A password belongs into REDIS_PASSWORD, since a list of processes shows options. "
        "[serving.md](serving.md#redis) says what is kept there.",
        advanced=True,
    )
    redis_db: Annotated[int, Ge(0), Le(65535)] | None = option(
        None, "The database in Redis. Default: REDIS_DB, else that of the address, else 0.", advanced=True
    )
    redis_timeout_ms: Annotated[int, Ge(1), Le(10_000)] = option(
        50, "Milliseconds that a request waits for Redis, at most.", advanced=True
    )
    rate_limit: Annotated[int, Ge(0), Le(1_000_000)] = option(
        0, "Requests a second that a key may make, for some seconds twice as many; 0: no limit.", advanced=True
    )
    ship_seconds: Annotated[float, Gt(0), Le(86_400)] = option(
        10.0, "Seconds between two shipments of new interactions to a warehouse that is a server.", advanced=True
    )
    docs: YesNo = option("no", "The API as a page at /docs, for browsers.", advanced=True)
    access_log: YesNo = option("yes", "A line on stderr for each request.", advanced=True)
