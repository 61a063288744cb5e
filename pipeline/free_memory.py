"""How much memory this process may come to: the least of what the machine, its container and its limits leave it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Room", "memory_room"]

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Of each version of cgroups: the files with the limit, what is in use, and the line of memory.stat that says how
# much of that is cache, which the kernel takes back before anything is killed.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@dataclass(frozen=True)
class Room:
    """Bytes.

    Attributes
    ----------
    used : resident memory of this process now
    most : what it may come to in all, with that
    why : what says so, for a message
    """

    used: int
    most: int
    why: str

    @property
    def free(self) -> int:
        """What is left."""
        return max(self.most - self.used, 0)


def memory_room(limit_mb: int | None = None, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Room | None:
    """The room there is; None where this system does not tell (no /proc), and nothing is given.

    Parameters
    ----------
    limit_mb : a person's own word, instead of all that is found
    """
    used = _kilobytes(proc / "self" / "status", "VmRSS:") or 0
    if limit_mb is not None:
        return Room(used, limit_mb << 20, "RANKLINE_MEMORY_LIMIT_MB")
    rooms = []
    if (available := _kilobytes(proc / "meminfo", "MemAvailable:")) is not None:
        rooms.append(Room(used, used + available, "the machine"))
    rooms += [Room(used, used + left, "the container (cgroup)") for left in _left_in_cgroups(proc, cgroups)]
    if (addresses := _addresses_left(proc)) is not None:
        rooms.append(Room(used, used + addresses, "the limit on address space (ulimit -v)"))
    return min(rooms, key=lambda room: room.most, default=None)


def _left_in_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each group of processes that this one is in leaves, its ancestors' too."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, names, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        if version == 1 and "memory" not in names.split(","):
            continue
        root = cgroups / "memory" if version == 1 else cgroups
        # In a container the path is often the host's, and only the root of the mount is there.
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if (left := _left(folder, *_FILES[version])) is not None:
                yield left
            if folder == root:
                break


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most, now = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        if most == "max":
            return None
        inactive = dict(line.split()[:2] for line in (folder / "memory.stat").read_text().splitlines())
        return max(int(most) - now + int(inactive.get(cache, 0)), 0)
    except (OSError, ValueError):
        return None


def _addresses_left(proc: Path) -> int | None:
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
