"""Addresses, and servers that do not answer, refuse, or speak TLS: one line each, without a password."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from pydantic import ValidationError
from support.listeners import SECRET, listening, says

from pipeline.errors import RefusedError, ServerError, UnreachableError, UsageError
from pipeline.settings import Settings
from pipeline.warehouse import address_of, connect


@contextmanager
def listener(answer: bytes | None = b"") -> Iterator[tuple[int, list[bytes]]]:
    """A port and the first bytes of what comes in; it answers with `answer`, or never (None)."""
    came: list[bytes] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        came.append(connection.recv(65536))
        if answer is None:
            over.wait()
        else:
            connection.sendall(answer)

    with listening(serve) as port:
        yield port, came


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# ---- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("clickhouse://u:p@host", "clickhouse://host:8123"),
        ("clickhouse://u:p@host:9999/db?verify=0", "clickhouse://host:9999"),
        ("clickhouses://u:p@host", "clickhouses://host:8443"),
        ("chdb:///a/b", "chdb:///a/b"),
        ("chdb://a/b", "chdb://a/b"),
    ],
)
def test_address(dsn, address):
    assert address_of(dsn) == address


@pytest.mark.parametrize(
    "dsn",
    [
        f"http://u:{SECRET}@host",
        f"https://u:{SECRET}@host:8443",
        f"postgres://u:{SECRET}@host",
        f"u:{SECRET}@host",
        f"{SECRET}",
        f"clickhouse://u:{SECRET}@",
        f"clickhouse://u:{SECRET}@host:port",
        f"clickhouse://u:{SECRET}@host:70000",
        f"clickhouse://u:{SECRET}@[::1",
        # Passwords that are not percent-encoded: without a word, "u" would be the host, and 4567 its port.
        f"clickhouse://u:{SECRET}/more@host",
        f"clickhouse://u:4567/{SECRET}@host",
        f"clickhouse://u:4567?{SECRET}@host",
        f"clickhouses://u:4567#{SECRET}@host:8443/db",
        f"clickhouse://u:p@host?password={SECRET}",
        f"clickhouse://u:p@host?secure={SECRET}",
        "chdb://",
        "chdb:///",
        "",
    ],
)
def test_bad_addresses(dsn):
    with pytest.raises(UsageError) as error:
        connect(dsn, 1, 1)
    assert "4567" not in says(error, "RANKLINE_WAREHOUSE")


def test_settings_show_no_password(monkeypatch):
    monkeypatch.setenv("RANKLINE_WAREHOUSE", f"clickhouse://u:{SECRET}@host")
    settings = Settings()
    assert SECRET not in repr(settings) + str(settings)
    assert settings.warehouse_dsn.endswith(f"{SECRET}@host")


@pytest.mark.parametrize("value", ["0", "-5", "1" + 20 * "0", "1.5", "soon", "inf"])
@pytest.mark.parametrize("name", ["CONNECT_TIMEOUT", "READ_TIMEOUT"])
def test_a_time_out_that_can_not_be(monkeypatch, name, value):
    monkeypatch.setenv(f"RANKLINE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize("value", ["-1", "1" + 20 * "0"])
@pytest.mark.parametrize("name", ["QUERY_TIMEOUT", "RETRIES", "RETRY_SECONDS", "LOCK_EXPIRY", "LOCK_TIMEOUT"])
def test_a_limit_that_can_not_be(monkeypatch, name, value):
    monkeypatch.setenv(f"RANKLINE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


# ---- nothing answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_nothing_listens(scheme):
    port = unused_port()
    with pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"{scheme}://127.0.0.1:{port}", "connection refused", "RANKLINE_WAREHOUSE")


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_no_such_host(scheme):
    with pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@no-such-host.invalid", 2, 2)
    says(error, "no-such-host.invalid", "RANKLINE_WAREHOUSE")


@pytest.mark.parametrize("scheme", ["clickhouse", "clickhouses"])
def test_it_listens_and_never_answers(scheme):
    with listener(None) as (port, _), pytest.raises(UnreachableError) as error:
        connect(f"{scheme}://u:{SECRET}@127.0.0.1:{port}", 1, 1)
    says(error, f"127.0.0.1:{port}", "RANKLINE_WAREHOUSE")


def test_it_hangs_up_at_once():
    """Not a refusal, and no answer either: whatever it is called, it must not be taken for silence."""
    with listener(b"") as (port, _), pytest.raises(ServerError) as error:
        connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"127.0.0.1:{port}")
    assert not isinstance(error.value, UnreachableError)


# ---- it answers, and says no ----------------------------------------------------------------------


@pytest.mark.parametrize("password", [SECRET, "", "p%40ss%25"])
def test_wrong_password(http_server, password):
    with pytest.raises(RefusedError) as error:
        connect(f"clickhouse://{http_server.user}:{password}@{http_server.host}", 5, 5)
    says(error, http_server.host, "wrong user or password", "RANKLINE_WAREHOUSE")
    assert "p@ss%" not in str(error.value)


def test_the_password_is_decoded_and_sent_in_no_url(http_server):
    password = http_server.password
    assert quote(password, safe=":") != password, "it should need encoding"
    with connect(http_server.dsn) as warehouse:
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
    log = http_server.log()
    assert {entry["user"] for entry in log} == {http_server.user}
    for entry in log:
        assert password not in str(entry)
        assert quote(password, safe="") not in str(entry)


def test_a_grant_is_missing(http_server, over_http):
    # The error code is the engine's own; who may do what is not, in this process of one user.
    denied = "SELECT throwIf(1, 'not granted', 497::Int16) SETTINGS allow_custom_error_code_in_throwif = 1"
    http_server.rules({"match": "FROM own", "do": "instead", "sql": denied})
    with pytest.raises(RefusedError) as error:
        over_http.rows("SELECT 1 FROM own.t")
    says(error, http_server.host, "grant")


@pytest.mark.parametrize("status", [200, 404, 401, 302, 500])
def test_a_foreign_http_server(http_server, status):
    page = "<html><body>Nothing here</body></html>"
    http_server.rules({"match": "", "times": 9, "do": "answer", "status": status, "body": page})
    with pytest.raises(RefusedError) as error:
        connect(http_server.dsn, 5, 5)
    says(error, http_server.host, "RANKLINE_WAREHOUSE")


def test_a_foreign_server_of_another_protocol():
    with listener(b"-ERR wrong number of arguments\r\n") as (port, _), pytest.raises(ServerError) as error:
        connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"127.0.0.1:{port}")
    assert not isinstance(error.value, UnreachableError)


# ---- TLS ------------------------------------------------------------------------------------------


def test_tls_begins_with_a_handshake_and_sends_nothing_in_clear():
    # An alert (handshake_failure), as a server that speaks no common version gives.
    with listener(b"\x15\x03\x03\x00\x02\x02\x28") as (port, came), pytest.raises(RefusedError) as error:
        connect(f"clickhouses://u:{SECRET}@127.0.0.1:{port}", 2, 2)
    says(error, f"clickhouses://127.0.0.1:{port}", "TLS")
    assert came
    for first in came:
        assert first[:2] == b"\x16\x03", "a TLS handshake record"
        assert first[5] == 1, "a ClientHello"
        assert b"HTTP" not in first
        assert b"Authorization" not in first
        assert SECRET.encode() not in first


def test_tls_against_a_plain_http_port(http_server):
    with pytest.raises(RefusedError) as error:
        connect(http_server.dsn.replace("clickhouse:", "clickhouses:"), 2, 2)
    says(error, f"clickhouses://{http_server.host}", "TLS")
    assert http_server.log() == []
