"""Reads untrusted files of an artifact safely: JSON, ``.npy`` and ``.npz``.

Nothing here evaluates, inflates or unpickles. A size that a file states is compared with its bytes before
memory is allocated. A file is opened once, so the bytes that are checked are those that are read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError

__all__ = [
    "Part",
    "members",
    "opened",
    "parse_json",
    "read_array",
    "read_bytes",
    "read_json",
    "read_text_array",
    "sha256",
    "whole",
]

# numpy pads a header to a multiple of 64 bytes; of plain arrays none passes 192.
_LONGEST_HEADER = 4096
# The header is a Python literal, which numpy evaluates. The header of a plain array has only this form.
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'(?P<descr>[<>|=]?[a-zA-Z]\d{0,9})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rb"\s*'shape':\s*\(\s*(?P<shape>(?:\d{1,18}\s*,\s*)*(?:\d{1,18})?)\s*\),?\s*\}\s*"
)
# A zip's table of contents: three members take some 200 bytes; the search for its end reads 64 KiB.
_LONGEST_CONTENTS = 1 << 18
_LOCAL_HEADER = 30


class Part(NamedTuple):
    """A stretch of a file, in bytes."""

    start: int
    length: int


@contextmanager
def opened(folder: Path, name: str) -> Iterator[BufferedReader]:
    """The ordinary file of that name in the folder, for reading.

    Raises ArtifactError for a file that is missing or can't be read, for a link that leads out of the folder, and
    for a device or pipe, which might never end. Errors of the caller's own code pass unchanged.
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve(strict=True)):
            raise ArtifactError(f"{path} is a link out of its folder; copy the file itself there")
        file = os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except ArtifactError:
        raise
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: {folder} does not hold a model's artifacts") from None
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links was a RuntimeError before Python 3.13
        reason = getattr(error, "strerror", None) or "a name that can't be one"
        raise ArtifactError(f"{path} can't be read ({reason}); log the model again") from None
    with file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            reason = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "no ordinary file"
            raise ArtifactError(f"{path} can't be read ({reason}); log the model again")
        yield file


def whole(file: BufferedReader) -> Part:
    """All of the file."""
    return Part(0, os.fstat(file.fileno()).st_size)


