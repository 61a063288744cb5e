"""HTTP connections whose answers end: a server can't hold a command by one byte a second, nor fill its memory.

A time-out of a socket counts from byte to byte. Here it is of the whole answer. A long statement of ClickHouse gives a
sign of life in its headers, and a stream of rows goes on for as long as rows come; both begin the time anew.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import urllib3
from clickhouse_connect.driver.httputil import check_env_proxy, get_pool_manager
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.errors import UsageError
from pipeline.warehouse.answer import Answer, AnswerTooLargeError, expected

__all__ = ["POOLS", "pool_manager", "proxy_of"]

SMALL = 64 << 20  # bytes of an answer of few rows
_ENOUGH = 64 << 10  # bytes that a stream must bring within the time
_ALIVE = re.compile(rb"^X-ClickHouse-Progress:.*\n", re.IGNORECASE | re.MULTILINE)


class _Watched(io.RawIOBase):
    """The bytes of one answer, from its first header on."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, answer: Answer) -> None:
        self._raw, self._sock, self._answer = raw, sock, answer
        self._seconds = sock.gettimeout()
        self._waited = 0.0  # since the last sign of life; the caller's own work between two reads does not count
        self._size = self._since = 0
        self._head: bytes | None = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        if self._seconds is not None:
            if self._waited >= self._seconds:
                raise TimeoutError("timed out")
            self._sock.settimeout(self._seconds - self._waited)
        try:
            n = self._raw.readinto(buffer) or 0
        finally:
            self._waited += time.monotonic() - began
            if self._sock.fileno() >= 0:
                self._sock.settimeout(self._seconds)
        self._took(bytes(memoryview(buffer)[:n]))
        return n

    def _took(self, piece: bytes) -> None:
        self._answer.took(piece)
        self._size += len(piece)
        if self._head is not None:
            self._took_head(piece)
        elif self._answer.stream:
            self._since += len(piece)
            if self._since >= _ENOUGH:
                self._waited, self._since = 0.0, 0
        if self._size > SMALL and not (self._answer.stream and self._head is None):
            raise AnswerTooLargeError(f"it sends more than {SMALL >> 20} MB")

    def _took_head(self, piece: bytes) -> None:
        head = (self._head or b"") + piece
        if b"\r\n\r\n" in head or b"\n\n" in head:
            self._head, self._waited = None, 0.0
            return
        done, newline, rest = head.rpartition(b"\n")
        if _ALIVE.search(done + newline):
            self._waited = 0.0
        # With the end of the last line, so that an empty one after it is known.
        self._head = done[-1:] + newline + rest

    def close(self) -> None:
        self._raw.close()
        super().close()


class _WatchedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        raw = sock.makefile("rb", buffering=0)
        self.fp = io.BufferedReader(_Watched(raw, sock, expected()), _ENOUGH)

    def begin(self) -> None:
        super().begin()
        if (self.getheader("Content-Encoding") or "identity").lower() != "identity":
            # A small one could be unpacked to any size.
            raise AnswerTooLargeError("it sends a compressed answer that nobody asked for")


class _Connection(HTTPConnection):
    response_class = _WatchedResponse


class _TlsConnection(HTTPSConnection):
    response_class = _WatchedResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


# For the managers of urllib3: connections whose answers end.
POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _Pool, "https": _TlsPool}

# Of this process: a child that was forked makes its own.
_managers: dict[tuple[object, ...], urllib3.PoolManager] = {}


def pool_manager(tls: bool, verify: bool, ca_cert: str | None, proxy: str | None) -> urllib3.PoolManager:
    """The connections of this process to servers that are reached in this way."""
    key = (os.getpid(), tls, verify, ca_cert, proxy)
    if key not in _managers:
        through: dict[str, Any] = {} if proxy is None else {"https_proxy" if tls else "http_proxy": proxy}
        manager = get_pool_manager(verify=verify, ca_cert=ca_cert, **through)
        manager.pool_classes_by_scheme = POOLS
        _managers[key] = manager
    return _managers[key]


def proxy_of(tls: bool, host: str, port: int) -> tuple[str, str] | None:
    """The proxy that the environment names for the host, and what a message may show of it; None for no proxy.

    Raises UsageError where it names one that is no address.
    """
    scheme = "https" if tls else "http"
    proxy = check_env_proxy(scheme, host, port)
    if proxy is None:
        return None
    name = f"{scheme}_proxy" if os.environ.get(f"{scheme}_proxy") else f"{scheme}_proxy".upper()
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError
        shown = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError:
        raise UsageError(f"{name} names no proxy that is spoken to with HTTP: write http://host:port") from None
    return parts.geturl(), f"the proxy {shown} ({name}; NO_PROXY={host} in the environment goes there directly)"
