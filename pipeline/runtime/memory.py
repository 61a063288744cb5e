"""How much memory this process may use: the minimum over machine, container and process limits."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.cgroups import CGROUPS, PROC, cgroups

__all__ = ["MemoryLimit", "addresses_left", "give_back", "memory_limit", "peak_memory", "reset_peak", "resident_memory"]

# For each version of cgroups: the file with the limit, the file with the usage, and the line of memory.stat with the
# inactive file cache. The kernel reclaims that cache before it kills a process.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes.

    Attributes
    ----------
    used : resident memory of this process now
    most : the limit on its resident memory, `used` included
    why : which limit this is, for a message
    """

    used: int
    most: int
    why: str

    @property
    def free(self) -> int:
        """How much more it may use."""
        return max(self.most - self.used, 0)


def memory_limit(limit_mb: int | None = None, proc: Path = PROC, folder: Path = CGROUPS) -> MemoryLimit | None:
    """The lowest memory limit; None on a system without /proc where `limit_mb` is not given.

    Parameters
    ----------
    limit_mb : a limit set by the user, instead of every detected one
    proc, folder : where the system tells of processes and of cgroups
    """
    used = resident_memory(proc)
    if limit_mb is not None:
        return MemoryLimit(used, limit_mb << 20, "RANKLINE_MEMORY_LIMIT_MB")
    limits = []
    if (available := _kilobytes(proc / "meminfo", "MemAvailable:")) is not None:
        limits.append(MemoryLimit(used, used + available, "the machine"))
    limits += [MemoryLimit(used, used + left, "the container (cgroup)") for left in _left_in_cgroups(proc, folder)]
    if (addresses := addresses_left(proc)) is not None:
        limits.append(MemoryLimit(used, used + addresses, "the limit on address space (ulimit -v)"))
    return min(limits, key=lambda limit: limit.most, default=None)


def resident_memory(proc: Path = PROC) -> int:
    """Resident memory of this process now, in bytes; 0 on a system without /proc."""
    return _kilobytes(proc / "self" / "status", "VmRSS:") or 0


def reset_peak(proc: Path = PROC) -> None:
    """Let `peak_memory` count from now on, where the system can do that."""
    with suppress(OSError):
        (proc / "self" / "clear_refs").write_text("5")


def give_back() -> None:
    """Let the system have the memory that was freed: the C library keeps what lies between blocks that are in use."""
    with suppress(OSError, AttributeError, TypeError):  # another C library than GNU's has no such function
        ctypes.CDLL(None).malloc_trim(0)
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()


def peak_memory(proc: Path = PROC) -> int:
    """Largest resident memory of this process in bytes, since `reset_peak` or in all."""
    peak = _kilobytes(proc / "self" / "status", "VmHWM:")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if peak is None else peak


def _left_in_cgroups(proc: Path, folder: Path) -> Iterator[int]:
    """Bytes left in each cgroup of this process and in each ancestor of it."""
    for version, group in cgroups("memory", proc, folder):
        if (left := _left(group, *_FILES[version])) is not None:
            yield left


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most, now = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        if most == "max":
            return None
        inactive = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
        return max(int(most) - now + int(inactive.get(cache, 0)), 0)
    except (OSError, ValueError):
        return None


def addresses_left(proc: Path = PROC) -> int | None:
    """Bytes of address space that this process may still map; None where there is no limit."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _kilobytes(proc / "self" / "status", "VmSize:")
    return None if most == resource.RLIM_INFINITY or taken is None else max(most - taken, 0)


def _kilobytes(path: Path, name: str) -> int | None:
    """The value of a line ``name  123 kB``, in bytes."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None
