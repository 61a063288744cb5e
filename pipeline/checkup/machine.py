"""The machine: disk, memory, folders that must be writable."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import kernels
from pipeline.checkup.finding import Finding, fail, ok, warn
from pipeline.free_memory import memory_room

__all__ = ["disk", "kernel_cache", "memory", "writable"]

MIB, GIB = 2**20, 2**30
# Free bytes under which a person is told, and a job would fail: the sample alone takes some 100 MB.
_DISK = (2 * GIB, 256 * MIB)
_MEMORY = (1 * GIB, 256 * MIB)


def disk(folders: dict[str, Path]) -> Iterator[Finding]:
    """Room and the right to write, where files go; folders of one disk are one line, but where one can't be written."""
    places: dict[int, tuple[list[str], Path]] = {}
    for what, folder in folders.items():
        there = _nearest(folder)
        if not writable(there):
            yield fail(f"disk of {what}", f"{there} can't be written", f"let this user write to {there}")
        places.setdefault(there.stat().st_dev, ([], there))[0].append(what)
    for names, folder in places.values():
        free, total = shutil.disk_usage(folder).free, shutil.disk_usage(folder).total
        what = ", ".join(names)
        yield _enough("disk", f"{_size(free)} of {_size(total)} free ({what})", free, _DISK, f"make room for {what}")


def memory(limit_mb: int | None) -> Iterator[Finding]:
    """What is free, by whichever limit is the nearest; `limit_mb` is a person's own word for it."""
    room = memory_room(limit_mb)
    if room is None:
        yield warn("memory", "this system does not tell what is free", "see that there is 1 GiB at least")
        return
    said = f"{_size(room.free)} free ({room.why})"
    yield _enough("memory", said, room.free, _MEMORY, "end what else runs, or raise the limit")


def kernel_cache() -> Iterator[Finding]:
    """Where compiled kernels are kept: without it each command compiles anew, or can't."""
    if not kernels.available():
        return
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or kernels.cache_folder())
    there = _nearest(folder)
    if not writable(there):
        yield fail(
            "kernels",
            f"{there} can't be written: compiled kernels find no place",
            "NUMBA_CACHE_DIR names a folder that can",
        )
    elif folder.is_dir() and any(folder.rglob("*.nbi")):
        yield ok("kernels", f"compiled, in {folder}")
    else:
        yield ok("kernels", f"compiled at the first training, into {folder}")


def _enough(name: str, said: str, free: int, limits: tuple[int, int], todo: str) -> Finding:
    told, failing = limits
    if free < failing:
        return fail(name, said, todo)
    return warn(name, said, todo) if free < told else ok(name, said)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def writable(folder: Path) -> bool:
    """Whether a file can be made there: tried, since rights alone don't tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _size(n: int) -> str:
    return f"{n / GIB:.1f} GiB" if n >= GIB else f"{n / MIB:.0f} MiB"
