"""What jobs left on this machine: folders of those that were killed, trainings that were never logged."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.checkup.finding import Finding, ok, warn

__all__ = ["scratch", "unlogged"]

_DAY = 24 * 3600
# Results that found no other place: nothing to clear away.
_KEPT = "rankline-unlogged-"


def scratch() -> Iterator[Finding]:
    """Folders that killed jobs left among the temporary ones."""
    folder = Path(tempfile.gettempdir())
    found = [path for path in folder.glob("rankline-*") if path.is_dir() and not path.name.startswith(_KEPT)]
    old = sorted(path for path in found if time.time() - path.stat().st_mtime > _DAY)
    if old:
        some = " ".join(map(str, old[:3])) + (" …" if len(old) > 3 else "")
        said = f"{len(old)} of jobs that were killed, with copies of artifacts"
        yield warn("temporary folders", said, f"rm -r {some}")
    else:
        yield ok("temporary folders", f"none left behind in {folder}")


def unlogged(folder: Path) -> Iterator[Finding]:
    """Trainings whose results are kept here, since MLflow was away when they ended."""
    folders = [folder, *Path(tempfile.gettempdir()).glob(f"{_KEPT}*")]
    kept = sorted(path.parent for one in folders for path in one.glob("[!.]*/kept.json"))
    if kept:
        some = ", ".join(map(str, kept[:3])) + (" …" if len(kept) > 3 else "")
        yield warn(
            "unlogged",
            f"{len(kept)} training(s) not in MLflow yet: {some}",
            f"rankline resume {shlex.quote(str(kept[0]))}",
        )
