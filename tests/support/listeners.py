"""Servers that listen and do little else, and looks at an error of theirs."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SECRET = "hunter2-s3cret"


def says(error: pytest.ExceptionInfo[BaseException], *parts: str) -> str:
    """The message: one line with the parts, and without any password, itself or what led to it."""
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    assert SECRET not in text
    assert "s3cret" not in text
    # `from None`: what a traceback shows is the message alone.
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


def certificate(folder: Path) -> Path:
    """A PEM file with a key and a certificate of its own for 127.0.0.1."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    text = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*text) + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def listening(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A port whose connections are served in a thread each; the event is set when the test is over."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def guarded(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            serve(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=guarded, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@contextmanager
def drip(*pieces: bytes, seconds: float = 0.05, paths: Mapping[str, bytes] | None = None) -> Iterator[int]:
    """A port that answers with the pieces, the last of them for ever; it hangs up where that is empty.

    `paths` are whole answers to HTTP requests for these paths.
    """

    def serve(connection: socket.socket, over: threading.Event) -> None:
        request = connection.recv(65536)
        if paths and (answer := paths.get(request.split()[1].decode())):
            connection.sendall(answer)
            return
        for piece in pieces[:-1]:
            connection.sendall(piece)
        while pieces[-1] and not over.wait(seconds):
            connection.sendall(pieces[-1])

    with listening(serve) as port:
        yield port


@contextmanager
def relay(to_port: int, pem: Path | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A port that passes connections on to another, behind TLS if there is a certificate; the first bytes of each."""
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    firsts: list[bytes] = []

    def copy(source: socket.socket, target: socket.socket, piece: bytes = b"") -> None:
        with suppress(OSError):
            while piece or (piece := source.recv(65536)):
                target.sendall(piece)
                piece = b""
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(plain: socket.socket, _over: threading.Event) -> None:
        client = context.wrap_socket(plain, server_side=True) if context else plain
        firsts.append(client.recv(65536))
        if firsts[-1]:
            upstream = socket.create_connection(("127.0.0.1", to_port))
            threading.Thread(target=copy, args=(client, upstream, firsts[-1]), daemon=True).start()
            copy(upstream, client)

    with listening(serve) as port:
        yield port, firsts
