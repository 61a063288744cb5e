"""`StoredSide`: one side of X on disk, of which an engine reads a window at a time while a step goes through it.

Pieces are those of a matrix in memory (`half_steps.cuts_of`), and a window begins where a kernel would begin a block of
rows anyway: the factors are the same to the bit. Memory is a window for each thread, and 8 bytes a row.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.block_builder import rows_of, rows_of_side, write_transposed
from pipeline.data.block_reader import Buffers, SideReader
from pipeline.data.blocks import BlockFolder, Side, write_manifest
from pipeline.data.mapped import release
from pipeline.errors import UsageError
from pipeline.kernels.arguments import CsrRows
from pipeline.models.solvers.half_steps import cuts_of

__all__ = ["StoredSide", "counts_of_columns", "sum_over", "transposed_on_disk"]

_COUNTED = 1 << 20  # cells whose columns are counted at a time
SUMMED = 1 << 16  # cells that `sum_over` takes at a time


class StoredSide:
    """As `steps.Side`, of a folder of blocks, for k components. Raises ArtifactError, UsageError.

    Attributes
    ----------
    counts : (rows,) int64, cells of each row
    cuts : (pieces + 1,) rows where pieces begin
    """

    dense = None

    def __init__(self, matrix: BlockFolder, side: Side, k: int) -> None:
        self.reader = SideReader(matrix, side)
        self.counts: NDArray[np.int64] = np.diff(self.reader.indptr)
        self.cuts = cuts_of(self.counts, k)
        self._memory = threading.local()

    def windows(self, number: int) -> Iterator[tuple[int, CsrRows]]:
        """The rows of a piece, some at a time: a row, and cells that go with a factor's arrays from it on."""
        if not hasattr(self._memory, "buffers"):
            self._memory.buffers = Buffers()
        for first, last in self.reader.windows(int(self.cuts[number]), int(self.cuts[number + 1])):
            yield first, CsrRows.of(0, last - first, *self.reader.read(first, last, self._memory.buffers))

    def close(self) -> None:
        """Close the files, which frees those without a name."""
        self.reader.close()


def transposed_on_disk(X: sparse.csr_matrix | BlockFolder, k: int, scratch: Path | None = None) -> StoredSide:
    """The columns of X, in files that have no name any more when this returns: a process that is killed leaves none.

    X : canonical CSR of float32, or a folder with its rows; scratch : where; default, the folder that TMPDIR names
    """
    if not isinstance(X, BlockFolder) and X.dtype != np.float32:
        raise UsageError(f"A matrix is stored as float32, and this one is {X.dtype}")
    with tempfile.TemporaryDirectory(prefix="rankline-", dir=scratch) as folder:
        source = rows_of_side(X, "rows") if isinstance(X, BlockFolder) else rows_of(X)
        blocks = write_transposed(folder, "columns", source, cuts_of(counts_of_columns(X), k), scratch)
        return StoredSide(write_manifest(folder, X.shape, [], blocks), "columns", k)


def counts_of_columns(X: sparse.csr_matrix | BlockFolder) -> NDArray[np.int64]:
    """Cells of each column, (columns,)."""
    counts = np.zeros(X.shape[1], np.int64)
    for indices in _indices(X):
        counts += np.bincount(indices, minlength=counts.size)
    return counts


def sum_over(X: sparse.csr_matrix | BlockFolder, term: Callable[[NDArray[np.float64]], float]) -> float:
    """Σ of `term` over all cells in the order of X's rows, `SUMMED` of them in float64 at a time, added in order.

    The bits are the same in memory and on disk, and no copy of all scores is made.
    """
    if not isinstance(X, BlockFolder):
        total = 0.0
        for start in range(0, X.data.size, SUMMED):
            some = X.data[start : start + SUMMED]
            total += term(some.astype(np.float64))
            release(some)
        return total
    buffers = Buffers()
    with SideReader(X, "rows") as reader:
        starts = range(0, X.cells, SUMMED)
        parts = (reader.scores(start, min(start + SUMMED, X.cells), buffers) for start in starts)
        return float(sum(term(scores.astype(np.float64)) for scores in parts))


def _indices(X: Any) -> Iterator[NDArray[np.int32]]:
    if isinstance(X, BlockFolder):
        yield from (rows.indices for _, rows in rows_of_side(X, "rows"))
        return
    for start in range(0, X.indices.size, _COUNTED):
        some = X.indices[start : start + _COUNTED]
        yield some
        release(some)
