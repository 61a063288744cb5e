"""The control groups of this process: where the limits of a container stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["CGROUPS", "PROC", "cgroups"]

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def cgroups(controller: str, proc: Path = PROC, folder: Path = CGROUPS) -> Iterator[tuple[int, Path]]:
    """Version and folder of each cgroup of this process, and of each ancestor of it, that a controller may limit.

    Parameters
    ----------
    controller : ``memory`` or ``cpu``
    proc, folder : where the system tells of processes and of cgroups
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, names, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        if version == 1 and controller not in names.split(","):
            continue
        root = _root(folder, controller, names) if version == 1 else folder
        # In a container the path is often the host's, and only the root of the mount exists.
        group = root / path.strip("/")
        for level in (group, *group.parents):
            yield version, level
            if level == root:
                break


def _root(folder: Path, controller: str, names: str) -> Path:
    """Where a hierarchy of the first version is mounted: under its controllers' names, or a link with one of them."""
    return folder / names if (folder / names).is_dir() else folder / controller
