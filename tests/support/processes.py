"""Real processes in a home of their own: an MLflow store, a warehouse, the commands as a user types them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fork import Forked, run_forked, run_many_forked, the_fork_server

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# What changes how Python itself starts, or what a library looks up when it is imported: such a command starts anew.
_AT_START = ("PYTHON", "LD_", "NUMBA_", "MPL", "HOME", "XDG_")


# The system gives connections ports from 32768 on: one of these could be taken between the choice and its use.
_PORTS = range(15_000, 32_768)
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and another one at every call in this process."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


@dataclass
class Home:
    """A folder with a store and a warehouse; `run` runs a command in it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("RANKLINE_", "MLFLOW_", "REDIS_"))}
        self.env = {
            **keep,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RANKLINE_WAREHOUSE": f"chdb://{self.folder / 'warehouse'}",
            "OMP_NUM_THREADS": "1",
            # Processes of its own that import MLflow, and have nothing to do here.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "COLUMNS": "200",
            **self.env,
        }

    def run(
        self, *command: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        merged = {k: v for k, v in {**self.env, **(env or {})}.items() if v != ""}
        if command[0] in ("rankline", "mlflow") and not any(name.startswith(_AT_START) for name in env or {}):
            return run_forked(command, merged, cwd or self.folder, timeout)
        return subprocess.run(
            command, cwd=cwd or self.folder, env=merged, capture_output=True, text=True, timeout=timeout
        )

    def rankline(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("rankline", *arguments, **options)

    def many(self, *commands: list[str], **env: str) -> list[tuple[int, str, str]]:
        """Status, output and errors of several commands, in one process that imports what they need once."""
        merged = {k: v for k, v in {**self.env, **env}.items() if v != ""}
        return run_many_forked([(command, {}) for command in commands], merged, self.folder, 300)

    def python(self, code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Code that has everything imported when it begins."""
        return run_forked(["-c", code, *arguments], {**self.env, **(env or {})}, self.folder, 300)

    def fork(self, *program: str, env: dict[str, str] | None = None, quiet: bool = False) -> Forked:
        """As `start`, but forked: ``rankline …``, ``mlflow …`` or ``-c CODE …``."""
        out = subprocess.DEVNULL if quiet else subprocess.PIPE
        return Forked(program, {**self.env, **(env or {})}, self.folder, (subprocess.PIPE, out, out))

    def forked_python(self) -> dict[str, str]:
        """Settings with which a shell's `python FILE` is forked: the job of `mlflow run --env-manager local`."""
        folder = self.folder / "commands"
        folder.mkdir(exist_ok=True)
        return the_fork_server().commands(folder, "python")

    def sql(self, statement: str) -> list[str]:
        """The rows of a statement as TSV lines, without the header."""
        done = self.rankline("sql", statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1:]

    def start(self, *command: str, env: dict[str, str] | None = None, quiet: bool = False) -> subprocess.Popen[str]:
        """`quiet` for what is never read to its end: a server stops when the pipe it logs to is full."""
        out = subprocess.DEVNULL if quiet else subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.env, **(env or {})},
            stdout=out,
            stderr=out,
            text=True,
            start_new_session=True,
            # A shell's background job ignores Ctrl-C, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def client(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    def runs(self, experiment: str = "rankline") -> list[Any]:
        client = self.client()
        findings = client.get_experiment_by_name(experiment)
        return list(client.search_runs([findings.experiment_id])) if findings else []


def end(process: subprocess.Popen[str] | Forked) -> None:
    """Stop a process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def wait_for(port: int, seconds: float = 240) -> None:
    """Until something listens on the port."""
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


def answers(url: str, seconds: float = 240) -> None:
    """Until the server answers: some listen long before they do."""
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {url}")


def copy_tree(source: Path, target: Path) -> Path:
    """The folder again, without what tools leave in it."""
    return Path(
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.partial"))
    )
