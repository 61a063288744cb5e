"""Real processes in a home of their own: an MLflow store, a warehouse, the commands as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
_MANY = """
import contextlib, io, json, sys
from pipeline import cli
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as leave:
            status = leave.code or 0
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Home:
    """A folder with a store and a warehouse; `run` runs a command in it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("RANKLINE_", "MLFLOW_"))}
        self.env = {
            **keep,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RANKLINE_WAREHOUSE": f"chdb://{self.folder / 'warehouse'}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **self.env,
        }

    def run(
        self, *command: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        merged = {k: v for k, v in {**self.env, **(env or {})}.items() if v != ""}
        return subprocess.run(
            command, cwd=cwd or self.folder, env=merged, capture_output=True, text=True, timeout=timeout
        )

    def rankline(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("rankline", *arguments, **options)

    def many(self, *commands: list[str], **env: str) -> list[tuple[int, str, str]]:
        """Status, output and errors of several commands, in one process that imports what they need once."""
        done = self.run(sys.executable, "-c", _MANY, json.dumps(commands), env={"PYTHONPATH": str(ROOT), **env})
        assert done.returncode == 0, done.stderr
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

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
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []


def end(process: subprocess.Popen[str]) -> None:
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


def wait_for(port: int, seconds: float = 60) -> None:
    """Until something listens on the port."""
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


def copy_tree(source: Path, target: Path) -> Path:
    """The folder again, without what tools leave in it."""
    return Path(
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.partial"))
    )
