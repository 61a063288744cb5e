"""uvicorn's protocol of HTTP/1.1, which closes connections that send no whole head of a request in time.

uvicorn itself waits for ever for the first request of a connection: some hundred idle ones would take all places.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PatientProtocol"]

_HEAD_SECONDS = 10.0


class PatientProtocol(HttpToolsProtocol):
    """Bounds the time between a request's first byte, or a new connection, and the end of its head."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)
        self._begin_waiting()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._begin_waiting()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._end_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end_waiting()
        super().connection_lost(exc)

    def _begin_waiting(self) -> None:
        self._end_waiting()
        self._waiting = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
