"""Blocks of a sparse matrix as files: some rows each, found by name, mapped into memory, known by their digests.

A file holds indptr (rows + 1,) int64 from 0, indices (cells,) int32 and data (cells,) float32, each at a multiple of
64 bytes. It is named after its sha256, so that the same cells are written once, and a restart finds them again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError
from pipeline.kernels.arguments import CsrRows

__all__ = ["Block", "Unit", "columns_of_block", "item_block", "map_block", "units_of", "write_block", "write_whole"]

_ALIGNED = 64
LONGEST = 1 << 21  # cells of a row that one task takes; a row with more is a block of its own, which is split


class Block(NamedTuple):
    """One file.

    path : the file
    lo, hi : its rows in the whole matrix
    cells : how many
    sha256 : of the file
    """

    path: str
    lo: int
    hi: int
    cells: int
    sha256: str


class Unit(NamedTuple):
    """What a task computes at a time: all rows of a block, or the cells first … end − 1 of a block's only row.

    number : of the block on its side
    """

    number: int
    block: Block
    first: int = 0
    end: int = -1

    @property
    def whole(self) -> bool:
        """Whether it is all of the block."""
        return self.end < 0


def units_of(blocks: Sequence[Block], longest: int) -> list[Unit]:
    """The units of a side, in order; a block of one row with more than `longest` cells is split."""
    units = []
    for number, block in enumerate(blocks):
        if block.hi - block.lo > 1 or block.cells <= longest:
            units.append(Unit(number, block))
        else:
            cuts = np.linspace(0, block.cells, -(-block.cells // longest) + 1).astype(np.int64).tolist()
            units += [Unit(number, block, first, end) for first, end in pairwise(cuts)]
    return units


def _starts(rows: int, cells: int) -> tuple[int, int, int]:
    """Where indices and data begin in a file, and its size."""
    indices = -(-8 * (rows + 1) // _ALIGNED) * _ALIGNED
    data = indices + -(-4 * cells // _ALIGNED) * _ALIGNED
    return indices, data, data + 4 * cells


def write_whole(path: Path, parts: Sequence[Any]) -> None:
    """Write a file at once: who finds it finds all of it. Raises OSError, and leaves nothing then."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            for bytes_ in parts:
                file.write(bytes_)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_block(
    folder: Path, lo: int, indptr: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[np.float32]
) -> Block:
    """Write rows lo … of a matrix, unless they are there; indptr from 0. Raises OSError."""
    rows, cells = indptr.size - 1, indices.size
    at_indices, at_data, size = _starts(rows, cells)
    parts: list[Any] = [
        np.ascontiguousarray(indptr).data, bytes(at_indices - indptr.nbytes), np.ascontiguousarray(indices).data,
        bytes(at_data - at_indices - indices.nbytes), np.ascontiguousarray(data).data,
    ]  # fmt: skip
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    path = folder / f"{digest.hexdigest()[:32]}.block"
    if not path.exists() or path.stat().st_size != size:
        write_whole(path, parts)
    return Block(str(path), lo, lo + rows, cells, digest.hexdigest())


_mapped: dict[str, CsrRows] = {}  # by digest; a process of an executor stays for many tasks
_MOST_MAPPED = 512


def map_block(block: Block) -> CsrRows:
    """The block's rows, from 0, mapped. Raises ArtifactError for a file that is missing or is not what was written."""
    if (known := _mapped.get(block.sha256)) is not None:
        return known
    rows = block.hi - block.lo
    at_indices, at_data, size = _starts(rows, block.cells)
    path = Path(block.path)
    if not path.exists():
        raise ArtifactError(f"block {path} is missing: was the folder cleaned, or is it not shared? Train again")
    # Private and writeable: numba compiles another version for arrays that may not be written.
    raw = np.memmap(path, np.uint8, "c").view(np.ndarray)
    if raw.size != size or hashlib.sha256(raw.data).hexdigest() != block.sha256:
        raise ArtifactError(f"block {path} is damaged: delete it, and train again")
    cells = CsrRows(
        0,
        rows,
        raw[: 8 * (rows + 1)].view(np.int64),
        raw[at_indices : at_indices + 4 * block.cells].view(np.int32),
        raw[at_data:].view(np.float32),
    )
    if len(_mapped) >= _MOST_MAPPED:
        _mapped.clear()
    _mapped[block.sha256] = cells
    return cells


def columns_of_block(block: Block, columns: int, path: str) -> None:
    """Write a block by column, for `item_block`: indptr (columns + 1,) int64, rows of the whole matrix, data."""
    from scipy import sparse

    cells = map_block(block)
    rows = block.hi - block.lo
    by_column = sparse.csr_matrix((cells.data, cells.indices, cells.indptr), (rows, columns)).tocsc()
    indptr = by_column.indptr.astype(np.int64)
    where = (by_column.indices + block.lo).astype(np.int32)
    write_whole(Path(path), [indptr.data, where.data, by_column.data.astype(np.float32, copy=False).data])


def item_block(paths: Sequence[str], columns: int, lo: int, hi: int, folder: str) -> Block:
    """The columns lo … hi − 1 of a matrix whose blocks lie by column at `paths`, in order: rows of its transpose."""
    pieces = []
    for path in paths:
        raw = np.memmap(path, np.uint8, "r").view(np.ndarray)
        indptr = raw[: 8 * (columns + 1)].view(np.int64)
        cells = (raw.size - indptr.nbytes) // 8
        where = raw[indptr.nbytes : indptr.nbytes + 4 * cells].view(np.int32)
        first, end = indptr[lo], indptr[hi]
        pieces.append((np.diff(indptr[lo : hi + 1]), where[first:end], raw[-4 * cells :].view(np.float32)[first:end]))
    counts = np.sum([piece[0] for piece in pieces], axis=0)
    starts = np.zeros(hi - lo + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    indices, data = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    following = starts[:-1].copy()
    for count, where, scores in pieces:  # in the order of their rows, so that each column's rows ascend
        before = np.cumsum(count) - count
        at = np.repeat(following - before, count) + np.arange(where.size)
        indices[at], data[at] = where, scores
        following += count
    return write_block(Path(folder), lo, starts, indices, data)
