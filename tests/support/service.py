"""`rankline serve` in processes of its own, in a home that has no MLflow store: it begins with its own copy."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.serving.live_folder import LiveFolder
from support.processes import Home, free_port
from support.served import put_copy, small_trained

PATHS = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class Served:
    """The service, of two models, in a home that has no MLflow store: it begins with its own copies."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        live = LiveFolder(folder / "live")
        live.make()
        put_copy(live, small_trained("item-knn"))
        put_copy(LiveFolder(folder / "live", "films"), small_trained("popular"))
        self.port, self.metrics_port = free_port(), free_port()
        home = Home(folder)
        self.errors = folder / "errors.txt"
        command = [sys.executable, "-m", "pipeline", "serve", "--port", str(self.port), "--drain-seconds", "1"]
        command += ["--metrics-port", str(self.metrics_port)]
        command += ["--also", "films"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "--log-format", "json"], cwd=folder, env={**home.env, **PATHS, **env}, stderr=errors
            )
        until = time.monotonic() + 240
        while {self.ask(f"/api/v1/{name}ready")[0] for name in ("", "films/")} != {200}:
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < until, self.errors.read_text()
            time.sleep(0.1)

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(
        self, path: str, method: str = "GET", body: Any = None, port: int = 0, key: str = ""
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status (0: no answer), body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            head = {} if body is None else {"Content-Type": "application/json"}
            head |= {"Authorization": f"Bearer {key}"} if key else {}
            connection.request(method, path, None if body is None else json.dumps(body), head)
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        except OSError:
            return 0, b"", {}
        finally:
            connection.close()

    def workers(self) -> set[int]:
        """Process numbers of the workers."""
        return {int(path.stem) for path in (self.errors.parent / "live" / "workers").glob("*.json")}

    def counted(self, name: str, label: str = "") -> float:
        """The sum of a metric over its labels that hold a text."""
        text = self.ask("/metrics")[1].decode()
        samples = re.findall(rf"^{name}({{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for labels, value in samples if label in labels)
