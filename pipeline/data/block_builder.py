"""Blocks from cells that do not lie in order, in bounded memory: sorted through temporary files, a range of rows each.

    with write_matrix(folder, X, cuts_of_rows, cuts_of_columns): …        # both sides of a CSR matrix in memory

    sorter = CellSorter(cuts)                                             # cells as they come, from anywhere
    for users, items, scores in chunks:
        sorter.add(users, items, scores)
    for number in range(len(cuts) - 1):
        indptr, items, scores, _ = sorter.rows(number)                    # of one range of rows, in memory

The temporary files have no name: the system frees them when the process ends, even when it is killed. They take 12
bytes a cell (20 with times), in the folder that TMPDIR names if no other is given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.block_reader import Buffers, Rows, SideReader
from pipeline.data.blocks import Block, BlockFolder, Side, write_block, write_manifest
from pipeline.data.mapped import release

__all__ = ["CellSorter", "SortedRows", "rows_of", "rows_of_side", "write_matrix", "write_transposed"]

CHUNK = 1 << 18  # cells that are sorted at a time: some 15 MB


class SortedRows(NamedTuple):
    """Cells by row, those of a row in the order in which they were added.

    indptr : (rows + 1,) int64, from 0; indices : (cells,) int32; scores : (cells,) float32
    times : (cells,) int64, or None
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    times: NDArray[np.int64] | None


class CellSorter:
    """Takes cells in any order and gives them back by ranges of rows.

    Parameters
    ----------
    cuts : (ranges + 1,) rows where the ranges begin, from 0 to the number of rows
    scratch : the folder of the temporary files
    times : whether the cells have times
    """

    def __init__(self, cuts: NDArray[np.int64], scratch: Path | None = None, *, times: bool = False) -> None:
        self.cuts, self.times = cuts, times
        record = [("row", "<i4"), ("column", "<i4"), ("score", "<f4"), *([("time", "<i8")] if times else [])]
        self._record = np.dtype(record)
        self._range_of_row = np.repeat(np.arange(len(cuts) - 1, dtype=np.int32), np.diff(cuts))
        with ExitStack() as stack:
            self._files = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in cuts[1:]]
            self._stack = stack.pop_all()

    def __enter__(self) -> CellSorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(
        self,
        rows: NDArray[np.int32],
        columns: NDArray[np.int32],
        scores: NDArray[np.float32],
        times: NDArray[np.int64] | None = None,
    ) -> None:
        """Add cells, (n,) each; at most some millions at a time, whose order is kept within a row."""
        order, ends = _stable_order(self._range_of_row[rows], len(self._files))
        records = np.empty(rows.size, self._record)
        records["row"], records["column"], records["score"] = rows[order], columns[order], scores[order]
        if times is not None:
            records["time"] = times[order]
        for number in np.flatnonzero(np.diff(ends)):
            self._files[number].write(records[ends[number] : ends[number + 1]].view(np.uint8).data)

    def rows(self, number: int) -> SortedRows:
        """The rows of one range, whose file is freed."""
        file = self._files[number]
        file.seek(0)  # and write what is buffered
        records = np.fromfile(file, self._record)
        file.truncate(0)
        first, last = self.cuts[number : number + 2]
        order, indptr = _stable_order(records["row"] - np.int32(first), int(last - first))
        times = records["time"][order] if "time" in (self._record.names or ()) else None
        return SortedRows(indptr, records["column"][order], records["score"][order], times)


def write_matrix(
    folder: str | Path,
    X: sparse.csr_matrix,
    row_cuts: NDArray[np.int64],
    column_cuts: NDArray[np.int64],
    scratch: Path | None = None,
    facts: dict[str, Any] | None = None,
) -> BlockFolder:
    """Both sides of a canonical CSR matrix of float32, in blocks that begin at the cuts. The folder must exist."""
    rows = [
        write_block(folder, "rows", number, int(first), X.indptr[first : last + 1] - X.indptr[first],
                    X.indices[X.indptr[first] : X.indptr[last]], X.data[X.indptr[first] : X.indptr[last]])
        for number, (first, last) in enumerate(pairwise(row_cuts))
    ]  # fmt: skip
    columns = write_transposed(folder, "columns", rows_of(X), column_cuts, scratch)
    return write_manifest(folder, X.shape, rows, columns, facts)


def write_transposed(
    folder: str | Path,
    side: Side,
    source: Iterable[tuple[int, Rows]],
    cuts: NDArray[np.int64],
    scratch: Path | None = None,
) -> list[Block]:
    """Write the blocks of `side`, which begin at `cuts`, from the rows of the other side in order (`rows_of`)."""
    with CellSorter(cuts, scratch) as sorter:
        for first, rows in source:
            owner = np.repeat(np.arange(first, first + len(rows.indptr) - 1, dtype=np.int32), np.diff(rows.indptr))
            for start in range(0, owner.size, CHUNK):
                part = slice(start, start + CHUNK)
                sorter.add(rows.indices[part], owner[part], rows.scores[part])
        written = []
        for number, first in enumerate(cuts[:-1]):
            indptr, indices, scores, _ = sorter.rows(number)
            written.append(write_block(folder, side, number, int(first), indptr, indices, scores))
    return written


def rows_of(X: sparse.csr_matrix) -> Iterator[tuple[int, Rows]]:
    """The rows of a CSR matrix of float32, some at a time: the first row's number, and the rows."""
    first, n_rows = 0, X.shape[0]
    while first < n_rows:
        last = max(int(np.searchsorted(X.indptr, X.indptr[first] + CHUNK, side="right")) - 1, first + 1)
        cells = slice(X.indptr[first], X.indptr[last])
        yield first, Rows(X.indptr[first : last + 1] - X.indptr[first], X.indices[cells], X.data[cells])
        release(X.indices[cells], X.data[cells])
        first = last


def rows_of_side(matrix: BlockFolder, side: Side) -> Iterator[tuple[int, Rows]]:
    """The rows of a side of a folder of blocks, some at a time, as `rows_of`."""
    buffers = Buffers()
    with SideReader(matrix, side) as reader:
        for first, last in reader.windows(0, reader.n_rows, CHUNK):
            yield first, reader.read(first, last, buffers)


def _stable_order(keys: NDArray[np.int32], n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Positions that sort `keys` (values in [0, n)), ties by position; and where each key begins, (n + 1,).

    A counting sort: scipy's compiled conversion of a matrix with one cell a row.
    """
    places = np.arange(keys.size + 1, dtype=np.int32)
    by_key = sparse.csr_matrix((places[:-1], np.ascontiguousarray(keys), places), shape=(keys.size, n)).tocsc()
    return by_key.data, by_key.indptr.astype(np.int64)
