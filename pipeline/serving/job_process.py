"""`JobProcess`: a command of Rankline in a process of its own: a training, or the warehouse's part of a forgetting.

The agent starts it and a thread watches it. What it prints is a file, so that it is read by whoever comes after the
agent, too. When the service stops, the thread ends it in order: SIGTERM, which ends its MLflow run, then SIGKILL.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.runtime.process import ProcessIdentity
from pipeline.serving.live_folder import LiveFolder, write_json
from pipeline.serving.service import ServiceConfig

__all__ = ["JobProcess", "Outcome", "end_orphan"]

_PROGRAM = (sys.executable, "-P", "-m", "pipeline")  # -P: a folder `pipeline` where the service was started is not it
_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 8.0  # until a process that was asked to end is killed; the supervisor waits for 10
_ASKED = 2  # times by SIGTERM: Python loses the exception of a signal that arrives while it removes an object
_NICE = 10  # requests come first
_LINES, _LONGEST_LINE, _POINTS = 20, 500, 1000
_LOSS = re.compile(r"loss (\S+)")
_STOPPED = "the service stopped while it ran"


class Outcome(NamedTuple):
    """How it ended. `reason` is "" where it is done; `status` is the exit status, negative for a signal.

    error : the name of the error (`pipeline.errors`) that ended it, "" for none
    """

    status: int
    reason: str
    result: Mapping[str, Any]
    stopped: bool
    error: str = ""


@dataclass
class _Seen:
    """What its files said so far."""

    stage: str = ""
    loss: list[tuple[int, float]] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    error: str = ""
    error_name: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1  # of how many points of the curve one is kept

    def printed(self, line: str) -> None:
        """A line of its log: JSON, or what a library prints."""
        try:
            value = json.loads(line)
            text, metadata = str(value["message"]), value.get("metadata") or {}
        except (ValueError, TypeError, KeyError):
            text, value, metadata = line, {}, {}
        if set(metadata) == {"stage"}:  # its progress has it
            return
        if value.get("level") == "error":
            self.error, self.error_name = text, str(metadata.get("error", ""))
        elif metadata:
            self.result = metadata
        if text.strip():
            self.lines.append(text[:_LONGEST_LINE])

    def progressed(self, line: str) -> None:
        """A line of its progress: stage, done, total, note."""
        with suppress(ValueError, TypeError):
            stage, done, _, note = json.loads(line)
            if stage != self.stage:
                self.stage = str(stage)
            match = _LOSS.match(str(note))
            if match is None:
                return
            if self.loss and done <= self.loss[-1][0]:  # another fit begins
                self.loss, self.every = [], 1
            if done % self.every == 0 and math.isfinite(float(match[1])):
                self.loss.append((int(done), float(match[1])))
            if len(self.loss) > _POINTS:
                self.loss, self.every = self.loss[::2], self.every * 2


class JobProcess:
    """A process of a job. It begins at once.

    Parameters
    ----------
    arguments : of the command line
    shown : where its stage, loss and last lines are written; None for nowhere
    stopping : set when the service stops
    """

    def __init__(
        self,
        job_id: str,
        arguments: Sequence[str],
        config: ServiceConfig,
        folder: LiveFolder,
        stopping: threading.Event,
        shown: Path | None = None,
    ) -> None:
        self.job_id, self.outcome = job_id, None
        self._stopping, self._shown = stopping, shown
        self._log, self._progress = folder.jobs / f"{job_id}.log", folder.jobs / f"{job_id}.progress"
        self._seen, self._written = _Seen(), ""
        self._tails = [_Tail(self._log), _Tail(self._progress)]
        self._ending = False
        self._progress.touch(0o600)
        with os.fdopen(os.open(self._log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                [*_PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(config, self._progress),
                start_new_session=True,  # Ctrl-C is for the supervisor
            )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        self.identity = ProcessIdentity.with_pid(self._process.pid).text
        self._thread = threading.Thread(target=self._watch, name=f"job {job_id}", daemon=True)
        self._thread.start()

    outcome: Outcome | None

    def wait(self, seconds: float) -> None:
        """Until it has ended, or for so long."""
        self._thread.join(seconds)

    def forget_output(self) -> None:
        """Delete what it printed."""
        for path in (self._log, self._progress):
            path.unlink(missing_ok=True)

    def _watch(self) -> None:
        while True:
            status = self._process.poll()
            self._look()
            if status is not None:
                break
            if self._stopping.wait(_LOOK_SECONDS):
                self._end()
                time.sleep(_LOOK_SECONDS)
        stopped = self._ending and status != 0
        name = self._seen.error_name if status else ""
        self.outcome = Outcome(status, self._reason(status, stopped), self._seen.result, stopped, name)

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            _begin_to_end(lambda: self._process.poll() is None, self._process.send_signal)

    def _reason(self, status: int, stopped: bool) -> str:
        if status == 0:
            return ""
        if stopped:
            return _STOPPED
        how = f"it ended with status {status}" if status > 0 else f"it was ended by signal {-status}"
        return self._seen.error or how

    def _look(self) -> None:
        log, progress = self._tails
        for line in log.new_lines():
            self._seen.printed(line)
        for line in progress.new_lines():
            self._seen.progressed(line)
        if self._shown is None:
            return
        value = {"job_id": self.job_id, "stage": self._seen.stage, "loss": self._seen.loss}
        value |= {"lines": list(self._seen.lines)}
        if (text := json.dumps(value)) != self._written:
            with suppress(OSError):  # a full disk is no reason to stop a training
                write_json(self._shown, value, durable=False)
            self._written = text


class _Tail:
    """The whole lines that a file has got since the last look."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._rest = path, 0, b""

    def new_lines(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


def _environment(config: ServiceConfig, progress: Path) -> dict[str, str]:
    """As the service was started, with its folder and its file of options; this package, whatever the folder is."""
    before = dict(config.environment or os.environ)
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, before.get("PYTHONPATH"))))
    own = {
        "RANKLINE_LIVE_DIR": str(config.live),
        "RANKLINE_PROGRESS_FILE": str(progress),
        "MLFLOW_TRACKING_URI": config.tracking_uri,
        "PYTHONPATH": path,
    }
    if config.config_file is not None:
        own["RANKLINE_CONFIG"] = str(config.config_file)
    # Of the service's own command, or of a run that it was started by.
    left_out = ("RANKLINE_JSON", "RANKLINE_LOG_FORMAT", "RANKLINE_DEBUG", "MLFLOW_RUN_ID")
    return {name: value for name, value in before.items() if name not in left_out} | own


def end_orphan(identity: str) -> None:
    """End the process of a job whose agent is gone: in order, and after some seconds in any case."""
    process = ProcessIdentity.of(identity)
    if process is not None and process.alive:
        _begin_to_end(lambda: process.alive, lambda number: os.kill(process.pid, number))


def _begin_to_end(alive: Callable[[], bool], send: Callable[[int], None]) -> None:
    """In a thread, SIGTERM to a process that is alive, after a while once more, and then SIGKILL."""

    def end() -> None:
        begun, asked = time.monotonic(), 0
        while alive() and asked <= _ASKED:
            if time.monotonic() - begun >= asked * _GRACE_SECONDS / _ASKED:
                with suppress(OSError):
                    send(signal.SIGTERM if asked < _ASKED else signal.SIGKILL)
                asked += 1
            time.sleep(_LOOK_SECONDS)

    threading.Thread(target=end, name="end of a job", daemon=True).start()
