"""A disk without room, under the service: what still works, what does not and says so, and that it comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.service import Served

pytestmark = [pytest.mark.slow, pytest.mark.takes(15)]
LIST = "/api/v1/recommendations/100?k=5"
RATING = {"user_id": 100, "item_id": 1000, "rating": 4}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 80 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can't be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return filler


def test_lists_are_served_and_nothing_is_acknowledged_until_there_is_room(small_disk: Path) -> None:
    served = Served(small_disk, {})
    try:
        assert served.ask("/api/v1/interactions", "POST", RATING)[0] == 201
        filler = fill(small_disk)
        for user in range(100, 130):
            assert served.ask(f"/api/v1/recommendations/{user}?k=5")[0] == 200
        assert json.loads(served.ask(LIST)[1])["source"] == "fold_in"
        # Some ratings may still find a place in the file; in the end none is acknowledged.
        for item in range(1000, 1040):
            status, body, _ = served.ask("/api/v1/interactions", "POST", {**RATING, "item_id": item})
        assert (status, json.loads(body)["code"]) == (503, "LOG_UNAVAILABLE")
        health = json.loads(served.ask("/api/v1/health")[1])
        assert health["status"] == "degraded"
        assert "full" in health["system"]["fault"]
        until = time.monotonic() + 120
        while not health["interaction_log"]["fault"]:  # of the worker that was asked
            assert time.monotonic() < until
            served.ask("/api/v1/interactions", "POST", RATING)
            health = json.loads(served.ask("/api/v1/health")[1])
        # A worker that is started now answers, too, and counts.
        killed = min(served.workers())
        os.kill(killed, signal.SIGKILL)
        while served.counted("rankline_requests_total", "recommendations/") < 200:
            assert time.monotonic() < until
            assert [served.ask(LIST)[0] for _ in range(20)].count(200) >= 19
        assert served.process.poll() is None
        filler.unlink()
        while served.ask("/api/v1/interactions", "POST", RATING)[0] != 201:
            assert time.monotonic() < until
            time.sleep(0.1)
        while len(served.workers() - {killed}) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        served.close()
    assert "SIGBUS" not in served.errors.read_text()
    assert "ended with -7" not in served.errors.read_text()
