"""Finds quotes that a CSV does not write so: a field that holds whole records, and a quote behind a backslash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RecordForm", "escaped_quote_line", "swallowed_lines"]


@dataclass(frozen=True)
class RecordForm:
    """What a record looks like.

    Attributes
    ----------
    separator : one byte
    n_columns : fields of a record
    ids, numeric : positions of the columns of ids, and of those that hold numbers
    """

    separator: bytes
    n_columns: int
    ids: Sequence[int]
    numeric: Sequence[int]


def escaped_quote_line(block: bytes, separator: bytes) -> int | None:
    """Line, from 0 in the block, of a quoted field with ``\\"`` before more text: a CSV doubles a quote instead.

    The parser would end the field at that quote, and read ``"a\\"b"`` as another id.
    """
    if b'\\"' not in block:
        return None
    after = _after(separator)
    for field in _quoted(separator).finditer(block):
        if field[1].endswith(b"\\") and after.match(block, field.end()) is None:
            return block.count(b"\n", 0, field.end())
    return None


def _quoted(separator: bytes) -> re.Pattern[bytes]:
    """A field in quotes: it begins at the start of a line or behind a separator; "" is a quote in it."""
    return re.compile(rb"(?:\A|(?<=[\n" + re.escape(separator) + rb']))"((?:[^"]++|"")*+)(?:"|\Z)')


def _after(separator: bytes) -> re.Pattern[bytes]:
    """What may follow a field in quotes."""
    return re.compile(rb"(?:[ \t\r]*(?:\n|\Z)|" + re.escape(separator) + rb")")


def swallowed_lines(block: bytes, form: RecordForm) -> tuple[int, int] | None:
    """First and last line, from 0 in the block, of a quoted field that holds a line which is a record of its own.

    So does a field of several lines with more text behind its closing quote, and one that never ends.
    """
    after = _after(form.separator)
    for field in _quoted(form.separator).finditer(block):
        text = field[1]
        if b"\n" not in text:
            continue
        start = block.rfind(b"\n", 0, field.start()) + 1
        end = block.find(b"\n", field.end()) + 1 or len(block)
        first, *inner, last = block[start:end].rstrip(b"\r\n").split(b"\n")
        like = first.split(form.separator)
        if (
            after.match(block, field.end()) is None
            or any(_is_record(line, form, like) for line in inner)
            or (_is_record(first, form, like) and _is_record(last, form, like))
        ):
            line = block.count(b"\n", 0, field.start())
            return line, line + text.rstrip(b"\n").count(b"\n")
    return None


def _is_record(line: bytes, form: RecordForm, like: Sequence[bytes]) -> bool:
    """Whether the line has as many fields as a record, numbers where it has numbers, and ids `like` another's."""
    fields = line.split(form.separator)
    return (
        len(fields) == form.n_columns
        and all(_is_number(fields[position]) for position in form.numeric)
        and all(position < len(like) and _shape(fields[position]) == _shape(like[position]) for position in form.ids)
    )


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shape(text: bytes) -> str:
    text = text.strip().strip(b'"')
    return "integer" if text.lstrip(b"-").isdigit() else "words" if len(text.split()) > 1 else "word" if text else ""
