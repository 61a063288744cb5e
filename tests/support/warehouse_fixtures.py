"""Warehouses to test on, the real engine each time: embedded in this process, and over HTTP.

Tests take these fixtures with ``pytest_plugins = ["support.warehouse_fixtures"]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.warehouse import Warehouse, connect
from support.engine import PASSWORD, USER, HttpServer, start

__all__ = ["PASSWORD", "USER", "HttpServer", "start"]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr("pipeline.runtime.retry.FIRST_WAIT", 0.01)
    monkeypatch.setattr("pipeline.publishing.lock_ticket._TRY_AGAIN", (0.05, 0.15))


@pytest.fixture(scope="session")
def http_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    server = start(tmp_path_factory.mktemp("server") / "engine")
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[HttpServer]:
    """A server process for one test, which may stop it."""
    server = start(tmp_path / "own-engine")
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
