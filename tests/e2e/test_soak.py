"""The soak of `make soak`, for some seconds: swaps, a broken version, a killed worker, a Redis that hangs and stops."""

from __future__ import annotations

import sys

import pytest
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]
pytestmark = [pytest.mark.slow, pytest.mark.takes(20)]


def test_no_request_fails_no_list_is_stale_and_no_rating_is_lost(trained_copy: Home) -> None:
    short = ["--seconds", "6", "--swaps", "3", "--broken", "1", "--clients", "4", "--no-retrain"]
    program = str(ROOT / "benchmarks" / "soak.py")
    done = trained_copy.run(sys.executable, program, "--home", str(trained_copy.folder), *short)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines() if line[-1:].isdigit()}
    assert found["failed requests"] == found["stale answers"] == found["of these lost"] == "0"
    assert int(found["acknowledged ratings"].replace(",", "")) > 0
    assert "2 swaps" in done.stdout
    assert "1 broken versions refused, 1 workers killed" in done.stdout
