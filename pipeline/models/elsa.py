"""ELSA: a linear model of items on items, of low rank, for catalogues that EASE does not fit (Vančura et al. 2022).

    scores = X(AAᵀ − I),     A : (n_items, k), rows of length 1, so that no item predicts itself

A maximises the mean cosine of each user's x and y = x(AAᵀ − I). The paper clips y at 0, and so needs it for all items.
Without that step, which makes lists no better here, the gradient needs no array of users by items: with z = xA and
G = AᵀA,

    x·y = |z|² − |x|²,     |y|² = zGzᵀ − 2|z|² + |x|²,     ∂cos/∂y = p·x + q·y     (p and q a number each)

An iteration is a step of Nadam (Dozat 2016) on a tenth of the users. It takes O(nnz·k + (m + n)·k²).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.errors import InputError
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.runtime.blas import one_blas_thread
from pipeline.runtime.threads import ThreadPool

__all__ = ["PARTS", "ElsaFit", "fit_elsa"]

PARTS = 10  # iterations that go over all users once
_USERS, _ITEMS = 512, 1024  # of a piece of work
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # Nadam's decay of both moments, and what keeps its quotient finite

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ElsaFit:
    """Attributes
    ----------
    losses : mean of 2 − 2·cos over the users of each iteration, (n_iter,)
    """

    model: FactorModel
    losses: NDArray[np.float64]
    converged: bool
    interrupted: bool


class _OfUsers(NamedTuple):
    """What some users of an iteration add to it.

    weights : (n, k): the gradient of the loss by A is xᵀ·weights + A·square
    square : (k, k)
    losses : (n,)
    """

    weights: Floats
    square: Floats
    losses: NDArray[np.float64]


def fit_elsa(
    matrix: UserItems,
    n_components: int,
    *,
    learning_rate: float = 0.1,
    max_iter: int = 200,
    tol: float = 1e-4,
    seed: int = 42,
    n_threads: int | None = None,
    transform: str = "none",
    on_iteration: Callable[[int, float], None] | None = None,
    keep_interrupted: bool = False,
) -> ElsaFit:
    """The model of this matrix; it is the same for any number of threads.

    Parameters
    ----------
    max_iter : iterations, `PARTS` of which go over all users once
    tol : stop when the loss falls by less than this share from one round over all users to the next
    seed : of the start and of the order of users
    keep_interrupted : let Ctrl-C end the fit, and use what it has

    Raises InputError for a learning rate with which the numbers pass float32.
    """
    step = _Steps(matrix.scores, n_components, learning_rate, seed)
    losses: list[float] = []
    converged = interrupted = False
    try:
        with one_blas_thread(), ThreadPool(n_threads) as threads:
            while len(losses) < max_iter and not converged:
                losses.append(step.take(threads))
                if on_iteration is not None:
                    on_iteration(len(losses), losses[-1])
                if len(losses) % PARTS == 0 and len(losses) >= 2 * PARTS:
                    before, now = (float(np.mean(part)) for part in np.split(np.array(losses[-2 * PARTS :]), 2))
                    converged = before - now < tol * before
    except KeyboardInterrupt:
        if not keep_interrupted or not losses:
            raise
        interrupted = True
    h = np.ascontiguousarray(step.items.T)
    if not (np.isfinite(h.min()) and np.isfinite(h.max())):
        raise InputError(f"ELSA's steps lead nowhere: take a smaller --learning-rate than {learning_rate:g}")
    meta = {"model": "elsa", "fold_in": "linear", "parameters": {"transform": transform}}
    scores = matrix.scores
    w = FoldIn(h, meta).solve(scores.indptr, scores.indices, scores.data, n_threads)
    model = FactorModel(w, h, matrix.users, matrix.items, scores, meta)
    return ElsaFit(model, np.array(losses), converged, interrupted)


class _Steps:
    """The state of a fit: `items` is A after the last whole iteration."""

    def __init__(self, scores: sparse.csr_matrix, n_components: int, learning_rate: float, seed: int) -> None:
        self._x = _of_length_1(scores)
        self._rate = learning_rate
        self._random = np.random.default_rng(seed)
        self._order = np.empty(0, np.int64)
        self._number = 0
        # The parameters are rows of any length; A has their directions. So steps become shorter as rows grow.
        self._rows = self._random.normal(size=(scores.shape[1], n_components)).astype(np.float32)
        self._rows /= np.linalg.norm(self._rows, axis=1, keepdims=True)
        self._mean, self._square = np.zeros_like(self._rows), np.zeros_like(self._rows)
        self.items = self._rows.copy()

    def take(self, threads: ThreadPool) -> float:
        """Make one step; returns the mean loss of its users before it."""
        x = self._x[self._part()]
        pieces = [slice(first, first + _USERS) for first in range(0, x.shape[0], _USERS)]
        gram = self._gram(threads)
        of_users: list[_OfUsers] = [None] * len(pieces)  # type: ignore[list-item]  # filled below

        def users(number: int) -> None:
            of_users[number] = _gradient(x[pieces[number]], self.items, gram)

        threads.run(users, len(pieces))
        weights = np.concatenate([part.weights for part in of_users])
        square = np.sum([part.square for part in of_users], axis=0)
        self._update(x.T.tocsr(), weights, square, threads)
        return float(np.mean(np.concatenate([part.losses for part in of_users])))

    def _part(self) -> NDArray[np.int64]:
        """Rows of the next users."""
        n_users, part = self._x.shape[0], self._number % PARTS
        if part == 0:
            self._order = self._random.permutation(n_users)
        size = -(-n_users // PARTS)
        rows = self._order[part * size : (part + 1) * size]
        return rows if rows.size else self._order[:size]  # of a few users the last parts are empty

    def _pieces(self) -> list[slice]:
        return [slice(first, first + _ITEMS) for first in range(0, self.items.shape[0], _ITEMS)]

    def _gram(self, threads: ThreadPool) -> Floats:
        """G, added up in the order of the pieces."""
        pieces = self._pieces()
        grams: list[Floats] = [None] * len(pieces)  # type: ignore[list-item]  # filled below

        def gram(number: int) -> None:
            part = self.items[pieces[number]]
            grams[number] = part.T @ part

        threads.run(gram, len(pieces))
        return np.asarray(np.sum(grams, axis=0))

    def _update(self, by_item: sparse.csr_matrix, weights: Floats, square: Floats, threads: ThreadPool) -> None:
        """Nadam's step of all rows of A."""
        self._number += 1
        t, n_users = self._number, by_item.shape[1]
        now, ahead = 1 - _FIRST**t, 1 - _FIRST ** (t + 1)
        pieces, items = self._pieces(), np.empty_like(self.items)

        def update(number: int) -> None:
            part = pieces[number]
            a, rows, mean, second = self.items[part], self._rows[part], self._mean[part], self._square[part]
            gradient = (by_item[part] @ weights + a @ square) / np.float32(n_users)
            # Of the directions: nothing along the row, and less the longer it is.
            gradient -= a * np.einsum("ik,ik->i", gradient, a)[:, None]
            gradient /= np.linalg.norm(rows, axis=1, keepdims=True)
            mean += (1 - _FIRST) * (gradient - mean)
            second += (1 - _SECOND) * (gradient * gradient - second)
            move = (_FIRST / ahead) * mean + ((1 - _FIRST) / now) * gradient
            rows -= self._rate * move / (np.sqrt(second / (1 - _SECOND**t)) + _TINY)
            items[part] = rows / np.linalg.norm(rows, axis=1, keepdims=True)

        threads.run(update, len(pieces))
        self.items = items


