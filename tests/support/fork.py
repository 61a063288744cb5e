"""Run commands in processes that are forked from one with everything imported.

A command spends some four seconds on importing MLflow and its kin, and a few tenths on its work. `fork_server.py`
imports once for all test workers; every command is then a process of its own: its environment, working folder, output,
signals, exit status. A test of how a command starts, or of what it imports, starts a real one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["ForkServer", "Forked", "run_forked", "run_many_forked", "the_fork_server"]

_PROGRAM = Path(__file__).with_name("fork_server.py")
_CLIENT = Path(__file__).with_name("fork_client.py")
_ROOT = Path(__file__).resolve().parents[2]


class ForkServer:
    """The process that forks, its code that of `root`; its socket in that folder, or in one of its own."""

    def __init__(self, root: Path = _ROOT, folder: Path | None = None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="forks-") if folder is None else None
        self.address = str((folder or Path(self._own.name)) / "socket")
        # Neutral: what a test sets is for its commands alone.
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLINE_", "MLFLOW_"))}
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        with Path(self.address).with_name("errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), self.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,  # not this process's own, whose reader may wait for its end
                cwd=root,
                env={**keep, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", Path(self.address).with_name("errors").read_text()

    def commands(self, folder: Path, *names: str) -> dict[str, str]:
        """Make commands of these names in the folder, for shells; returns the environment that they need."""
        for name in names:
            client = folder / name
            client.write_text(f"#!{sys.executable} -IS\n{_CLIENT.read_text()}")
            client.chmod(0o755)
        return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FORK_SERVER": self.address}

    def stop(self) -> None:
        """End it, or let the others that use it end it; commands that are under way go on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._own is not None:
            self._process.wait()
            self._own.cleanup()


class SharedForkServer(ForkServer):
    """That of all workers of a run of pytest: the first that asks starts it, and it ends after the last."""

    def __init__(self, run: str) -> None:
        folder = Path(tempfile.gettempdir()) / f"forks-{run}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._users = (folder / "users").open("w")  # locked as long as this process lives
        fcntl.flock(self._users, fcntl.LOCK_SH)
        with (folder / "starting").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.address, self._started = str(folder / "socket"), not (folder / "socket").exists()
            if self._started:
                super().__init__(folder=folder)

    def stop(self) -> None:
        if self._started:
            super().stop()


@cache
def the_fork_server() -> ForkServer:
    """That of this run of the tests."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    server = SharedForkServer(run) if run else ForkServer()
    atexit.register(server.stop)
    return server


class Forked:
    """A forked command under way, with what `subprocess.Popen` has of methods and streams.

    `program`: ``["rankline", …]``, ``["mlflow", …]`` or ``["-c", CODE, …]``. The streams are numbers of open files, or
    `subprocess.PIPE` or `subprocess.DEVNULL`.
    """

    def __init__(
        self,
        program: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        streams: tuple[int, int, int] = (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE),
        server: ForkServer | None = None,
    ) -> None:
        self.args, self.returncode = list(program), None
        ours: list[IO[Any] | None] = [None, None, None]
        theirs, close = list(streams), []
        for i, stream in enumerate(streams):
            if stream == subprocess.DEVNULL:
                theirs[i] = os.open(os.devnull, os.O_RDWR)
            elif stream == subprocess.PIPE:
                read, write = os.pipe()
                theirs[i], kept = (read, write) if i == 0 else (write, read)
                ours[i] = os.fdopen(kept, "w" if i == 0 else "r", errors="replace")
            else:
                continue
            close.append(theirs[i])
        self.stdin, self.stdout, self.stderr = ours
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect((server or the_fork_server()).address)
        request = json.dumps({"program": list(program), "env": dict(env), "cwd": str(cwd)}).encode() + b"\n"
        sent = socket.send_fds(self._channel, [request], theirs)
        self._channel.sendall(request[sent:])
        for file in close:
            os.close(file)
        self.pid = self._answer()

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.001)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status, a signal's as −number."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = self._answer()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._channel.close()
        return self.returncode

    def _answer(self) -> int:
        """The next line of the server's."""
        text = b""
        while (byte := self._channel.recv(1)) not in (b"\n", b""):
            text += byte
        return int(text)

    def communicate(self, text: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Write to its input, read its output and errors to their ends, wait for it."""
        parts = {1: "", 2: ""}

        def read(number: int, stream: IO[str]) -> None:
            parts[number] = stream.read()

        streams = [(number, stream) for number, stream in ((1, self.stdout), (2, self.stderr)) if stream is not None]
        readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in streams]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(text or "")
                self.stdin.close()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            raise
        for reader, (_, stream) in zip(readers, streams, strict=True):
            reader.join()
            stream.close()
        return parts[1], parts[2]

    def send_signal(self, number: int) -> None:
        """To the process, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """The process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def run_forked(
    program: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """The program as `subprocess.run` with captured text would have it."""
    process = Forked(program, env, cwd)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(list(program), process.wait(), out, err)


_COMMANDS = """
import contextlib, io, json, os, sys
from pipeline.cli.main import main
before = dict(os.environ)
for arguments, env in json.loads(sys.argv[1]):
    out, err, status = io.StringIO(), io.StringIO(), 0
    os.environ.update(env)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as leave:
            status = int(leave.code or 0)
    os.environ.clear()  # MLflow sets and takes away some itself
    os.environ.update(before)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def run_many_forked(
    commands: Sequence[tuple[Sequence[str], Mapping[str, str]]], env: Mapping[str, str], cwd: Path, timeout: float
) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of several commands, run in one process; each with environment of its own."""
    asked = json.dumps([[list(arguments), dict(own)] for arguments, own in commands])
    done = run_forked(["-c", _COMMANDS, asked], env, cwd, timeout)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in io.StringIO(done.stdout)]