def sha256(file: BufferedReader) -> str:
    """The digest of the whole file, read in pieces."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(file: BufferedReader, limit: int) -> Any:
    """The JSON value of a UTF-8 file of at most `limit` bytes. Raises ArtifactError as those below."""
    return parse_json(read_bytes(file, limit))


def read_bytes(file: BufferedReader, limit: int) -> bytes:
    """All of a file of at most `limit` bytes. Raises ArtifactError for a longer one."""
    size = whole(file).length
    if size > limit:
        raise ArtifactError(f"it has {size:,} bytes, and the model's other files account for {limit:,} at most")
    try:
        file.seek(0)
        return file.read(size + 1)
    except OSError as error:
        raise ArtifactError(" ".join(str(error).split())[:200]) from None


def parse_json(content: bytes) -> Any:
    """The JSON value of UTF-8 text; parsing takes up to 25 times its size.

    Raises ArtifactError for anything else: NaN and Infinity, which JSON has not, numbers too large to be finite,
    text that UTF-8 can't hold, and what is nested too deep to be read.
    """
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_not_json, parse_float=_finite)
    except RecursionError:
        raise ArtifactError("it is nested too deep") from None
    except ValueError as error:
        raise ArtifactError(" ".join(str(error).split())[:200]) from None


def _not_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def members(file: BufferedReader, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Part]:
    """Where each member of an uncompressed zip lies: these, some of `optional`, and no others, each once.

    Stored members are as long as their bytes in the file, so that there is no bomb among them. Raises ArtifactError.
    """
    size = whole(file).length
    try:
        with zipfile.ZipFile(_Metered(file, _LONGEST_CONTENTS)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError, struct.error) as error:
        raise ArtifactError(f"it is no .npz ({' '.join(str(error).split())[:100]})") from None
    stored = sorted(entry.filename for entry in entries)
    if sorted([*names, *(name for name in optional if name in stored)]) != stored:
        shown = ", ".join(repr(entry.filename[:40]) for entry in entries[:5])
        raise ArtifactError(f"it must hold {', '.join(names)} and nothing else (found: {shown or 'nothing'})")
    parts = {}
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ArtifactError(f"{entry.filename} is compressed, and is read as it lies: save it without compression")
        if entry.flag_bits & 0x1:
            raise ArtifactError(f"{entry.filename} is encrypted")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER)
        if header[:4] != b"PK\x03\x04" or len(header) < _LOCAL_HEADER:
            raise ArtifactError(f"{entry.filename} is not where the table of contents says")
        # After the header come the name and the extra field, whose lengths are at 26 and 28.
        ahead = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = entry.header_offset + _LOCAL_HEADER + ahead
        if entry.file_size != entry.compress_size or start + entry.file_size > size:
            raise ArtifactError(f"{entry.filename} says it has {entry.file_size:,} bytes, which are not there")
        parts[entry.filename] = Part(start, entry.file_size)
    return parts


class _Metered:
    """A file from which at most a given number of bytes can be read in all."""

    def __init__(self, file: BufferedReader, limit: int) -> None:
        self._file, self._left = file, limit
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, n: int = -1) -> bytes:
        """As `read` of a file; raises ValueError above the limit."""
        size = whole(self._file).length
        n = size - self._file.tell() if n < 0 else min(n, size)
        if n > self._left:
            raise ValueError("its table of contents is too long")
        self._left -= max(n, 0)
        return self._file.read(max(n, 0))


def read_array(
    file: BufferedReader, part: Part, dtype: str, n_dimensions: int, *, mapped: bool = False
) -> NDArray[Any]:
    """The array in ``.npy`` format that takes up exactly this part of the file.

    Parameters
    ----------
    dtype : the required type, as numpy writes it: ``<f4``
    mapped : leave it on disk

    Raises
    ------
    ArtifactError
        For any other type, order or number of dimensions, and if the shape does not match the bytes.
    """
    file.seek(part.start)
    stored, shape, header = _read_header(file, part.length)
    if stored != dtype or len(shape) != n_dimensions:
        raise ArtifactError(f"it must hold {dtype} in {n_dimensions} dimension(s), and holds {stored} of shape {shape}")
    n = math.prod(shape)
    if n * np.dtype(dtype).itemsize != part.length - header:
        raise ArtifactError(f"it says {stored} of shape {shape}, and {part.length - header:,} bytes follow")
    if not n:
        return np.empty(shape, dtype)
    if mapped:
        return np.memmap(file, dtype=dtype, mode="r", offset=part.start + header, shape=shape)
    # Not np.fromfile, which uses a file descriptor of its own.
    array = np.empty(shape, dtype)
    if file.readinto(array.data.cast("B")) != array.nbytes:
        raise ArtifactError("it was cut short while it was read")
    return array


def read_text_array(file: BufferedReader, part: Part, width: int) -> NDArray[np.str_]:
    """`read_array` for text of at most `width` characters each, (n,). Raises ArtifactError if it is not text."""
    file.seek(part.start)
    dtype = _read_header(file, part.length)[0]
    if not re.fullmatch(r"<U\d{1,4}", dtype) or not 1 <= int(dtype[2:]) <= width:
        raise ArtifactError(f"it must hold text of at most {width} characters, and holds {dtype}")
    array = read_array(file, part, dtype, 1)
    points = array.view("<u4")
    if bool(((points > 0x10FFFF) | ((points >= 0xD800) & (points <= 0xDFFF))).any()):
        raise ArtifactError("it must hold text, and has characters that there are not")
    return array


def _read_header(file: BufferedReader, length: int) -> tuple[str, tuple[int, ...], int]:
    """Type, shape, and the bytes up to the data."""
    start = file.read(min(length, 12))
    version = start[6:8]
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(version)
    if start[:6] != b"\x93NUMPY" or width is None or len(start) < 12:
        raise ArtifactError("it is no .npy array of format 1.0 or 2.0")
    end = 8 + width + int.from_bytes(start[8 : 8 + width], "little")
    if not len(start) <= end <= min(length, _LONGEST_HEADER):
        raise ArtifactError(f"its header claims {end:,} bytes")
    text = start[8 + width :] + file.read(end - len(start))
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ArtifactError("its header is not that of a plain array")
    shape = tuple(int(n) for n in match["shape"].split(b",") if n.strip())
    if match["fortran"] == b"True" and len(shape) > 1:
        raise ArtifactError("it lies column by column (fortran_order), and must lie row by row")
    return match["descr"].decode(), shape, end
