"""Linear rows: a user's factors are the sum of the factors of their items, each times its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.kernels.arguments import CsrRows
from pipeline.models.fold_in.way import ScoreParts

__all__ = ["Linear"]

ROWS = 65536  # whose sums are in float64 at the same time


class Linear:
    """As `way.Way` and `way.Splitting`; numpy and scipy alone, whether kernels are wanted or not."""

    def __init__(self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], kernels: bool) -> None:
        self._h = item_factors

    def solve(self, cells: CsrRows, n_threads: int | None) -> NDArray[np.float32]:
        """As `way.Way.solve`; sums are in float64, in the order of the columns."""
        used, columns = np.unique(cells.indices, return_inverse=True)
        items = np.ascontiguousarray(self._h[:, used].T, np.float64)
        history = sparse.csr_matrix(
            (cells.data.astype(np.float64), columns.astype(np.int32), cells.indptr), shape=(cells.hi, used.size)
        )
        out = np.empty((cells.hi, self._h.shape[0]), np.float32)
        with np.errstate(over="ignore"):  # `FoldIn` refuses what is not finite
            for lo in range(0, cells.hi, ROWS):
                out[lo : lo + ROWS] = history[lo : lo + ROWS] @ items
        return out

    def split(self, cells: CsrRows, item: int) -> ScoreParts:
        """As `way.Splitting.split`."""
        h = self._h[:, cells.indices].T.astype(np.float64)
        return ScoreParts(cells.data * (h @ self._h[:, item].astype(np.float64)), 0.0)
