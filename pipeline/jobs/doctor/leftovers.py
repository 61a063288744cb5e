"""Checks for files that jobs left behind: temporary folders of killed jobs, and pending runs."""

from __future__ import annotations

import shlex
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.diagnostics import Finding, ok, warn

__all__ = ["scratch", "unlogged"]

_DAY = 24 * 3600
# Folders of pending runs, which must not be deleted.
_PENDING = "rankline-unlogged-"


def scratch() -> Iterator[Finding]:
    """Check for temporary folders of killed jobs."""
    folder = Path(tempfile.gettempdir())
    folders = [path for path in folder.glob("rankline-*") if not path.name.startswith(_PENDING)]
    old = sorted(path for path in folders if _is_old_folder(path))
    if old:
        some = " ".join(map(str, old[:3])) + (" …" if len(old) > 3 else "")
        said = f"{len(old)} of jobs that were killed, with copies of artifacts"
        yield warn("temporary folders", said, f"rm -r {some}")
    else:
        yield ok("temporary folders", f"none left behind in {folder}")


def _is_old_folder(path: Path) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:  # that of a job, which has ended meanwhile
        return False
    return stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > _DAY


def unlogged(folder: Path) -> Iterator[Finding]:
    """Check for pending runs, whose training ended while MLflow was not available."""
    folders = [folder, *Path(tempfile.gettempdir()).glob(f"{_PENDING}*")]
    pending = sorted(path.parent for root in folders for path in root.glob("[!.]*/kept.json"))
    if pending:
        some = ", ".join(map(str, pending[:3])) + (" …" if len(pending) > 3 else "")
        yield warn(
            "unlogged",
            f"{len(pending)} training(s) not in MLflow yet: {some}",
            f"rankline resume {shlex.quote(str(pending[0]))}",
        )
