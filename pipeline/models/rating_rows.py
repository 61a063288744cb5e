"""Rating models: what is known of a row's scores, and the rows that fit it.

    x̂_ui = o_i + f_i·x_u        f_i (d,) features and o_i level of an item        x_u (d,) of the user

Given one side, each row of the other is a ridge regression (`pipeline.kernels.rating_rows`). The two sides look alike:
a user's bias is a component whose feature is 1 for every item, and the item's bias belongs to o_i.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, RatingRows, RowNoise
from pipeline.runtime.threads import ThreadPool

__all__ = ["NO_NOISE", "Ratings", "known_rows", "ridge_of", "solve_rows", "squared_errors"]

NO_NOISE = RowNoise(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
_ROWS = 256  # rows in a piece of work


class Ratings(NamedTuple):
    """Scores in the units of the fit: less their mean, over their standard deviation; so options have no unit.

    by_user, by_item : the same cells (n_users, n_items), and transposed
    spread : the standard deviation; 1 where all scores are equal
    """

    by_user: CsrRows
    by_item: CsrRows
    mean: float
    spread: float

    @classmethod
    def of(cls, x: sparse.csr_matrix) -> Ratings:
        """From csr (n_users, n_items) of scores."""
        mean = float(x.data.mean(dtype=np.float64))
        spread = float(x.data.std(dtype=np.float64)) or 1.0
        scores = ((x.data.astype(np.float64) - mean) / spread).astype(np.float32)
        matrix = sparse.csr_matrix((scores, x.indices, x.indptr), shape=x.shape)
        transposed = matrix.T.tocsr()
        transposed.sort_indices()
        return cls(_cells(matrix), _cells(transposed), mean, spread)

    @property
    def user_of_cell(self) -> NDArray[np.int32]:
        """The user's row of each cell, (nnz,)."""
        counts = np.diff(self.by_user.indptr)
        return np.repeat(np.arange(counts.size, dtype=np.int32), counts)


def _cells(matrix: sparse.csr_matrix) -> CsrRows:
    return CsrRows.of(0, matrix.shape[0], matrix.indptr, matrix.indices, np.asarray(matrix.data, np.float32))


def known_rows(features: NDArray[np.floating], levels: NDArray[np.floating]) -> RatingRows:
    """Features (n, d) and levels (n,) of the side that is given."""
    rows = np.empty((features.shape[0], features.shape[1] + 1), np.float32)
    rows[:, :-1], rows[:, -1] = features, levels
    return RatingRows(rows, 0, features.shape[1])


def ridge_of(cells: CsrRows, strength: float, exponent: float) -> NDArray[np.float64]:
    """strength·n^exponent of each row with n cells, (n_rows,); a row without cells has the ridge of one cell."""
    counts: NDArray[np.int64] = np.maximum(np.diff(cells.indptr), 1)
    return strength * counts.astype(np.float64) ** exponent


def solve_rows(
    cells: CsrRows,
    known: RatingRows,
    ridge: NDArray[np.float64],
    n_threads: int | None = None,
    *,
    noise: RowNoise = NO_NOISE,
) -> NDArray[np.float32]:
    """The row of each row of cells, (n_rows, d): the best one, or with `noise` one drawn from the posterior."""
    out = np.zeros((cells.hi, known.width), np.float32)
    kernel = compiled("rating_rows").solve_rows
    _in_pieces(cells, lambda part: kernel(part, known, ridge, noise, 1.0, out), n_threads)
    return out


def squared_errors(
    cells: CsrRows, P: NDArray[np.float32], Q: NDArray[np.float32], n_threads: int | None = None
) -> float:
    """Σ_obs (r − r̂)², of rows (n, k + 1) of both sides: k factors, then the bias."""
    out = np.zeros(cells.hi)
    kernel = compiled("rating_rows").squared_errors
    _in_pieces(cells, lambda part: kernel(part, P, Q, out), n_threads)
    return float(out.sum())


def _in_pieces(cells: CsrRows, work: Callable[[CsrRows], Any], n_threads: int | None) -> None:
    with ThreadPool(n_threads) as threads:
        threads.run(
            lambda i: work(cells._replace(lo=i * _ROWS, hi=min(cells.hi, (i + 1) * _ROWS))), -(-cells.hi // _ROWS)
        )
