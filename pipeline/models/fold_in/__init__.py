"""Folding in: the factors of users the model was not trained on (or was), from their items and scores.

How that is done follows from how the model was fitted, and its metadata names it in ``fold_in``. Each way is a file:

    non_negative   the non-negative row that minimises the objective: models whose metadata names no way
    ridge          the row of any sign that minimises it: als
    linear         the sum of the items' factors, each times its score
    rating         what the user's scores say beyond the items' levels: svd, bpmf

A new way is a class with the methods of `way.Way` and a line in `_WAYS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import ArtifactError, BadRowsError, InputError
from pipeline.kernels import available
from pipeline.kernels.arguments import CsrRows
from pipeline.models.fold_in.linear import Linear
from pipeline.models.fold_in.non_negative import NonNegative
from pipeline.models.fold_in.rating import Rating
from pipeline.models.fold_in.ridge import Ridge
from pipeline.models.fold_in.way import ScoreParts, Splitting, Way, objective_of
from pipeline.models.validation import check_columns

__all__ = ["FoldIn", "ScoreParts", "objective_of", "transformed"]

# Name in the metadata → what makes the way, of item factors, metadata, and whether to use compiled kernels.
_WAYS: Mapping[str, Callable[[NDArray[np.float32], Mapping[str, Any], bool], Way]] = {
    "non_negative": NonNegative,
    "ridge": Ridge,
    "linear": Linear,
    "rating": Rating,
}


def transformed(scores: NDArray[np.float32], meta: Mapping[str, Any]) -> NDArray[np.float32]:
    """Raw scores as the fit saw them: `matrix.to_matrix`'s transform, which metadata names. Raises ArtifactError."""
    parameters = meta.get("parameters")
    name = parameters.get("transform", "none") if isinstance(parameters, Mapping) else "none"
    if name == "none":
        return scores
    if name == "log1p":
        return np.log1p(scores)
    if name == "binary":
        return (scores > 0).astype(np.float32)
    raise ArtifactError(f"The model's transform is not one: {name!r:.50}")


class FoldIn:
    """Computes factors of users for one H. Several threads may use it at the same time.

    Parameters
    ----------
    item_factors : (k, n_items) float32, H; must not change afterwards
    meta : metadata of the model: its way of folding in, its objective, and the transform of the scores
    compiled : use the compiled kernels; None: if numba is installed. Compiled and numpy rows differ in their
        last bits (top-k lists do not), so the choice does not depend on whether numba is loaded already.
    """

    def __init__(
        self, item_factors: NDArray[np.float32], meta: Mapping[str, Any], compiled: bool | None = None
    ) -> None:
        name = meta.get("fold_in") or "non_negative"
        if not isinstance(name, str) or name not in _WAYS:
            raise ArtifactError(f"The model's fold_in is not one of {', '.join(_WAYS)}: {name!r:.50}")
        self._meta = meta
        self._h = item_factors
        self._way = _WAYS[name](item_factors, meta, available() if compiled is None else compiled)

    def fold_matrix(self, cells: sparse.csr_matrix, n_threads: int | None = None) -> NDArray[np.float32]:
        """Factors (n, k) of the rows of csr (n, n_items), scores before the fit's transform.

        Raises BadRowsError for scores that are not finite and ≥ 0, InputError for other input that can't be used.
        """
        n_items = self._h.shape[1]
        if not sparse.issparse(cells):
            raise InputError(f"Scores to fold in must be a sparse matrix, got {type(cells).__name__}")
        if cells.ndim != 2 or cells.shape[1] != n_items:
            raise InputError(f"Scores to fold in have shape {cells.shape}, not (n, {n_items})")
        matrix = sparse.csr_matrix(cells, dtype=np.float32, copy=True)
        check_columns(matrix, "The matrix to fold in")
        matrix.sort_indices()
        if not matrix.has_canonical_format:
            raise InputError("Scores to fold in have an item twice in one row")
        return self.fold(matrix.indptr, matrix.indices, matrix.data, n_threads)

    def fold(
        self, indptr: NDArray[Any], indices: NDArray[Any], scores: NDArray[np.float32], n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """As `solve`, for scores before the fit's transform. Raises BadRowsError too."""
        bad = int(np.count_nonzero(~(np.isfinite(scores) & (scores >= 0))))
        if bad:
            raise BadRowsError(f"{bad} score(s) are not finite and ≥ 0")
        return self.solve(indptr, indices, transformed(scores, self._meta), n_threads)

    def solve(
        self, indptr: NDArray[Any], indices: NDArray[Any], scores: NDArray[np.float32], n_threads: int | None = None
    ) -> NDArray[np.float32]:
        """Factors (n, k) of n rows, each from its own cells alone.

        Parameters
        ----------
        indptr, indices, scores : CSR (n, n_items), columns ascending in a row; scores transformed, finite, ≥ 0

        Raises
        ------
        InputError
            If scores are so large that a factor overflows float32.
        """
        n, k = len(indptr) - 1, self._h.shape[0]
        if not n * k:
            return np.zeros((n, k), np.float32)
        cells = CsrRows.of(0, n, indptr, indices, np.asarray(scores, np.float32))
        out = self._way.solve(cells, n_threads)
        if not (np.isfinite(out.min()) and np.isfinite(out.max())):
            raise InputError("Scores to fold in are too large for float32: scale them down")
        return out

    def split(self, indices: NDArray[Any], scores: NDArray[np.float32], item: int) -> ScoreParts | None:
        """One user's score of `item` as a sum over the user's items; None where the way does not tell.

        indices, scores : (n,) the user's items, ascending, and their scores, transformed
        """
        if not isinstance(self._way, Splitting):
            return None
        indptr = np.array([0, len(indices)])
        cells = CsrRows.of(0, 1, indptr, indices, np.asarray(scores, np.float32))
        return self._way.split(cells, item)

    def prepare(self) -> None:
        """Do the one-time work now that the first call would do."""
        self.solve(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
