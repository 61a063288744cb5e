"""A sample of X's rows, on which a fit from a random start begins: it finds the same components in less time.

The first iterations from a random start tell the components apart, and every fourth row tells as much about them as all
rows do, where enough cells are left for each column. Rows are taken at equal distances, so the sample depends on X
alone, whoever keeps it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from pipeline.data.block_builder import rows_of_side
from pipeline.data.blocks import BlockFolder
from pipeline.models.solvers.engine import LOCAL, LocalEngine
from pipeline.models.solvers.steps import Engine

__all__ = ["distance", "engine_of", "sampled_rows"]

LARGE = 1_000_000  # cells of a matrix for which it is worth it
EVERY = 4  # the least distance
MOST_CELLS = 8_000_000  # of the sample, which lies in memory twice
LEAST_CELLS = 100  # of the sample for each column, on average: 25 of them led to worse minima


def distance(X: Any) -> int:
    """The distance of the sample's rows; 0 where all rows are better.

    X : CSR or dense (m, n), or a folder of blocks
    """
    if isinstance(X, np.ndarray):
        return 0
    cells = X.cells if isinstance(X, BlockFolder) else X.nnz
    every = max(EVERY, -(-cells // MOST_CELLS))
    return every if cells >= max(LARGE, every * LEAST_CELLS * X.shape[1]) else 0


def engine_of(X: Any, engine: Engine) -> Engine:
    """The engine of the sample's iterations, in this process: it keeps a matrix on disk where that of the fit does."""
    if isinstance(X, BlockFolder):
        return LocalEngine(on_disk=True, scratch=engine.scratch if isinstance(engine, LocalEngine) else None)
    return engine if isinstance(engine, LocalEngine) else LOCAL


def sampled_rows(X: sparse.csr_matrix | BlockFolder, every: int) -> sparse.csr_matrix:
    """Rows 0, every, 2·every, … of X, with all columns."""
    if not isinstance(X, BlockFolder):
        return X[::every]
    counts, indices, scores = [], [], []
    for first, rows in rows_of_side(X, "rows"):
        own = np.diff(rows.indptr)
        taken = np.arange(first, first + own.size) % every == 0
        cells = np.repeat(taken, own)
        counts.append(own[taken])
        indices.append(rows.indices[cells])
        scores.append(rows.scores[cells])
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return sparse.csr_matrix((np.concatenate(scores), np.concatenate(indices), indptr), (indptr.size - 1, X.shape[1]))
