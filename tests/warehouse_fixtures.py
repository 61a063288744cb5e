"""Warehouses to test on, the real engine each time: embedded in this process, and over HTTP.

Tests take these fixtures with ``pytest_plugins = ["warehouse_fixtures"]``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from pipeline.warehouse import Warehouse, connect

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
        with urlopen(Request(f"http://{self.host}/-/{what}", data=body, method="POST"), timeout=30) as answer:
            return json.load(answer)


def _start(folder: Path) -> HttpServer:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("clickhouse_http.py")), str(folder), USER, PASSWORD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return HttpServer(int(process.stdout.readline()), process)


@pytest.fixture(scope="session")
def http_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    server = _start(tmp_path_factory.mktemp("server") / "engine")
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[HttpServer]:
    """A server process for one test, which may stop it."""
    server = _start(tmp_path / "own-engine")
    yield server
    if server.process.returncode is None:
        server.stop()


@pytest.fixture
def http_server(http_server_process: HttpServer) -> HttpServer:
    """The server, without faults, without the databases that tests make, and with an empty log."""
    http_server_process.reset()
    return http_server_process


@pytest.fixture(scope="session")
def _embedded_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "engine"


@pytest.fixture(scope="module")
def _embedded_engine(_embedded_path: Path) -> Iterator[tuple[str, Warehouse]]:
    """Keeps the engine running between the tests of a file: opening it anew takes a second.

    A process has one engine path at a time, so the next file can have another.
    """
    dsn = f"chdb://{_embedded_path}"
    with connect(dsn) as keeper:
        yield dsn, keeper


@pytest.fixture
def embedded_dsn(_embedded_engine: tuple[str, Warehouse]) -> str:
    """The embedded warehouse's address, without the databases that tests make."""
    dsn, keeper = _embedded_engine
    for row in keeper.rows("SELECT name FROM system.databases WHERE name IN ('raw', 'analytics', 'own')"):
        keeper.command("DROP DATABASE {name:Identifier}", row)
    return dsn


@pytest.fixture(params=["embedded", "http"])
def dsn(request: pytest.FixtureRequest) -> str:
    """Each kind of warehouse in turn, empty."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded_dsn")
    return request.getfixturevalue("http_server").dsn


@pytest.fixture
def warehouse(dsn: str) -> Iterator[Warehouse]:
    """A connection to each kind of warehouse in turn, empty."""
    with connect(dsn) as opened:
        yield opened


@pytest.fixture
def over_http(http_server: HttpServer) -> Iterator[Warehouse]:
    """A connection to the server, empty, for faults that only a network has."""
    with connect(http_server.dsn) as opened:
        yield opened


@pytest.fixture
def embedded(embedded_dsn: str) -> Iterator[Warehouse]:
    """A connection to the embedded warehouse, empty."""
    with connect(embedded_dsn) as opened:
        yield opened
