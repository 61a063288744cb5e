"""Which process has a file open, where /proc tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["holder_of"]


def holder_of(files: Collection[Path], mask: Callable[[str], str]) -> str | None:
    """The process that has one of the files open, with the beginning of its command; None where that can't be told."""
    wanted = {str(path.resolve()) for path in files}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            opened = {str(one.readlink()) for one in (process / "fd").iterdir()}
        except OSError:  # another user's, or gone
            continue
        if opened & wanted:
            return f"process {process.name} ({_command(process, mask)})"
    return None


def _command(process: Path, mask: Callable[[str], str]) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "command unknown"
    text = " ".join([Path(words[0]).name, *words[1:]]).strip()
    # Whole: half a password after a cut would be known for none.
    text = mask(" ".join(text.split()))
    return text if len(text) <= 80 else text[:79] + "…"
