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
from urllib.request import Request, urlopen

import pytest

from pipeline.warehouse import Warehouse, connect

USER, PASSWORD = "anna", "s3cret:p@ss/w?rd"
_DROP = ("DROP DATABASE IF EXISTS raw", "DROP DATABASE IF EXISTS analytics", "DROP DATABASE IF EXISTS own")


@dataclass(frozen=True)
class HttpServer:
    """The server process of `clickhouse_http`: its port, its faults and what it was asked."""

    port: int
    process: subprocess.Popen[str]

    @property
    def dsn(self) -> str:
        """Its address with user and password."""
        return f"clickhouse://{USER}:{PASSWORD.replace('/', '%2F').replace('@', '%40').replace('?', '%3F')}@{self.host}"

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

    def log(self, match: str = "") -> list[dict[str, Any]]:
        """What was asked, in order: statement, params, user."""
        return [entry for entry in self._control("log") if re.search(match, entry["statement"], re.DOTALL)]

    def _control(self, what: str, body: bytes = b"") -> Any:
        with urlopen(Request(f"http://{self.host}/-/{what}", data=body, method="POST"), timeout=30) as answer:
            return json.load(answer)


def start_server(folder: Path) -> HttpServer:
    """A server process over an engine folder of its own; it ends with `stop_server`, or with this process."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("clickhouse_http.py")), str(folder), USER, PASSWORD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return HttpServer(int(process.stdout.readline()), process)


def stop_server(server: HttpServer) -> None:
    server.process.communicate("")
    assert server.process.returncode == 0


@pytest.fixture(scope="session")
def http_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    server = start_server(tmp_path_factory.mktemp("server") / "engine")
    yield server
    stop_server(server)


@pytest.fixture
def http_server(http_server_process: HttpServer) -> Iterator[HttpServer]:
    """The server, without faults, without the databases that tests make, and with an empty log."""
    http_server_process.rules()
    with connect(http_server_process.dsn) as warehouse:
        _drop(warehouse)
    http_server_process.clear()
    yield http_server_process
    http_server_process.rules()


@pytest.fixture(scope="session")
def _embedded_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "engine"


@pytest.fixture(scope="module")
def _embedded_engine(_embedded_path: Path) -> Iterator[Path]:
    """Keeps the engine running between the tests of a file: opening it anew takes a second.

    A process has one engine path at a time, so the next file can have another.
    """
    with connect(f"chdb://{_embedded_path}"):
        yield _embedded_path


@pytest.fixture
def embedded_dsn(_embedded_engine: Path) -> str:
    """The embedded warehouse's address, without the databases that tests make."""
    dsn = f"chdb://{_embedded_engine}"
    with connect(dsn) as warehouse:
        _drop(warehouse)
    return dsn


def _drop(warehouse: Warehouse) -> None:
    for statement in _DROP:
        warehouse.command(statement)


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
