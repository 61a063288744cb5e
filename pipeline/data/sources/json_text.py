"""A JSON text that is read from a stream in blocks: its values one after the other, with their lines."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from typing import IO, Any, NoReturn

from pipeline.data.sources.lines import BLOCK, LONGEST, NOT_UTF8
from pipeline.errors import InputError

__all__ = ["JsonText", "refuse"]

_SPACE = re.compile(r"[ \t\r\n]*")


def refuse(where: str, line: int, reason: str) -> NoReturn:
    """Raise InputError: the line is not JSON."""
    raise InputError(f"{where}: line {line} is not JSON ({reason}): correct it, or make the file again")


class JsonText:
    """The text of a stream, decoded a block at a time, and a position in it."""

    def __init__(self, head: bytes, stream: IO[bytes], where: str) -> None:
        self._blocks = itertools.chain([head], iter(lambda: stream.read(BLOCK), b""), [b""])
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._where = where
        self._text, self._position = "", 0
        # The line of the character at `_counted`; counting goes on from there.
        self._line, self._counted = 1, 0

    @property
    def at_end(self) -> bool:
        """Whether nothing that was read is left."""
        return self._position == len(self._text)

    def read_more(self) -> bool:
        """Drop the text before the position and decode the next block; False at the end of the stream."""
        block = next(self._blocks, None)
        if block is None:
            return False
        self._line = self._line_at(self._position)
        self._text, self._position, self._counted = self._text[self._position :], 0, 0
        try:
            self._text += self._decode(block, not block)
        except UnicodeDecodeError as error:
            number = self._line + self._text.count("\n") + block.count(b"\n", 0, error.start)
            raise InputError(f"{self._where}: line {number} {NOT_UTF8}") from None
        return True

    def skip_space(self) -> None:
        """Move to the next character that is not white space."""
        match = _SPACE.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def take(self, mark: str) -> bool:
        """Move past `mark`, one character, if it is next; whether it was."""
        if self._text[self._position : self._position + 1] != mark:
            return False
        self._position += 1
        return True

    def take_value(self) -> tuple[int, Any, int] | None:
        """Move past a JSON value: its line, itself and its length. None where it needed more text, which was read."""
        start = self._position
        try:
            value, end = self._scan(self._text, start)
        except (ValueError, RecursionError) as error:
            reason, number = getattr(error, "msg", str(error)), self._line_at(getattr(error, "pos", start))
            if len(self._text) - start <= LONGEST and self.read_more():
                return None
            refuse(self._where, number, reason)
        self._line, self._counted = self._line_at(start), start
        self._position = end
        return self._line, value, end - start

    def refuse_here(self, reason: str) -> NoReturn:
        """Raise InputError with the line of the position."""
        refuse(self._where, self._line_at(self._position), reason)

    def _line_at(self, position: int) -> int:
        return self._line + self._text.count("\n", self._counted, position)
