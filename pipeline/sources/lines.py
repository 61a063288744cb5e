"""A file's bytes as blocks of whole lines, gunzipped on the way, in bounded memory."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["BLOCK", "LONGEST", "blocks_of_lines", "first_break", "open_bytes", "record_lines"]

BLOCK = 1 << 23
# A record longer than this is no record: a gzip file of zeros would otherwise fill the memory.
LONGEST = 1 << 26


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, gunzipped where it is gzip (by its first bytes); faults become InputError."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if path.suffix.lower() == ".gz" and not zipped:
            raise InputError(f"{path} is no gzip file: unpack it, or take .gz off its name")
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if zipped else raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path} is a broken gzip file ({error}): make or fetch it again") from None


def blocks_of_lines(stream: IO[bytes], where: str, quotes: bool, head: bytes = b"") -> Iterator[tuple[int, bytes]]:
    """``(number of its first line, from 1; bytes)`` of each block of whole records of `head` and the stream.

    With `quotes`, a line break between double quotes ends no record; if none other comes within
    `LONGEST` bytes, the quotes are taken for text. The last block may lack its line break.
    """
    line, rest = 1, head
    while True:
        data = stream.read(BLOCK)
        block = rest + data
        if not data:
            if block:
                yield line, block
            return
        cut = _last_break(block, quotes) if quotes and len(block) <= LONGEST else block.rfind(b"\n") + 1
        if cut:
            yield line, block[:cut]
            line += block.count(b"\n", 0, cut)
        elif len(block) > LONGEST:
            raise InputError(f"{where}: line {line} is longer than {LONGEST >> 20} MiB: this is no text file of rows")
        rest = block[cut:]


def _last_break(block: bytes, quotes: bool) -> int:
    """Position after the last line break that ends a record, 0 if there is none."""
    cut = block.rfind(b"\n") + 1
    if not quotes or b'"' not in block:
        return cut
    n_quotes = block.count(b'"', 0, cut)
    while cut and n_quotes % 2:
        # The break is inside quotes: none between it and the quote before it can do.
        quote = block.rfind(b'"', 0, cut)
        cut = block.rfind(b"\n", 0, quote) + 1
        n_quotes -= block.count(b'"', cut, quote + 1)
    return cut


def first_break(block: bytes) -> int:
    """Position after the line break that ends the first record (between quotes it does not)."""
    start = n_quotes = 0
    while (end := block.find(b"\n", start)) >= 0:
        n_quotes += block.count(b'"', start, end)
        start = end + 1
        if n_quotes % 2 == 0:
            return start
    return len(block)


def record_lines(block: bytes, first_line: int, quotes: bool) -> NDArray[np.int64]:
    """The line on which each record of the block starts, (n_records,); empty lines are no records."""
    data = np.frombuffer(block, np.uint8)
    breaks = np.flatnonzero(data == 10)
    lines = first_line + np.arange(breaks.size + 1)
    starts = np.append(0, breaks + 1)
    ends = np.append(breaks, data.size)
    if quotes and b'"' in block:
        marks = np.flatnonzero(data == 34)
        # Even many quotes before a break: it ends a record, and the next one starts behind it.
        begins = np.append(True, np.searchsorted(marks, breaks) % 2 == 0)
        ends = np.append(starts[begins][1:] - 1, data.size)
        starts, lines = starts[begins], lines[begins]
    length = ends - starts
    blank = length <= 0
    blank[length == 1] = data[starts[length == 1]] == 13
    result: NDArray[np.int64] = lines[~blank]
    return result
