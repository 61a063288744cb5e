"""Progress as lines of a file: for the service, which shows how a training goes that it has started."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from pipeline.runtime.progress import Progress

__all__ = ["progress_file"]

_SECONDS = 0.1  # between two writes to the disk
_CLOSE = 2000  # lines of a stage that are all kept; then one each tenth of a second


def progress_file(path: Path, shown: Progress) -> Progress:
    """`shown`, which besides appends ``[stage, done, total, note]`` to a file. A full disk is no error."""
    file = path.open("a", encoding="utf-8")
    stage_now, lines, flushed = "", 0, 0.0

    def progress(stage: str, done: int, total: int | None, note: str = "") -> None:
        nonlocal stage_now, lines, flushed
        shown(stage, done, total, note)
        now = time.monotonic()
        due = stage != stage_now or done == total or now - flushed > _SECONDS
        lines = 0 if stage != stage_now else lines + 1
        stage_now = stage
        if due or lines < _CLOSE:
            with suppress(OSError):
                file.write(json.dumps([stage, done, total, note]) + "\n")
                if due:
                    file.flush()
                    flushed = now

    return progress
