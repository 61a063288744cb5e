"""Checks of the machine: disk space, memory, and folders that must be writable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import kernels
from pipeline.runtime.diagnostics import Finding, fail, ok, warn, writable
from pipeline.runtime.memory import memory_limit

__all__ = ["disk", "kernel_cache", "memory"]

MIB, GIB = 2**20, 2**30
# Free bytes below which a check warns, and below which it fails. The sample alone takes about 100 MB.
_DISK = (2 * GIB, 256 * MIB)
_MEMORY = (1 * GIB, 256 * MIB)


def disk(folders: dict[str, Path]) -> Iterator[Finding]:
    """Check free space and write permission of the folders. Folders on the same disk share one finding."""
    places: dict[int, tuple[list[str], Path]] = {}
    for what, folder in folders.items():
        existing = _nearest(folder)
        if not writable(existing):
            yield fail(f"disk of {what}", f"{existing} can't be written", f"let this user write to {existing}")
        places.setdefault(existing.stat().st_dev, ([], existing))[0].append(what)
    for names, folder in places.values():
        free, total = shutil.disk_usage(folder).free, shutil.disk_usage(folder).total
        what = ", ".join(names)
        yield _enough("disk", f"{_size(free)} of {_size(total)} free ({what})", free, _DISK, f"make room for {what}")


def memory(limit_mb: int | None) -> Iterator[Finding]:
    """Check the free memory under the lowest limit; `limit_mb` is a limit set by the user."""
    room = memory_limit(limit_mb)
    if room is None:
        yield warn("memory", "this system does not tell what is free", "see that there is 1 GiB at least")
        return
    said = f"{_size(room.free)} free ({room.why})"
    yield _enough("memory", said, room.free, _MEMORY, "end what else runs, or raise the limit")


def kernel_cache() -> Iterator[Finding]:
    """Check the cache of compiled kernels. Without a cache each command compiles them again."""
    if not kernels.available():
        return
    folder, chosen = kernels.cache_folder(), os.environ.get("NUMBA_CACHE_DIR")
    if folder is None and chosen:
        yield fail(
            "kernels",
            f"NUMBA_CACHE_DIR is {chosen}, which can't be written: every command compiles its kernels anew",
            "NUMBA_CACHE_DIR names a folder that can be written",
        )
    elif folder is None:
        yield warn(
            "kernels",
            "no folder for compiled kernels can be written: every command compiles them anew (some ten seconds)",
            "set NUMBA_CACHE_DIR to a folder that can be written",
        )
    elif folder.is_dir() and any(folder.rglob("*.nbi")):
        yield ok("kernels", f"compiled, in {folder}")
    else:
        yield ok("kernels", f"compiled at the first training, into {folder}")


def _enough(name: str, said: str, free: int, limits: tuple[int, int], todo: str) -> Finding:
    warn_below, fail_below = limits
    if free < fail_below:
        return fail(name, said, todo)
    return warn(name, said, todo) if free < warn_below else ok(name, said)


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def _size(n: int) -> str:
    return f"{n / GIB:.1f} GiB" if n >= GIB else f"{n / MIB:.0f} MiB"
