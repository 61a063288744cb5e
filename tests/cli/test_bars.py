"""Bars are drawn on a terminal alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Two stages with a message between them, and a result.
PROGRAM = """
from pipeline.cli.output.console import Console
from pipeline.cli.output.model import Output
with Console().working() as reporter:
    reporter.progress("read", 1, 4)
    reporter.say("read 4 interactions")
    reporter.progress("fit", 2, 4, "loss 1.5")
    reporter.progress("fit", 4, 4, "loss 1.5")
Console().show(Output("trained", {}, ["trained"]))
"""


def on_a_terminal() -> str:
    """What the program writes to a terminal."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=follower, stderr=follower, env=env)
    os.close(follower)
    written = b""
    try:
        while data := os.read(leader, 65536):
            written += data
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_shows_a_bar_for_each_stage_and_removes_them() -> None:
    written = on_a_terminal()
    for text in ("read  ", "fit  ", "4/4", "loss 1.5", "read 4 interactions", "trained"):
        assert text in written
    assert written.rstrip().endswith("trained")
    assert "\x1b[2K" in written[written.index("4/4") :], "the last bar is removed"


def test_a_pipe_shows_messages_and_results_alone() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, check=True)
    assert (done.stdout, done.stderr) == ("trained\n", "read 4 interactions\n")
