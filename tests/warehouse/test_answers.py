"""Answers that never end, are too large, or hold an error where rows should be; proxies and TLS on the way to them."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from support.listeners import SECRET, certificate, drip, relay, says

from pipeline.data.sources.warehouse import read_warehouse
from pipeline.errors import (
    ConnectionLostError,
    QueryError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnreachableError,
    UsageError,
)
from pipeline.runtime.retry import RetryPolicy
from pipeline.warehouse import answer, connect, sql, transport
from pipeline.warehouse.transport import _Watched

pytest_plugins = ["support.warehouse_fixtures"]

ONCE = RetryPolicy(0)


# ---- answers without an end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        (b"H",),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 500 No\r\n\r\n", b"x"),
    ],
    ids=["status", "headers", "body", "known length", "chunks", "error"],
)
def test_a_hello_of_one_byte_at_a_time_ends(pieces):
    with drip(*pieces) as port, pytest.raises(ServerError) as error:
        connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 1, 1, retry_policy=ONCE)
    says(error, f"127.0.0.1:{port}")


@pytest.mark.parametrize("run", ["rows", "command", "blocks", "table", "run"])
def test_an_answer_of_one_byte_at_a_time_ends(http_server, run):
    with connect(http_server.dsn, 5, 1, retry_policy=ONCE) as warehouse:
        http_server.rules({"match": "SELECT 'drip'", "do": "endless", "bytes": 1, "seconds": 0.05, "times": 9})
        with pytest.raises(TimedOutError, match="RANKLINE_READ_TIMEOUT"), ExitStack() as stack:
            list(stack.enter_context(getattr(warehouse, run)("SELECT 'drip'")))


def test_an_answer_of_few_rows_that_fills_the_memory_is_broken_off(http_server, monkeypatch):
    monkeypatch.setattr(transport, "SMALL", 1 << 20)
    with connect(http_server.dsn, 5, 30, retry_policy=ONCE) as warehouse:
        with pytest.raises(QueryError, match=r"gave no usable answer \(it sends more than 1 MB\)") as error:
            warehouse.rows("SELECT number FROM numbers(10000000)")
        says(error, http_server.host)
        http_server.rules({"match": "SELECT 'flood'", "do": "endless", "bytes": 65536, "seconds": 0, "times": 9})
        with pytest.raises(QueryError, match=r"gave no usable answer \(it sends more than 1 MB\)"):
            warehouse.command("SELECT 'flood'")
        # A stream of rows may be of any size.
        with warehouse.blocks("SELECT number FROM numbers(500000)") as blocks:
            assert sum(block.num_rows for block in blocks) == 500_000
    http_server.rules({"match": "", "do": "endless", "bytes": 65536, "seconds": 0, "times": 9})
    with pytest.raises(RefusedError, match=r"is no ClickHouse HTTP port \(it sends more than 1 MB\)"):
        connect(http_server.dsn, 5, 30, retry_policy=ONCE)


def test_headers_without_an_end_are_broken_off(monkeypatch):
    monkeypatch.setattr(transport, "SMALL", 1 << 20)
    line = b"X-Header: " + b"x" * 8000 + b"\r\n"
    with drip(b"HTTP/1.1 200 OK\r\n", line, seconds=0) as port, pytest.raises(RefusedError, match="more than 1 MB"):
        connect(f"clickhouse://127.0.0.1:{port}", 5, 30, retry_policy=ONCE)


def test_nothing_is_unpacked(http_server, over_http):
    """No packed answer is asked for, and one that comes all the same could be of any size once unpacked."""
    over_http.rows("SELECT 1")
    assert not any("enable_http_compression" in entry["params"] for entry in http_server.log())
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 0\r\n\r\n"
    with drip(packed, b"") as port, pytest.raises(RefusedError, match="compressed answer that nobody asked for"):
        connect(f"clickhouse://127.0.0.1:{port}", 5, 5, retry_policy=ONCE)


class _Clock:
    """Time that passes when a socket waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class _Pieces:
    """A socket, and what comes from it: (seconds of waiting, bytes)."""

    def __init__(self, clock: _Clock, pieces: list[tuple[float, bytes]]) -> None:
        self.clock, self.pieces, self.timeout = clock, pieces, 10.0

    def gettimeout(self) -> float:
        return self.timeout

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def fileno(self) -> int:
        return 3

    def readinto(self, buffer: memoryview) -> int:
        seconds, piece = self.pieces.pop(0)
        self.clock.now += min(seconds, self.timeout)
        if seconds >= self.timeout:
            raise TimeoutError
        buffer[: len(piece)] = piece
        return len(piece)