def _gradient(x: sparse.csr_matrix, items: Floats, gram: Floats) -> _OfUsers:
    """Of users whose rows of `x` have length 1 or are empty."""
    z = x @ items
    zg = z @ gram
    xx = np.asarray(x.multiply(x).sum(axis=1), np.float64).ravel()
    zz = np.einsum("uk,uk->u", z, z, dtype=np.float64)
    yy = np.maximum(np.einsum("uk,uk->u", zg, z, dtype=np.float64) - 2 * zz + xx, 1e-12)
    length = np.sqrt(xx * yy)
    known = length > 0
    cosine = np.divide(zz - xx, length, out=np.zeros_like(zz), where=known)
    # The loss by y: p·x + q·y; y is zAᵀ − x.
    p = np.divide(-2.0, length, out=np.zeros_like(zz), where=known)
    q = 2 * cosine / yy
    of_x, of_z = (p - q)[:, None].astype(np.float32), q[:, None].astype(np.float32)
    return _OfUsers(2 * of_x * z + of_z * zg, z.T @ (of_z * z), 2 - 2 * cosine)


def _of_length_1(scores: sparse.csr_matrix) -> sparse.csr_matrix:
    """The rows over their lengths, float32; a row of zeros as it is."""
    data = scores.data.astype(np.float64)
    row_of = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    length = np.sqrt(np.bincount(row_of, data * data, scores.shape[0]))
    length[length == 0] = 1
    data /= length[row_of]
    return sparse.csr_matrix((data.astype(np.float32), scores.indices, scores.indptr), shape=scores.shape)
