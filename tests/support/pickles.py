"""Where a pickle lies: in a file, a zip's member, a compressed stream, a database's cell, a text."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import pickletools
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".pkl", ".pickle", ".pck", ".joblib", ".dill", ".pt", ".pth", ".sav")
# \x80\x04\x95 and \x80\x05\x95 in base64, as texts have them.
_BASE64 = re.compile(rb"(?<![A-Za-z0-9+/])gA[SW]V[A-Za-z0-9+/]{16,}={0,2}")
_OBJECTS = re.compile(rb"'descr':[^}]*?'[|<>=]?O\d*'")
_LARGEST = 1 << 28


def is_pickle(data: bytes) -> bool:
    """Protocols 2 to 5 by how they begin; 0 and 1, which begin with anything, by being one to their last byte."""
    if re.match(rb"\x80[\x02-\x05]", data):
        return True
    if len(data) < 4 or not data.rstrip().endswith(b"."):
        return False
    try:
        end = max(position for _, _, position in pickletools.genops(data) if position is not None)
    except Exception:  # noqa: BLE001 (whatever its reader raises, it is none)
        return False
    return end + 1 == len(data.rstrip())


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What the bytes hold, one wrapping taken off."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                assert info.file_size < _LARGEST
                yield info.filename, archive.read(info)
    for name, start, unpack in (
        ("gzip", b"\x1f\x8b", gzip.decompress),
        ("zlib", b"\x78", zlib.decompress),
        ("bz2", b"BZh", bz2.decompress),
        ("xz", b"\xfd7zXZ", lzma.decompress),
    ):
        if data.startswith(start):
            try:
                yield name, unpack(data)
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                continue
    if data.startswith(b"SQLite format 3\0"):
        yield from _cells(data)
    for matches in _BASE64.findall(data):
        try:
            yield "base64", base64.b64decode(matches[: len(matches) // 4 * 4])
        except binascii.Error:
            continue


def _cells(data: bytes) -> Iterator[tuple[str, bytes]]:
    with sqlite3.connect(":memory:") as db:
        db.deserialize(data)
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    if isinstance(cell, bytes | str):
                        yield table, cell if isinstance(cell, bytes) else cell.encode()


def pickles_in_bytes(data: bytes, name: str = "") -> list[str]:
    """A line for each pickle, and for each array of objects."""
    if name.lower().endswith(SUFFIXES) or is_pickle(data):
        return [f"{name}: a pickle"]
    if data.startswith(b"\x93NUMPY") and _OBJECTS.search(data[:10_000]):
        return [f"{name}: an array of objects"]
    return [line for inner, part in _unpacked(data) for line in pickles_in_bytes(part, f"{name}/{inner}")]


def pickles_in(folder: Path) -> list[str]:
    """The same, for every file below the folder. Journals of a database are folded into it by its next reader."""
    pickles = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if data.startswith(b"SQLite format 3\0"):
                with sqlite3.connect(path) as db:  # with what its journal still holds
                    data = db.serialize()
                if data[18:20] == b"\x02\x02":  # written ahead: memory can't open that
                    data = data[:18] + b"\x01\x01" + data[20:]
            pickles += pickles_in_bytes(data, str(path.relative_to(folder)))
    return pickles
