"""EASE: the linear model of items on items with the least squared error and no item on itself (Steck 2019).

    B minimises ‖X − XB‖² + λ‖B‖² with a diagonal of 0;     scores = XB

    primal    P = (XᵀX + λI)⁻¹,    B_ij = −P_ij / P_jj
    dual      K = (XXᵀ + λI)⁻¹,    P = (I − XᵀKX) / λ,    scores = X − KX·diag(1/P)

Both give the same scores (P by the identity of Woodbury). The smaller matrix is inverted: users or items, whichever
are fewer, in float64. It takes min(m, n)³ multiply-adds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.errors import DoesNotFitError, InputError, UsageError
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.similarity import DenseWeights, DualWeights
from pipeline.runtime.blas import one_blas_thread
from pipeline.runtime.memory import memory_limit
from pipeline.runtime.threads import ThreadPool

__all__ = ["bytes_needed", "fit_ease", "is_dual", "penalty_of"]

_BLOCK_BYTES = 32 * 2**20
_ROWS = 256  # of a piece of what is inverted


def is_dual(shape: tuple[int, int]) -> bool:
    """Whether the dual form is taken for a matrix of (users, items)."""
    return shape[0] < shape[1]


def bytes_needed(shape: tuple[int, int]) -> int:
    """Bytes of the dense arrays of a fit: what is inverted, and in the primal form the weights."""
    return 8 * shape[0] ** 2 if is_dual(shape) else 12 * shape[1] ** 2


def penalty_of(matrix: UserItems, regularization: float) -> float:
    """λ: `regularization` times the mean of x², so that one value suits scores of any scale, and binary ones as it is.

    Where all scores are 0 it is `regularization`.
    """
    x = matrix.scores.data.astype(np.float64)
    return regularization * (float(np.mean(x * x)) or 1.0)


def fit_ease(matrix: UserItems, regularization: float, n_threads: int | None = None) -> ItemItemModel:
    """The model of this matrix; x is the cell's value.

    regularization : λ > 0; n_threads : by default all cores of the job; the model is the same for any number

    Raises UsageError, InputError, and DoesNotFitError where the dense arrays are larger than the free memory.
    """
    if not regularization > 0:
        raise UsageError(f"EASE needs a --regularization above 0, got {regularization:g}")
    _check_memory(matrix.scores.shape)
    x = matrix.scores.astype(np.float64)
    meta = {"model": "ease"}
    # One thread of the BLAS for each of the pool: the result is the same for any number, and none waits for others.
    with one_blas_thread(), ThreadPool(n_threads) as threads, np.errstate(all="ignore"):
        if is_dual(x.shape):
            kernel = _inverse(x, regularization, threads)
            leverage = _leverage(kernel, x.T.tocsr())
            similarity: DenseWeights | DualWeights = DualWeights(kernel, leverage, float(regularization), matrix.scores)
        else:
            similarity = DenseWeights(_weights(_inverse(x.T.tocsr(), regularization, threads)))
    return ItemItemModel(similarity, matrix.users, matrix.items, matrix.scores, "score", meta)


def _check_memory(shape: tuple[int, int]) -> None:
    room, need = memory_limit(), bytes_needed(shape)
    if room is not None and need > room.free:
        side = "users" if is_dual(shape) else "items"
        raise DoesNotFitError(
            f"EASE needs {need / 2**30:,.1f} GB for {min(shape):,} {side} squared, and {room.free / 2**30:,.1f} GB are "
            f"free ({room.why}): take another --algorithm, or fewer {side}"
        )


def _inverse(rows: sparse.csr_matrix, regularization: float, threads: ThreadPool) -> NDArray[np.float64]:
    """(R·Rᵀ + λI)⁻¹ for the rows R, (n, n), symmetric to the last bit. It takes the room of one such matrix."""
    n = rows.shape[0]
    columns = rows.T.tocsr()
    matrix = np.empty((n, n))
    pieces = _pieces(n)

    def products(number: int) -> None:
        part = pieces[number]
        matrix[part] = (rows[part] @ columns).toarray()

    threads.run(products, len(pieces))
    matrix[np.diag_indices(n)] += regularization
    try:
        for part in pieces:
            _sweep(matrix, part, pieces, threads)
    except np.linalg.LinAlgError:
        raise InputError(
            f"EASE can't be fitted with --regularization {regularization:g}: scores are too large for it "
            "(a larger one, or --transform log1p or binary)"
        ) from None
    for part in pieces:
        corner = matrix[part, part]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[: part.start, part] = matrix[part, : part.start].T
    return np.negative(matrix, out=matrix)


def _pieces(n: int) -> list[slice]:
    return [slice(first, min(first + _ROWS, n)) for first in range(0, n, _ROWS)]


def _sweep(matrix: NDArray[np.float64], part: slice, pieces: list[slice], threads: ThreadPool) -> None:
    """The sweep operator (Beaton 1964) for the rows of `part`, on the lower triangle; swept by all, it is −A⁻¹.

    With D = A_pp⁻¹:  A_ik −= A_ip·D·A_pk,  A_ip ← A_ip·D,  A_pp ← −D. The pieces do not depend on the threads.
    """
    inner = np.linalg.inv(np.linalg.cholesky(matrix[part, part]))
    inner = inner.T @ inner
    if not np.isfinite(inner).all():
        raise np.linalg.LinAlgError
    beside = np.concatenate([matrix[part, : part.start].T, matrix[part.start :, part]])
    moved = beside @ inner

    def update(number: int) -> None:
        at = pieces[number]
        if at == part:
            return
        matrix[at, : at.stop] -= moved[at] @ beside[: at.stop].T
        if at.start > part.start:
            matrix[at, part] = moved[at]

    threads.run(update, len(pieces))
    matrix[part, : part.start] = moved[: part.start].T
    matrix[part, part] = -inner


def _weights(inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """B of P, (n, n)."""
    n, below = inverse.shape[0], -np.diagonal(inverse)
    weights = np.empty((n, n), np.float32)
    step = max(1, _BLOCK_BYTES // (8 * max(1, n)))
    for first in range(0, n, step):
        part = slice(first, first + step)
        weights[part] = inverse[part] / below
    np.fill_diagonal(weights, 0)
    return weights


def _leverage(kernel: NDArray[np.float64], by_item: sparse.csr_matrix) -> NDArray[np.float64]:
    """x_i·K·x_i of each item, (n_items,)."""
    n, m = by_item.shape
    leverage = np.empty(n)
    step = max(1, _BLOCK_BYTES // (8 * max(1, m)))
    for first in range(0, n, step):
        part = by_item[first : first + step]
        item = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        cells = part.data * (part @ kernel)[item, part.indices]
        leverage[first : first + step] = np.bincount(item, cells, part.shape[0])
    # By rounding alone it may pass its bounds.
    return np.clip(leverage, 0.0, 1 - 2.0**-52)
