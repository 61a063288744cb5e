"""How many cores there are: those of the process, no more than a container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.jobs.preflight import TrainingRequest
from pipeline.models.footprint import Size
from pipeline.options import TrainOptions
from pipeline.runtime import cpus
from pipeline.runtime.cpus import busy, cpu_count, cpu_quota
from pipeline.runtime.threads import ThreadPool


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine of eight idle cores with the given lines of /proc/self/cgroup and files of cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))

    def make(lines: str, files: dict[str, str]) -> tuple[Path, Path]:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(lines)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "proc", tmp_path / "cgroup"

    return make


V1 = "4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"


@pytest.mark.parametrize(
    ("lines", "files", "quota", "cores"),
    [
        ("", {}, None, 8),
        ("0::/\n", {}, None, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 16.0, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3.0, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 50000\n", "a/cpu.max": "300000 100000\n"}, 2.0, 2),
        # In a container only the root of the mount is there.
        ("0::/kubepods/x\n", {"cpu.max": "200000 100000\n"}, 2.0, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5, 3),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1.0, 1),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, None, 8),
        (V1, {"cpu/cpu.cfs_quota_us": "nonsense", "cpu/cpu.cfs_period_us": "0"}, None, 8),
        (V1 + "0::/\n", {"memory/memory.limit_in_bytes": "1"}, None, 8),
    ],
)
def test_a_quota_counts_as_so_many_cores(system, lines, files, quota, cores):
    proc, folder = system(lines, files)
    assert cpu_quota(proc, folder) == quota
    assert cpu_count(proc, folder) == cores


def test_a_part_of_a_core_takes_longer(system):
    proc, folder = system("0::/\n", {"cpu.max": "50000 100000\n"})
    assert busy(proc, folder) == 2.0


def test_threads_and_plans_are_as_many(system, monkeypatch):
    proc, folder = system("0::/\n", {"cpu.max": "300000 100000\n"})
    monkeypatch.setattr(cpus, "cpu_quota", lambda *_: cpu_quota(proc, folder))
    with ThreadPool() as pool:
        assert pool.n_threads == 3
    with ThreadPool(7) as pool:
        assert pool.n_threads == 7, "who names a number gets it"
    assert TrainingRequest(TrainOptions()).plan(Size(1000, 1000, 100, 100)).threads == 3
