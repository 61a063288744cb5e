"""What the other programs here share: the machine in a line, peak memory, a measured child process."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """Processor, cores, Python and the packages that matter."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    cores = len(os.sched_getaffinity(0))
    named = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{cpu}, {cores} cores, Python {platform.python_version()}, {named}"


def peak_mb() -> float:
    """Peak resident memory of this process so far, MB (Linux; rusage would count the parent's before exec too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def now_mb() -> float:
    """Resident memory of this process now, MB."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def in_child(program: str, arguments: Sequence[str], runs: int) -> list[dict[str, float]]:
    """Run `program arguments` so often, each in a process of its own; each prints one JSON object last."""
    results = []
    for _ in range(runs):
        done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return results


def median(results: list[dict[str, float]], key: str) -> float:
    """Median of one figure over the runs."""
    return statistics.median(result[key] for result in results)
