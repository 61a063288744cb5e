"""A job under way: the stage that its log lines tell, a signal in it, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fork import Forked, ForkServer
from support.processes import ROOT

LOADING, TRAINING, LOGGING, PUBLISHING = STAGES = ("loading", "training", "logging", "publishing")
OF = {"read": LOADING, "log": LOGGING, "pages": LOGGING, "score": PUBLISHING, "publish": PUBLISHING}
PATIENCE = 240.0  # seconds for a job on a busy machine


@dataclass
class Job:
    """A process of ours under way, and what its log lines say."""

    pid: int
    log: Any
    wait: Callable[[], int]
    command: str
    started: float = field(default_factory=time.monotonic)
    stage: str = LOADING
    begun: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False
    status: int | None = None

    def __post_init__(self) -> None:
        self.begun[LOADING] = self.started
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.log:
            self.lines.append(line.rstrip())
            try:
                stage = json.loads(line)["metadata"].get("stage")
            except (ValueError, KeyError, TypeError):
                continue
            if stage is not None:
                stage = OF.get(stage, TRAINING)
                with self.changed:
                    if stage not in self.begun:
                        self.stage, self.begun[stage] = stage, time.monotonic()
                        self.changed.notify_all()
        self.log.close()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def signal_in(self, stage: str, delay: float, number: signal.Signals) -> str | None:
        """Send the signal so many seconds into the stage; the stage it hit, None where the job was over by then."""
        with self.changed:
            self.changed.wait_for(lambda: stage in self.begun or self.over, PATIENCE)
            self.changed.wait_for(lambda: self.over, max(0.0, self.begun.get(stage, 0) + delay - time.monotonic()))
            hit = self.stage
        if self.over:
            return None
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return None
        return hit

    def end(self) -> int:
        """Its exit status, a signal's as −number; stopped where it hangs."""
        timer = threading.Timer(PATIENCE, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        self.status = self.wait()
        timer.cancel()
        self._listener.join(10)
        return self.status

    def durations(self) -> dict[str, float]:
        """Seconds by stage."""
        marks = [*self.begun.items(), ("", time.monotonic())]
        return {stage: marks[i + 1][1] - at for i, (stage, at) in enumerate(marks[:-1])}

    @property
    def said(self) -> str:
        """Its last lines, for a report."""
        return " | ".join(self.lines[-3:])[-700:]


def environment(folder: Path, dsn: str) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLINE_", "MLFLOW_"))}
    return {
        **keep,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "RANKLINE_WAREHOUSE": dsn,
        "OMP_NUM_THREADS": "1",
    }


def started(folder: Path, arguments: list[str], env: dict[str, str]) -> Job:
    """A job as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    return Job(process.pid, process.stderr, process.wait, arguments[0])


def forked(folder: Path, server: ForkServer, arguments: list[str], env: dict[str, str]) -> Job:
    """A job that has everything imported when it begins."""
    streams = (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.PIPE)
    process = Forked(["rankline", *arguments], env, folder, streams, server)
    return Job(process.pid, process.stderr, process.wait, arguments[0])
