"""Errors of scores, cell by cell, in float64 and without a users × items array.

W : (n_users, k), H : (k, n_items), X : csr (n_users, n_items); ŷ = (W·H) at a cell.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.mapped import empty_beside, parts, release

__all__ = [
    "AllCells",
    "Errors",
    "all_cells_errors",
    "errors",
    "observed_predictions",
]

_BLOCK = 1 << 18  # cells a block, at most
_NUMBERS = 1 << 22  # factors a block, at most: 32 MB in float32 twice
_CONVERTED = 1 << 20  # numbers that are float64 at a time


class Errors(NamedTuple):
    """Root of the mean squared error, and mean absolute error, in the units of the scores."""

    rmse: float
    mae: float


def observed_predictions(
    rows: NDArray[Any], cols: NDArray[Any], w: NDArray[Any], h: NDArray[Any]
) -> NDArray[np.float64]:
    """ŷ of the cells (rows[i], cols[i]), (n,) float64."""
    items = np.ascontiguousarray(h.T)
    result: NDArray[np.float64] = empty_beside(rows, rows.size, np.float64)
    size = min(_BLOCK, max(1, _NUMBERS // max(w.shape[1], 1)))
    for start in range(0, rows.size, size):
        block = slice(start, start + size)
        np.einsum("ij,ij->i", w[rows[block]], items[cols[block]], dtype=np.float64, out=result[block])
        release(rows, cols, result)
    return result


def errors(actual: NDArray[Any], predicted: NDArray[Any], selected: NDArray[np.bool_] | None = None) -> Errors:
    """RMSE and MAE of paired values, or of those that are selected; NaN of none."""
    n, squares, absolute = 0, 0.0, 0.0
    for part in parts(actual.size, _CONVERTED):
        chosen = ... if selected is None else selected[part]
        residual = np.asarray(predicted[part][chosen], np.float64) - actual[part][chosen]
        n += residual.size
        squares += float(residual @ residual)
        absolute += float(np.abs(residual, out=residual).sum())
        release(actual, predicted)
    if not n:
        return Errors(float("nan"), float("nan"))
    return Errors(math.sqrt(squares / n), absolute / n)


class AllCells(NamedTuple):
    """Errors of W·H against X: over all cells, and over the cells that are stored.

    `mae` is None for factors with negative values: it would take each cell's prediction.
    """

    reconstruction_error: float
    rmse: float
    mae: float | None
    observed: Errors


def all_cells_errors(x: sparse.csr_matrix, w: NDArray[Any], h: NDArray[Any]) -> AllCells:
    """‖X − WH‖_F, RMSE and MAE over all cells (empty ones as 0), and the same over stored cells.

    Σ_all ŷ² = ⟨WᵀW, HHᵀ⟩, so the squared error is Σ_obs (x−ŷ)² + (⟨WᵀW, HHᵀ⟩ − Σ_obs ŷ²).
    Where W, H ≥ 0 and x ≥ 0, Σ_all |x−ŷ| is Σ_obs |x−ŷ| + (Σ_all ŷ − Σ_obs ŷ), with
    Σ_all ŷ = (Σ_u w_u)·(Σ_i h_i). O(nnz·k + (n_users + n_items)·k²).
    """
    squares_predicted, sum_predicted, squares, absolute = _over_cells(x, w, h)
    (square_w, sum_w), (square_h, sum_h) = _gram(w), _gram(h.T)
    empty_squares = float(np.sum(square_w * square_h) - squares_predicted)
    empty_sum = float(sum_w @ sum_h - sum_predicted)
    # NaN without cells, as the mean of nothing
    observed = Errors(float(np.sqrt(np.divide(squares, x.nnz))), float(np.divide(absolute, x.nnz)))
    if x.nnz == x.shape[0] * x.shape[1]:
        empty_squares = empty_sum = 0.0  # no cell is empty: both differences are rounding
    # With few empty cells rounding may make them negative.
    squares += max(empty_squares, 0.0)
    absolute += max(empty_sum, 0.0)
    cells = x.shape[0] * x.shape[1]
    signed = min(w.min(initial=0), h.min(initial=0)) < 0
    mae = None if signed else absolute / cells
    return AllCells(np.sqrt(squares), np.sqrt(squares / cells), mae, observed)


def _gram(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """rowsᵀ·rows (k, k) and Σ rows (k,) of (n, k) factors, some rows at a time: no copy of all in float64."""
    k = rows.shape[1]
    square, total = np.zeros((k, k)), np.zeros(k)
    for part in parts(rows.shape[0], max(1, _CONVERTED // max(k, 1))):
        some = rows[part].astype(np.float64)
        square += some.T @ some
        total += some.sum(axis=0)
    return square, total


def _over_cells(x: sparse.csr_matrix, w: NDArray[Any], h: NDArray[Any]) -> NDArray[np.float64]:
    """Σ ŷ², Σ ŷ, Σ (x−ŷ)² and Σ |x−ŷ| over the stored cells, some at a time."""
    items = np.ascontiguousarray(h.T)
    size = min(_BLOCK, max(1, _NUMBERS // max(w.shape[1], 1)))
    total = np.zeros(4)
    for part in parts(x.nnz, size):
        first, last = np.searchsorted(x.indptr, [part.start, part.stop - 1], side="right") - 1
        ends = np.clip(x.indptr[first : last + 2], part.start, part.stop)
        rows = np.repeat(np.arange(first, last + 1), np.diff(ends))
        predicted = np.einsum("ij,ij->i", w[rows], items[x.indices[part]], dtype=np.float64)
        residual = predicted - x.data[part]
        total += predicted @ predicted, predicted.sum(), residual @ residual, np.abs(residual).sum()
        release(x.indices, x.data)
    return total