HEAD, ALIVE, END = b"HTTP/1.1 200 OK\r\n", b"X-ClickHouse-Progress: {}\r\n", b"\r\n"


@pytest.mark.parametrize(
    ("stream", "pieces", "whole"),
    [
        (False, [(9, HEAD + END), (9, b"rows")], True),
        (False, [(9, HEAD), (9, END)], False),
        # A long statement says that it runs, in its headers.
        (False, [(9, HEAD), *[(0.9, ALIVE)] * 100, (9, END), (9, b"rows")], True),
        (False, [(9, HEAD), (0.5, b"X-Other: x-clickhouse-progress: 1\r\n"), (0.5, END)], False),
        (False, [(1, HEAD + END), *[(3, b"x")] * 4], False),
        (False, [(1, HEAD + END), *[(3, b"x" * 65536)] * 4], False),
        (True, [(1, HEAD + END), *[(3, b"x" * 65536)] * 100], True),
        (True, [(1, HEAD + END), *[(3, b"x" * 1000)] * 100], False),
        # What the reader does between two reads is no waiting.
        (True, [(1, HEAD + END), (0, b"own work"), (9, b"x")], True),
    ],
)
def test_what_time_an_answer_may_take(monkeypatch, stream, pieces, whole):
    clock = _Clock()
    monkeypatch.setattr(transport, "time", clock)
    source = _Pieces(clock, list(pieces))
    watched = _Watched(source, source, answer.Answer(stream))

    def read() -> None:
        for _ in pieces:
            buffer = bytearray(1 << 17)
            n = watched.readinto(buffer)
            if buffer[:n] == b"own work":
                clock.now += 1000

    if whole:
        read()
    else:
        with pytest.raises(TimeoutError):
            read()
    assert source.timeout == 10, "for the next request on this connection"


# ---- an error of the server where rows should be --------------------------------------------------


@pytest.mark.parametrize(("code", "kind"), [(241, QueryError), (497, RefusedError), (202, ConnectionLostError)])
def test_an_error_in_the_middle_of_the_rows_is_the_servers_own(http_server, code, kind):
    text = (
        f"SELECT number AS user_id, throwIf(number = 150000, 'too much of it', {code}::Int16) AS item_id "
        "FROM numbers(200000) SETTINGS allow_custom_error_code_in_throwif = 1, max_block_size = 1000"
    )
    with connect(http_server.dsn, retry_policy=RetryPolicy(2)) as warehouse, pytest.raises(ServerError) as error:
        read_warehouse(warehouse, sql.Sql(text, "mine.sql"))
    says(error, http_server.host, "too much of it")
    # What was too large for the memory is too large again.
    assert len(http_server.log("FORMAT ArrowStream")) == (3 if code == 202 else 1)


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        (
            [b"rows", b"Code: 241. DB::Exception: Memory limit. (MEMORY) (version 24.8.1)\r\n"],
            (241, "Memory limit. (MEMORY)"),
        ),
        (
            [b"\r\n__exception__\r\nabc\r\nCode: 159. DB::Exc", b"eption: slow\n20 abc\r\n__exception__\r\n"],
            (159, "slow"),
        ),
        ([b"rows", b"0\r\n\r\n"], None),
        ([b"Code: 7. nothing of the server"], None),
    ],
)
def test_what_the_end_of_an_answer_says(pieces, error):
    of = answer.Answer()
    for piece in pieces:
        of.took(piece)
    result = of.error
    assert (result and (result[0], result[1].removeprefix("DB::Exception: "))) == error


# ---- a proxy on the way ---------------------------------------------------------------------------


