"""Clients that keep to no rule, on a real socket: slow, without end, or with requests that can be read in two ways."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.served import Workers, put_copy, small_trained
from support.sockets import ServedWorker, rest_of

from pipeline.serving import gate, protocol
from pipeline.serving.protocol import _Part

pytestmark = pytest.mark.slow
HEAD = b"Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
LIST = b"GET /api/v1/recommendations/100?k=3 HTTP/1.1\r\n" + HEAD + b"\r\n"
POST = b"POST /api/v1/predict HTTP/1.1\r\n" + HEAD


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorker]:
    def fill(workers: Workers) -> None:
        workers.folder.flip(put_copy(workers.folder, small_trained("popular")))

    made = ServedWorker(tmp_path_factory.mktemp("served") / "live", fill)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service waits as for seconds, which are short here."""
    monkeypatch.setattr(protocol, "_SECONDS", {_Part.HEAD: 0.3, _Part.BODY: 0.6})
    monkeypatch.setattr(protocol, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(gate, "_BODY_SECONDS", 0.3)


def dripping(client: socket.socket, data: bytes) -> threading.Thread:
    """Send `data` in single bytes, for as long as somebody takes them."""

    def drip() -> None:
        with suppress(OSError):
            while True:
                for byte in data:
                    client.sendall(bytes([byte]))
                    gone.wait(0.02)

    gone = threading.Event()
    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    return thread


def served(worker: ServedWorker) -> bool:
    return worker.send(LIST).startswith(b"HTTP/1.1 200 OK")


def test_a_head_that_drips_is_not_waited_for(worker: ServedWorker, impatient: None) -> None:
    with worker.connect() as silent, worker.connect() as client, worker.connect() as second:
        dripping(client, b"GET / HTTP/1.1\r\nX-A: ".ljust(10_000, b"a"))
        second.sendall(LIST.replace(b"close", b"keep-alive") + b"GET / HT")  # the head after a good request
        assert rest_of(silent) == rest_of(client) == b""
        assert rest_of(second).startswith(b"HTTP/1.1 200 OK")
    assert served(worker)


@pytest.mark.parametrize(
    "length", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"], ids=["stated", "chunked"]
)
def test_a_body_that_drips_is_a_408(worker: ServedWorker, impatient: None, length: bytes) -> None:
    with worker.connect() as client:
        client.sendall(POST + length)
        dripping(client, b" ")
        answer = rest_of(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TIMEOUT" in answer
    assert served(worker)


def test_a_body_that_nobody_reads_is_not_waited_for_either(worker: ServedWorker, impatient: None) -> None:
    with worker.connect() as client:
        client.sendall(LIST.replace(b"close", b"keep-alive")[:-2] + b"Content-Length: 1000000\r\n\r\n")
        dripping(client, b" ")
        assert rest_of(client).startswith(b"HTTP/1.1 200 OK")
    assert served(worker)


def test_who_takes_no_answer_loses_the_connection(worker: ServedWorker, impatient: None) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(worker.address)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with suppress(ConnectionResetError, BrokenPipeError):  # else it would go on until the time-out
            while True:
                client.sendall(request * 1000)
    assert served(worker)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX-A: ",
        b"GET /",
        b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",  # a trailer
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;",  # an extension of a chunk
        LIST.replace(b"close", b"keep-alive")[:-2] + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",  # a body of GET
    ],
    ids=["value", "path", "many", "trailer", "extension", "body of GET"],
)
def test_memory_is_bounded_whatever_is_sent_without_end(worker: ServedWorker, data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    more, sent = (data[-8:] * 16384 if b"X-A: b" in data else b"a" * 131072), 0
    with worker.connect() as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(data)
            while sent < 256 << 20:
                client.sendall(more)
                sent += len(more)
        answer = rest_of(client)
    assert sent < 64 << 20  # it was closed
    assert answer[9:12] in (b"", b"431", b"413", b"422", b"400", b"200")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # kilobytes
    assert served(worker)


@pytest.mark.parametrize("length", [b"Content-Length: 1073741824\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_of_a_gigabyte_is_a_413(worker: ServedWorker, length: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = b"20000\r\n" + b" " * 0x20000 + b"\r\n" if b"chunked" in length else b" " * 0x20000
    with worker.connect() as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(POST + length)
            if b"chunked" in length:
                for _ in range(8192):
                    client.sendall(piece)
                pytest.fail("it took all")
        # Nothing more is sent where the length is stated, so that the answer is not lost in a reset.
        answer = rest_of(client)
    assert answer[:13] in (b"HTTP/1.1 413 ", b"")
    assert answer or b"chunked" in length
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert served(worker)


SMUGGLED = b"GET /api/v1/popular HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: 2,2\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length : 2\r\n\r\n{}" + SMUGGLED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        POST + b"X-A: b\r\n Content-Length: 2\r\n\r\n{}" + SMUGGLED,
        POST + b"X-A: b\nContent-Length: 2\n\n{}" + SMUGGLED,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n" + SMUGGLED,
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused_and_closed(worker: ServedWorker, data: bytes) -> None:
    answer = worker.send(data)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[9:12] in (b"400", b"401", b"422", b""), answer
    assert b"popularity" not in answer
    assert served(worker)


def test_an_upgrade_is_none_and_a_missing_host_is_no_way_in(worker: ServedWorker) -> None:
    asked = LIST[:-2].replace(b"Connection: close", b"Connection: close, Upgrade")
    answer = worker.send(asked + b"Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n")
    assert answer[9:12] in (b"200", b"400")
    for head in (b"Host: localhost\r\nHost: evil.example\r\n", b"Host: localhost, evil.example\r\n", b"Host: \r\n"):
        answer = worker.send(b"GET /api/v1/popular HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n")
        assert answer[9:12] in (b"403", b"400"), head
    # The address in the first line says nothing: the Host is what a browser can't forge.
    answer = worker.send(
        b"GET http://localhost/api/v1/popular HTTP/1.1\r\nConnection: close\r\nHost: evil.example\r\n\r\n"
    )
    assert answer[9:12] == b"403"
