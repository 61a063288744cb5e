"""uvicorn's protocol of HTTP/1.1, with bounds to what one connection may keep: time and bytes.

uvicorn itself waits for ever for a head, for the rest of a body that nobody reads, and for a client that does not take
its answer; and its parser keeps a head of any length in memory. Some hundred such connections would take all places.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PatientProtocol"]

_HEAD_SECONDS = 10.0
_BODY_SECONDS = 15.0  # more than the gate's, which answers with 408; this one is for a body that nobody reads
_ANSWER_SECONDS = 30.0  # until a client takes what it has asked for
_HEAD_BYTES = 64 << 10
# More than the gate's, which answers with 413; with the head, and trailers, which the parser keeps as a head.
_MESSAGE_BYTES = 4 << 20
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class _Part(Enum):
    NOTHING = 0
    HEAD = 1
    BODY = 2


_SECONDS = {_Part.HEAD: _HEAD_SECONDS, _Part.BODY: _BODY_SECONDS}


class PatientProtocol(HttpToolsProtocol):
    """Bounds the time and the bytes of a head (from the connection on) and of a body, and the time of an answer."""

    _part = _timed = _Part.NOTHING  # what is on its way, and what the timer is for
    _received = 0  # bytes of this request
    _waiting: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)
        self._part = _Part.HEAD
        self._time()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._received > (_HEAD_BYTES if self._part is _Part.HEAD else _MESSAGE_BYTES):
            self._refuse()
        elif self._part is not self._timed:
            self._time()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._part, self._received = _Part.HEAD, 0

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._part = _Part.BODY
        self._end_timer()  # the next head on this connection has its own time
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._part = _Part.NOTHING
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end_timer()
        self._end_stuck()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes its answer slowly."""
        super().pause_writing()
        self._stuck = self._stuck or self.loop.call_later(_ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self._end_stuck()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing has been asked for a while."""
        super().timeout_keep_alive_handler()
        self._close()

    # ---- timers -----------------------------------------------------------------------------

    def _time(self) -> None:
        """Give the part that is on its way its time; more bytes of it give it no more."""
        self._end_timer()
        self._timed = self._part
        if self._part is not _Part.NOTHING:
            self._waiting = self.loop.call_later(_SECONDS[self._part], self._close)

    def _end_timer(self) -> None:
        self._timed = _Part.NOTHING
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _refuse(self) -> None:
        if self._part is _Part.HEAD and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(_TOO_LONG)
        self._close()

    def _close(self) -> None:
        """Close the connection; what is left to send has some seconds for it."""
        if not self.transport.is_closing():
            self.transport.close()
        self._stuck = self._stuck or self.loop.call_later(_ANSWER_SECONDS, self.transport.abort)
