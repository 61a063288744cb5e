"""File locks: who waits, who is refused, and that a killed process leaves none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.errors import LockedError
from pipeline.runtime import file_lock
from pipeline.runtime.file_lock import FileLock, can_lock, holder

_HOLDER = """
import sys, time
from pathlib import Path
from pipeline.runtime.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_lock_is_refused_at_once_until_the_first_is_released(tmp_path):
    path = tmp_path / "lock"
    first = FileLock(path)
    assert not can_lock(path)
    with pytest.raises(LockedError, match="is locked by another process"):
        FileLock(path)
    first.release()
    first.release()
    assert can_lock(path)
    with FileLock(path):
        assert not can_lock(path)
    assert can_lock(path)


def test_what_is_in_the_file_stays(tmp_path):
    path = tmp_path / "lock"
    path.write_text("mine")
    with FileLock(path):
        assert path.read_text() == "mine"


@pytest.mark.parametrize("timeout", [240.0, None])
def test_who_waits_gets_it_when_it_is_released(tmp_path, timeout):
    first, released = FileLock(tmp_path / "lock"), threading.Event()

    def release() -> None:
        released.set()
        first.release()

    timer = threading.Timer(0.2, release)
    timer.start()
    with FileLock(tmp_path / "lock", timeout=timeout):
        assert released.is_set()
    timer.join()


def test_who_waits_gives_up_after_the_timeout(tmp_path):
    with FileLock(tmp_path / "lock"):
        start = time.monotonic()
        with pytest.raises(LockedError):
            FileLock(tmp_path / "lock", timeout=0.2)
        assert time.monotonic() - start >= 0.2


def test_it_goes_with_the_file_when_its_folder_is_renamed(tmp_path):
    (tmp_path / "a").mkdir()
    with FileLock(tmp_path / "a" / "lock"):
        (tmp_path / "a").rename(tmp_path / "b")
        assert not can_lock(tmp_path / "b" / "lock")
    assert can_lock(tmp_path / "b" / "lock")


def test_a_file_that_can_not_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "status", mode="rb")
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere" / "lock")
    assert not can_lock(tmp_path / "nowhere" / "lock")


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LockedError):
                FileLock(path, timeout=0.1)
            assert not can_lock(path)
        finally:
            holder.kill()
        holder.wait()
        with FileLock(path, timeout=240.0):
            pass


def test_who_waits_says_for_whom_and_that_it_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "_QUIET", 0.1)
    path, calls = tmp_path / "lock", []
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            assert holder(path) == f"another process (number {process.pid})"
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            named = f"another process (number {process.pid}, which is stopped: kill -CONT {process.pid})"
            with pytest.raises(LockedError) as caught:
                FileLock(path, timeout=0.4, say=calls.append)
            assert str(caught.value) == f"{path} is locked by {named}"
            assert calls == [f"waiting for {named}, which holds {path}"]
        finally:
            process.kill()
    assert holder(path) == "another process", "nobody holds it"
