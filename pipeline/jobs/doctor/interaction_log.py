"""Check of this host's interaction log: whether it is sound, and what waits to be shipped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import ServerError
from pipeline.interaction_log import InteractionLog
from pipeline.runtime.diagnostics import Finding, fail, ok, warn

__all__ = ["interaction_log"]

_DAY = 24 * 3600


def interaction_log(path: Path) -> Iterator[Finding]:
    """Check the log in a file; nothing is said where there is none."""
    name = "interaction log"
    if not path.exists():
        return
    try:
        with InteractionLog.open(path, create=False) as log:
            faults = log.faults()
            pending, oldest = log.pending()
    except ServerError as error:
        yield fail(name, str(error), "rankline train and score go on without it")
        return
    waits = 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
    said = f"{path}: {pending:,} interaction(s) wait to be shipped"
    if faults:
        yield fail(name, f"{path} is damaged: {faults[0]}", "stop what uses it, keep a copy, and restore it")
    elif waits > _DAY:
        yield warn(name, f"{said}, the oldest for {waits / 3600:.0f} hours", "rankline ship")
    else:
        yield ok(name, said)
