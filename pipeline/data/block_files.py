"""The files of a block: `Block`, as a manifest lists it, and writing an array whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError

__all__ = [
    "MANIFEST",
    "PARTS",
    "SIDES",
    "Block",
    "Side",
    "StoredFile",
    "read_header",
    "replace_file",
    "replacing",
    "write_array",
]

Side = Literal["rows", "columns"]
SIDES: tuple[Side, ...] = get_args(Side)
# numpy parses a header as Python. CPython 3.11.7 counts the depth of all threads' syntax trees as one (gh-106905). It
# raises SystemError where a callback of its garbage collector, such as JAX's, lets another thread parse in between.
_PARSING = threading.Lock()
MANIFEST = "manifest.json"
# Part of a block → the types that its array may have.
PARTS = {"indptr": ("<i8",), "indices": ("<i4",), "values": ("|u1", "<f2", "<f4"), "levels": ("<f4",)}


class StoredFile(NamedTuple):
    """bytes : size of the file; sha256 : hexadecimal digest of all of it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Block:
    """One block, as the manifest lists it.

    Attributes
    ----------
    side, number : ``rows`` or ``columns``, and its place in the order of the side, from 0
    first, last : its rows are first … last − 1 of the side
    cells : stored cells
    square, total : Σ x² and Σ x of its cells in float64, as `blocks.square_of` adds them
    files : part (``indptr``, ``indices``, ``values``, ``levels``) → size and digest
    """

    side: Side
    number: int
    first: int
    last: int
    cells: int
    square: float
    total: float
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Rows of the block."""
        return self.last - self.first

    def name(self, part: str) -> str:
        """The name of the file with this part."""
        return f"{self.side}-{self.number:05d}.{part}.npy"

    def length(self, part: str) -> int:
        """How many numbers a part has."""
        return {"indptr": self.n_rows + 1, "levels": 256}.get(part, self.cells)

    def as_json(self) -> dict[str, Any]:
        """JSON-able: what `of_json` takes. A task may return it to whoever writes the manifest."""
        return {**vars(self), "files": {part: list(file) for part, file in self.files.items()}}

    @classmethod
    def of_json(cls, value: Any) -> Block:
        """Of `as_json`. Raises ArtifactError where the value is something else."""
        try:
            files = {str(part): StoredFile(int(file[0]), str(file[1])) for part, file in value["files"].items()}
            number, first, last, cells = (int(value[name]) for name in ("number", "first", "last", "cells"))
            square, total = float(value["square"]), float(value["total"])
            side: Side = value["side"]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise ArtifactError(f"{MANIFEST} lists something that is no block: write the blocks again") from None
        sound = side in SIDES and 0 <= first <= last and min(number, cells) >= 0
        if not sound or not {"indptr", "indices", "values"} <= set(files) <= set(PARTS):
            raise ArtifactError(f"{MANIFEST} lists something that is no block: write the blocks again")
        return cls(side, number, first, last, cells, square, total, files)


def write_array(path: Path, array: NDArray[Any]) -> StoredFile:
    """Write a ``.npy`` file, which replaces `path` when it is complete; the same array gives the same bytes."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    content = array.view(np.uint8).data
    digest = hashlib.sha256(head.getvalue())
    digest.update(content)
    with replacing(path) as file:
        file.write(head.getvalue())
        file.write(content)
    return StoredFile(len(head.getvalue()) + array.nbytes, digest.hexdigest())


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file, on the disk before it replaces `path`."""
    with replacing(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_header(path: Path, part: str, length: int) -> tuple[np.dtype[Any], int]:
    """Type of a ``.npy`` file's numbers, and the byte where they begin.

    Raises ArtifactError where it is no array of `length` numbers of a type that this part may have.
    """
    try:
        with _PARSING, path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read ({error}): write the blocks again") from None
    if shape != (length,) or dtype.str not in PARTS[part]:
        raise ArtifactError(f"{path} holds {dtype} {shape}, which is not that block: write the blocks again")
    return dtype, start


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `path` when it is complete. Two who write the same block do not meet."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
