"""How many cores this process may use: those it may run on, and no more than the quota of its container."""

from __future__ import annotations

import math
import os
from pathlib import Path

from pipeline.runtime.cgroups import CGROUPS, PROC, cgroups

__all__ = ["busy", "cpu_count", "cpu_quota"]


def cpu_count(proc: Path = PROC, folder: Path = CGROUPS) -> int:
    """Cores for threads, at least 1; a part of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(proc, folder)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(proc: Path = PROC, folder: Path = CGROUPS) -> float | None:
    """Seconds of CPU a second that the container may take, the least of all groups around it; None for no limit."""
    quotas = [quota for version, group in cgroups("cpu", proc, folder) if (quota := _quota(version, group)) is not None]
    return min(quotas, default=None)


def busy(proc: Path = PROC, folder: Path = CGROUPS) -> float:
    """How many times longer work on all of `cpu_count` threads takes than on as many idle cores, at least 1."""
    cores, quota = cpu_count(proc, folder), cpu_quota(proc, folder)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, load, cores / quota if quota else 1.0)


def _quota(version: int, group: Path) -> float | None:
    try:
        if version == 2:
            most, period = (group / "cpu.max").read_text().split()
        else:
            most, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if most.strip() == "max" or int(most) <= 0:
            return None
        return int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
