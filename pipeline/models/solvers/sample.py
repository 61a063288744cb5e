"""What a large fit from a random start begins with: a sample of X's rows, and more components than were asked for.

The first iterations from a random start tell the components apart, and every second or fourth row tells as much about
them as all rows do, where enough cells are left for each column. Rows are taken at equal distances, so the sample
depends on X alone, whoever keeps it.

Two components often come to describe the same thing, and none something else; a fit seldom gets out of that again. So
there are half as many more, and the two that one describes best are merged, until as many are left as were asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.block_builder import rows_of_side
from pipeline.data.blocks import BlockFolder
from pipeline.models.solvers.engine import LOCAL, LocalEngine
from pipeline.models.solvers.half_steps import BLOCK, GROUP, Floats, at_line
from pipeline.models.solvers.steps import Engine

__all__ = ["begun_with", "distance", "distance_of", "engine_of", "extended", "merging", "sampled_rows"]

MORE = 2  # one component more for so many
DIGITS = 64  # the digits of a share past so many parts tell nothing of it
LARGE = 1_000_000  # cells of a matrix for which it is worth it
MOST_CELLS = 8_000_000  # of the sample, which lies in memory twice
EVERY = (4, 2)  # the least distances, the one with the smaller sample first
LEAST_CELLS = 25  # of X a column on average, times the distance squared: with a quarter of them fits ended higher
LEAST_ROWS = 100  # of the sample for each component: with half of them fits ended higher


def distance(X: Any, k: int) -> int:
    """The distance of the sample's rows for k components; 0 where all rows are better.

    X : CSR or dense (m, n), or a folder of blocks
    """
    if isinstance(X, np.ndarray):
        return 0
    rows, columns = X.shape
    return distance_of(X.cells if isinstance(X, BlockFolder) else X.nnz, rows, columns, k)


def distance_of(cells: int, rows: int, columns: int, k: int) -> int:
    """As `distance`, of a sparse matrix with so many cells, rows and columns."""
    for least in EVERY:
        every = max(least, -(-cells // MOST_CELLS))
        if cells >= max(LARGE, LEAST_CELLS * every**2 * columns) and rows >= LEAST_ROWS * k * every:
            return every
    return 0


def begun_with(k: int) -> int:
    """The components that a fit of k begins with."""
    return k + k // MORE


def extended(start: Floats, k: int) -> Floats:
    """The start (rows, at least k columns) with `begun_with(k)` components, by row and `at_line`.

    Those past k are numbers from 0 to twice the mean: the later digits of the share of one of the row's numbers in two
    of them. So a row depends on its own numbers, and on the level of all.
    """
    rows, n = len(start), begun_with(k)
    out = at_line((rows, -(-n // GROUP) * GROUP), start.dtype)
    size = start.dtype.type(2 * float(start[:, :k].mean(dtype=np.float64)) if rows else 0)
    for lo in range(0, rows, BLOCK):
        block = start[lo : lo + BLOCK]
        one, two = block[:, : n - k], block[:, : n - k] + block[:, 1 : n - k + 1]
        share = DIGITS * np.divide(one, two, out=np.zeros_like(one), where=two > 0)
        out[lo : lo + BLOCK, :k] = block[:, :k]
        out[lo : lo + BLOCK, k:n] = (share - np.floor(share)) * size
    return out


def merging(
    users: NDArray[np.float64], items: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P and Q (n, k) ≥ 0: W·P and H·Q have k components, merged of the n columns of W and H.

    users, items : WᵀW and HᵀH (n, n)

    The two components that one describes best become that one, n − k times. M = w_s·h_sᵀ + w_t·h_tᵀ has two singular
    values, whose squares are the eigenvalues of the product of the Gram matrices (2 × 2) of w_s, w_t and of h_s, h_t.
    The first singular vectors, which are ≥ 0 as M is, take the place of both. The square of the second value is what
    that costs (Eckart & Young 1936), and the two with the least cost are chosen.
    """
    A, B, n = users.copy(), items.copy(), len(users)
    P, Q, left = np.eye(n), np.eye(n), np.ones(n, bool)
    cost = np.triu(_second(A, B, np.arange(n)[:, None]))
    cost[np.tril_indices(n)] = np.inf
    for _ in range(n - k):
        s, t = (int(i) for i in np.unravel_index(np.argmin(cost), cost.shape))
        two = np.ix_([s, t], [s, t])
        x, y = _one_of_two(A[two], B[two])
        for gram, columns, share in ((A, P, x), (B, Q, y)):
            columns[:, s] = columns[:, [s, t]] @ share
            gram[s] = share @ gram[[s, t]]
            gram[:, s] = gram[:, [s, t]] @ share
        left[t] = False
        again = np.where(left, _second(A, B, s), np.inf)
        cost[s, s + 1 :], cost[:s, s] = again[s + 1 :], again[:s]
        cost[t], cost[:, t] = np.inf, np.inf
    return P[:, left], Q[:, left]


def _second(A: NDArray[np.float64], B: NDArray[np.float64], s: Any) -> NDArray[np.float64]:
    """The smaller eigenvalue of the product of the Gram matrices of s and of each other component."""
    t = np.arange(len(A))
    trace = A[s, s] * B[s, s] + A[t, t] * B[t, t] + 2 * A[s, t] * B[s, t]
    det = (A[s, s] * A[t, t] - A[s, t] ** 2) * (B[s, s] * B[t, t] - B[s, t] ** 2)
    first = trace / 2 + np.sqrt(np.maximum(trace**2 / 4 - det, 0))
    second: NDArray[np.float64] = np.divide(np.maximum(det, 0), first, out=np.zeros_like(first), where=first > 0)
    return second


def _one_of_two(A: NDArray[np.float64], B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares x and y (2,) of two components in the one that is next to both together: [w_s w_t]·x and [h_s h_t]·y.

    Its two vectors are as long beside each other as theirs are.
    """
    product = B @ A
    first = np.trace(product) / 2 + np.sqrt(max(np.trace(product) ** 2 / 4 - np.linalg.det(product), 0.0))
    large = int(product[1, 1] > product[0, 0])
    x = np.empty(2)
    x[large], x[1 - large] = first - product[1 - large, 1 - large], product[1 - large, large]
    x = np.maximum(x, 0)  # rounding
    length = x @ A @ x
    if length <= 0:  # one of the factors is 0
        return np.array([1.0, 0.0]), np.array([1.0, 0.0])
    y = A @ x / length
    scale = (np.trace(A) * (y @ B @ y) / (np.trace(B) * length)) ** 0.25 if np.trace(B) > 0 else 1.0
    return x * scale, y / scale


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
