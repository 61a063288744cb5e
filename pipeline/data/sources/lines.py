"""A file's bytes as blocks of whole lines, gunzipped and as UTF-8, in bounded memory."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = [
    "BLOCK",
    "LONGEST",
    "NOT_UTF8",
    "blocks_of_lines",
    "first_break",
    "open_bytes",
    "record_lines",
    "refuse_packed",
]

BLOCK = 1 << 23
# A record longer than this is no record: a gzip file of zeros would otherwise fill the memory.
LONGEST = 1 << 26


NOT_UTF8 = "is not UTF-8 text: save the file as UTF-8, or name its encoding (--encoding latin-1, cp1252, utf-16, …)"
# How files begin that are no text, what they are, and the way out.
_UNPACK = "unpack it first (gzip is read as it is)"
_NO_TEXT = {
    b"PK\x03\x04": ("a zip archive", _UNPACK),
    b"BZh": ("bzip2", _UNPACK),
    b"\xfd7zXZ": ("xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("zstd", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save it as CSV"),
    b"SQLite": ("an SQLite database", "write its table into a CSV"),
}
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"


@contextlib.contextmanager
def open_bytes(path: Path, encoding: str = "utf-8") -> Iterator[IO[bytes]]:
    """The file's or pipe's bytes, gunzipped where they are gzip (by the first two); faults become InputError.

    Text in another encoding than UTF-8 comes as UTF-8.
    """
    with path.open("rb") as raw:
        first = raw.peek(6)[:6]
        zipped = first.startswith(_GZIP)
        _refuse_no_text(path, first)
        if path.suffix.lower() == ".gz" and not zipped and first:
            raise InputError(f"{path} is no gzip file: unpack it, or take .gz off its name")
        try:
            stream: IO[bytes] = raw
            if zipped:
                unpacked = gzip.GzipFile(fileobj=raw)
                inside = unpacked.peek(6)[:6]
                if inside.startswith(_GZIP):
                    raise InputError(f"{path} is gzip inside gzip: unpack it once (gunzip)")
                _refuse_no_text(path, inside)
                stream = cast(IO[bytes], unpacked)
            yield stream if _is_utf8(encoding) else cast(IO[bytes], _Recoded(stream, encoding, str(path)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path} is a broken gzip file ({error}): make or fetch it again") from None


def refuse_packed(path: Path, first: bytes) -> None:
    """Raise InputError where the first bytes are those of an archive or of a packed file that is not read."""
    for mark, (name, way) in _NO_TEXT.items():
        if first.startswith(mark):
            raise InputError(f"{path} is {name}: {way}")


def _refuse_no_text(path: Path, first: bytes) -> None:
    refuse_packed(path, first)
    if first.startswith(_PARQUET):
        raise InputError(f"{path} is Parquet: read it with --format parquet, or name it .parquet")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


class _Recoded:
    """A stream of text in some encoding, read as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str, where: str) -> None:
        self._stream, self._encoding, self._where = stream, encoding, where
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._line = 1

    def read(self, size: int) -> bytes:
        """The next bytes, about `size` of them; none at the end."""
        while True:
            data = self._stream.read(size)
            try:
                text = self._decoder.decode(data, not data)
            except UnicodeDecodeError as fault:
                line = self._line + data.count(b"\n", 0, fault.start)
                raise InputError(
                    f"{self._where}: near line {line} it is not {self._encoding} text: --encoding names another"
                ) from None
            if text or not data:
                self._line += text.count("\n")
                return text.encode(errors="surrogatepass")


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


def first_break(block: bytes, start: int = 0) -> int:
    """Position after the line break that ends the record from `start` on (between quotes it does not)."""
    n_quotes = 0
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
