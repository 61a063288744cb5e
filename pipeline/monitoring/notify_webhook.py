"""`post`: sends JSON to a webhook, through the proxy of the environment where there is one."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol

from pipeline import __version__

__all__ = ["Connects", "WebhookError", "post"]


class Connects(Protocol):
    """Makes connections that it cuts when their time is over."""

    @property
    def patience(self) -> float:
        """Seconds that a socket may wait."""

    def connect(
        self, address: tuple[str, int], timeout: object = None, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        """As `socket.create_connection`."""


def post(url: str, body: bytes, deadline: Connects) -> None:
    """Send it, and wait for an answer of 2xx; a redirection is none. Raises OSError, HTTPException, WebhookError."""
    head = {"Content-Type": "application/json", "User-Agent": f"rankline/{__version__}", "Connection": "close"}
    request = urllib.request.Request(url, body, head, method="POST")  # noqa: S310  # http and https alone are parsed
    opener = urllib.request.build_opener(_Http(deadline), _Https(deadline), _NoRedirect())
    try:
        with opener.open(request, timeout=deadline.patience) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        raise WebhookError(f"HTTP {error.code}") from None
    if not 200 <= status < 300:
        raise WebhookError(f"HTTP {status}")


class WebhookError(Exception):
    """The webhook answered, and did not take it."""


def _watched(kind: Callable[..., Any], deadline: Connects) -> Callable[..., Any]:
    def made(host: str, **options: Any) -> Any:
        connection = kind(host, **options)
        # Where http.client makes its sockets; a subclass could cut a TLS connection only after its handshake.
        connection._create_connection = deadline.connect
        return connection

    return made


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Connects) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_watched(http.client.HTTPConnection, self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Connects) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_watched(http.client.HTTPSConnection, self._deadline), req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes where it was told to go, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
