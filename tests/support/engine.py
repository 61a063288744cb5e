"""The engine behind HTTP, as a process of its own: started, told what to break, asked what it was asked, stopped.

server = start(Path("folder"))        # a free port; start(folder, port=…) takes one again, after a kill say
server.rules({"match": "^EXCHANGE", "do": "drop", "run": True})     # see clickhouse_http for all of them
connect(server.dsn)
server.stop()                         # or server.process.kill(): a server that dies
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

USER, PASSWORD = "anna", "s3cret:p@ss/w?rd"


@dataclass(frozen=True)
class HttpServer:
    """The server process of `clickhouse_http`: its port, its faults and what it was asked."""

    port: int
    process: subprocess.Popen[str]
    user = USER
    password = PASSWORD

    def stop(self) -> None:
        """End the process; it ends with this one at the latest."""
        self.process.communicate("")
        assert self.process.returncode == 0

    @property
    def dsn(self) -> str:
        """Its address with user and password."""
        return f"clickhouse://{self.user}:{quote(self.password, safe='')}@{self.host}"

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def rules(self, *rules: dict[str, Any]) -> None:
        """Faults for the next statements; without one, none."""
        self._control("rules", json.dumps(rules).encode())

    def release(self) -> None:
        """Run what was held."""
        self._control("release")

    def clear(self) -> None:
        """Forget what was asked."""
        self._control("clear")

    def reset(self) -> None:
        """No faults, nothing asked, no databases but the engine's own."""
        self._control("reset")

    def log(self, match: str = "") -> list[dict[str, Any]]:
        """What was asked, in order: statement, params, user."""
        return [entry for entry in self._control("log") if re.search(match, entry["statement"], re.DOTALL)]

    def _control(self, what: str, body: bytes = b"") -> Any:
        with urlopen(Request(f"http://{self.host}/-/{what}", data=body, method="POST"), timeout=240) as answer:
            return json.load(answer)


def start(folder: Path, port: int = 0) -> HttpServer:
    """Start it over the engine's folder and wait until it listens."""
    program = Path(__file__).with_name("clickhouse_http.py")
    process = subprocess.Popen(
        [sys.executable, str(program), str(folder), USER, PASSWORD, "--port", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return HttpServer(int(process.stdout.readline()), process)
