"""The machine: disk, memory, folders that must be writable."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import kernels
from pipeline.checkup.finding import Finding, fail, ok, warn

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


def memory() -> Iterator[Finding]:
    """What is free, under the machine's and the control group's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if ":" in line}
        free, total = kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024
    except (OSError, KeyError, ValueError, IndexError):
        yield warn("memory", "/proc/meminfo can't be read", "see that there is 1 GiB at least")
        return
    said = f"{_size(free)} of {_size(total)} free"
    group = _control_group()
    if group is not None:
        limit, used = group
        said += f"; the control group's limit is {_size(limit)}, {_size(used)} used"
        free = min(free, limit - used)
    yield _enough("memory", said, free, _MEMORY, "end what else runs, or raise the limit")


def _control_group() -> tuple[int, int] | None:
    """(limit, used) in bytes of the tightest group this process is in; None without a limit."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", ":memory:/"]:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds not in ("", "memory"):
            continue
        root, names = (
            (Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file"))
            if not kinds
            else (
                Path("/sys/fs/cgroup/memory"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            )
        )
        here = root / path.strip("/")
        for folder in [here, *here.parents]:
            if not folder.is_relative_to(root):
                break
            try:
                limit = int((folder / names[0]).read_text())
                used = int((folder / names[1]).read_text())
                stat = dict(one.split() for one in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if limit < 2**60:  # the first version's word for none
                # Pages of files, which give way.
                found.append((limit, max(0, used - int(stat.get(names[2], 0)))))
    return min(found, key=lambda one: one[0] - one[1], default=None)


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
