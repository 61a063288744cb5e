"""The cells of a sparse matrix by column, compiled: a counting sort, some of the rows a thread.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kernels.arguments import CsrRows
from pipeline.kernels.jit import jit
from pipeline.kernels.simd import prefetch_cell

__all__ = ["count_columns", "place_columns"]


AHEAD = 16  # the place of a cell is fetched so many cells before it is written to


@jit
def count_columns(cells: CsrRows, counts: Any) -> None:
    """counts (columns,) int64 += the cells of each column in the rows cells.lo … cells.hi − 1."""
    for p in range(cells.indptr[cells.lo], cells.indptr[cells.hi]):
        counts[np.uint64(cells.indices[np.uint64(p)])] += 1


@jit
def place_columns(cells: CsrRows, places: Any, rows: Any, data: Any) -> None:
    """Write the number of the row and the score of each cell of the rows cells.lo … cells.hi − 1.

    places : (columns,) int64, where in `rows` and `data` the column's first cell of these rows goes; counted up
    rows, data : (nnz,) int32 and float, out: by column, in each by row
    """
    last = cells.indices.shape[0] - 1
    for row in range(cells.lo, cells.hi):
        for p in range(cells.indptr[row], cells.indptr[row + 1]):
            prefetch_cell(places, np.intp(cells.indices[np.uint64(min(p + 2 * AHEAD, last))]))
            soon = places[np.uint64(cells.indices[np.uint64(min(p + AHEAD, last))])]
            prefetch_cell(rows, soon)
            prefetch_cell(data, soon)
            column = np.uint64(cells.indices[np.uint64(p)])
            place = np.uint64(places[column])
            places[column] += 1
            rows[place] = row
            data[place] = cells.data[np.uint64(p)]
