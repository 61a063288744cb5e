"""What is known of a server's answer while it comes: what kind it is, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Answer", "AnswerTooLargeError", "expected", "expecting"]

_TAIL = 8 << 10  # bytes
_ERROR = re.compile(rb"Code: (\d+)\. (DB::.*?)(?: \(version |\r|\n|\Z)", re.DOTALL)


class AnswerTooLargeError(OSError):
    """A server sends more than any answer of this kind holds."""


class Answer:
    """What is known of an answer while it comes.

    Parameters
    ----------
    stream : whether it may be of any size, and takes as long as it brings rows
    """

    def __init__(self, stream: bool = False) -> None:
        self.stream = stream
        self._last: tuple[bytes, bytes] = (b"", b"")

    def took(self, piece: bytes) -> None:
        """Remember the end of what came."""
        self._last = (self._last[1], piece[-_TAIL:])

    @property
    def error(self) -> tuple[int, str] | None:
        """Number and text of an error that the server wrote where rows should be: its status, 200, was sent before."""
        errors = list(_ERROR.finditer(b"".join(self._last)))
        return (int(errors[-1][1]), errors[-1][2].decode(errors="replace")) if errors else None


_EXPECTED: ContextVar[Answer | None] = ContextVar("expected answer", default=None)


@contextmanager
def expecting(answer: Answer) -> Iterator[Answer]:
    """Requests in the block get an answer of this kind; any other is small."""
    token = _EXPECTED.set(answer)
    try:
        yield answer
    finally:
        _EXPECTED.reset(token)


def expected() -> Answer:
    """The answer that the next request gets."""
    return _EXPECTED.get() or Answer()
