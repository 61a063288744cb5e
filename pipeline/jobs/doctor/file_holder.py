"""Finds the process that has a file open, on systems with /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["holder_of"]


def holder_of(files: Collection[Path], mask: Callable[[str], str]) -> str | None:
    """The process that has one of the files open, with the beginning of its command; None where it is unknown."""
    wanted = {str(path.resolve()) for path in files}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            opened = {str(link.readlink()) for link in (process / "fd").iterdir()}
        except OSError:  # another user's process, or it has ended
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
    # Mask before cutting: a password cut in half would not be recognized.
    text = mask(" ".join(text.split()))
    return text if len(text) <= 80 else text[:79] + "…"