@pytest.fixture
def proxies(monkeypatch):
    """Set variables of proxies, and no others."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("scheme", "name"), [("clickhouse", "HTTP_PROXY"), ("clickhouse", "http_proxy"), ("clickhouses", "HTTPS_PROXY")]
)
def test_a_proxy_that_is_not_there_is_named_and_no_file_stands_in(proxies, scheme, name):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    proxies(**{name: f"http://me:{SECRET}@127.0.0.1:{port}"})
    with pytest.raises(RefusedError) as error:
        connect(f"{scheme}://u:{SECRET}@warehouse.invalid", 2, 2)
    says(error, "warehouse.invalid", f"the proxy 127.0.0.1:{port} ({name}; NO_PROXY=warehouse.invalid")
    assert not isinstance(error.value, UnreachableError)


def test_a_proxy_that_works_is_used_and_no_proxy_is_obeyed(proxies, http_server):
    with relay(http_server.port) as (port, firsts):
        proxies(http_proxy=f"http://127.0.0.1:{port}")
        with connect(http_server.dsn) as warehouse:
            assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
        assert firsts
        assert firsts[0].startswith(b"POST http://127.0.0.1:")
        used = len(firsts)
        proxies(no_proxy="example.com,127.0.0.1")
        with connect(http_server.dsn) as warehouse:
            assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
        assert len(firsts) == used


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://", "http://127.0.0.1:port"])
def test_a_proxy_that_is_no_address(proxies, value):
    proxies(http_proxy=value)
    with pytest.raises(UsageError, match="http_proxy names no proxy that is spoken to with HTTP"):
        connect("clickhouse://127.0.0.1:1", 2, 2)


# ---- TLS ------------------------------------------------------------------------------------------


def test_a_tls_port_that_is_spoken_to_in_clear_is_named_at_once(http_server, tmp_path):
    with relay(http_server.port, certificate(tmp_path)) as (port, firsts):
        with pytest.raises(RefusedError) as error:
            connect(f"clickhouse://u:{SECRET}@127.0.0.1:{port}", 5, 5)
        says(error, f"The port at clickhouse://127.0.0.1:{port} speaks TLS: write clickhouses://")
    assert not any(firsts), "the password is sent to nobody in clear, after the first try"


def test_a_port_that_alerts_speaks_tls():
    alert = b"\x15\x03\x03\x00\x02\x02\x28"
    with drip(alert, b"") as port, pytest.raises(RefusedError, match="speaks TLS: write clickhouses://"):
        connect(f"clickhouse://127.0.0.1:{port}", 2, 2, retry_policy=ONCE)


def test_a_plain_port_that_is_spoken_to_with_tls_is_named(http_server):
    with pytest.raises(RefusedError, match="a port that speaks no TLS wants clickhouse://"):
        connect(http_server.dsn.replace("clickhouse:", "clickhouses:"), 2, 2)


def test_whom_tls_trusts(http_server, tmp_path):
    pem = certificate(tmp_path)
    with relay(http_server.port, pem) as (port, _):
        dsn = http_server.dsn.replace("clickhouse:", "clickhouses:").replace(http_server.host, f"127.0.0.1:{port}")
        for options in ("", "?verify=yes", "?verify=TRUE", "?verify=on"):
            with pytest.raises(RefusedError, match="TLS handshake"):
                connect(dsn + options, 5, 5)
        for options in (f"?ca_cert={pem}", "?verify=0", "?verify=no", "?verify=False", "?verify=off"):
            with connect(dsn + options, 5, 5) as warehouse:
                assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("verify=maybe", "verify is 1 or 0"),
        ("verify=", "verify is 1 or 0"),
        ("verify=-1", "verify is 1 or 0"),
        ("ca_cert=/no/such.pem", r"ca_cert=/no/such.pem can't be used \(No such file or directory\)"),
        ("ca_cert=/", r"ca_cert=/ can't be used \(Is a directory\)"),
        ("ca_cert=", r"ca_cert= can't be used"),
        ("ca_cert=" + __file__, "it holds no certificate in PEM"),
    ],
)
def test_options_of_tls_that_say_nothing_usable(options, message):
    with pytest.raises(UsageError, match=message):
        connect(f"clickhouses://u:{SECRET}@127.0.0.1:1?{options}", 2, 2)


def test_options_of_tls_for_a_plain_address():
    with pytest.raises(UsageError, match=r"\['verify'\] is about TLS: write clickhouses://"):
        connect("clickhouse://127.0.0.1:1?verify=0", 2, 2)
