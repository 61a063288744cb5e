"""Which process is known to be gone, also where /proc hides those of other users."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.runtime import process
from pipeline.runtime.process import ProcessIdentity


def hide(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """As with ``hidepid``: what is in the process's folder can't be read."""
    read_text = Path.read_text

    def refused(self: Path, *arguments: object, **options: object) -> str:
        if str(self).startswith(f"/proc/{pid}/"):
            raise FileNotFoundError(self)
        return read_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)


def test_a_hidden_process_that_lives_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    me = ProcessIdentity.me()
    assert me.alive
    assert not me.dead
    assert replace(me, process_started="1").dead, "the number was given again"
    hide(monkeypatch, me.pid)
    assert not me.dead
    assert not me.alive, "nothing is known of it"

    def of_another_user(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", of_another_user)
    assert not me.dead


def test_one_that_has_ended_is_dead_whether_shown_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = replace(ProcessIdentity.me(), pid=child.pid, process_started=process._started(child.pid) or "")
        assert identity.alive
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity.dead, "it has ended, and nobody has asked for its status yet"
    assert identity.dead
    hide(monkeypatch, identity.pid)
    assert identity.dead
    assert not replace(identity, host="another machine").dead
