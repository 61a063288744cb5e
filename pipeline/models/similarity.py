"""How `ItemItemModel` stores the weights s_ji of items on items: as neighbours, as a dense matrix, or in dual form.

    score(u, i) = Σ_{j in u's history} x_uj · s_ji

`Neighbours`      a sparse matrix (item-kNN)
`DenseWeights`    all weights, float32 (EASE with no more items than users)
`DualWeights`     a matrix of users by users, from which weights follow (EASE with fewer users than items)

Each adds in float64 in a fixed order, so a score depends neither on the users it is computed with nor on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import distinct
from pipeline.errors import ArtifactError
from pipeline.models.model_files import release

__all__ = ["DenseWeights", "DualWeights", "Neighbours", "Similarity"]

_COLUMNS = 128  # items whose weights are held in float64 at once: they stay in the cache


class Similarity(Protocol):
    """Weights of items on items. The classes raise ArtifactError for arrays that can't be used."""

    @property
    def n_items(self) -> int:
        """Number of items."""

    def scores(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """Scores of all items, (n, n_items).

        Parameters
        ----------
        history : csr (n, n_items) float64, the weight of each item in each user's history
        trained : (n,) rows of these users in the fit, or None for other users
        """

    def parts(self, history: sparse.csr_matrix, item: int, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """The parts of one user's score of the item by past item, in the order of `history`; they sum to it."""

    def release(self) -> None:
        """Free the memory of mapped pages that were read."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Attributes
    ----------
    matrix : csr (n_items, n_items) float32; row j has item j's neighbours in ascending order, each once
    """

    matrix: sparse.csr_matrix

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.matrix.shape[1])

    def __post_init__(self) -> None:
        s = self.matrix
        if s.dtype != np.float32:
            raise ArtifactError(f"Similarities must be float32, got {s.dtype}")
        if not _is_finite(s.data):
            raise ArtifactError("Similarities must be finite")
        if s.shape[0] != s.shape[1]:
            raise ArtifactError(f"Similarities are for {s.shape}")

    @cached_property
    def _doubles(self) -> sparse.csr_matrix:
        return self.matrix.astype(np.float64)

    def scores(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """As `Similarity.scores`."""
        return np.asarray((history @ self._doubles).toarray(), np.float32)

    def parts(self, history: sparse.csr_matrix, item: int, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """As `Similarity.parts`."""
        likeness = self.matrix[history.indices][:, [item]].toarray().ravel()
        return np.asarray(history.data * likeness.astype(np.float64))

    def release(self) -> None:
        """Nothing is mapped."""


@dataclass(frozen=True, eq=False)
class DenseWeights:
    """Attributes
    ----------
    matrix : (n_items, n_items) float32, s_ji in row j; may be mapped from disk
    """

    matrix: NDArray[np.float32]

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.matrix.shape[1])

    def __post_init__(self) -> None:
        s = self.matrix
        if s.dtype != np.float32 or s.ndim != 2 or s.shape[0] != s.shape[1]:
            raise ArtifactError(f"Weights of items must be float32 and square, got {s.dtype} of shape {s.shape}")
        if not _is_finite(s):
            raise ArtifactError("Weights of items must be finite")

    def scores(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """As `Similarity.scores`: one weighted sum of rows a user, some columns at a time."""
        scores = np.empty((history.shape[0], self.n_items), np.float32)
        if not history.shape[0]:
            return scores
        used = distinct(history.indices)
        if 2 * used.size < self.n_items:  # few users: their items' rows alone
            place = np.searchsorted(used, history.indices)
            history = sparse.csr_matrix((history.data, place, history.indptr), shape=(history.shape[0], used.size))
        else:
            used = np.arange(self.n_items)
        step = _COLUMNS if history.nnz > used.size else self.n_items
        for first in range(0, self.n_items, step):
            part = slice(first, first + step)
            weights = self.matrix[:, part] if used.size == self.n_items else self.matrix[used, part]
            scores[:, part] = history @ weights.astype(np.float64)
        return scores

    def parts(self, history: sparse.csr_matrix, item: int, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """As `Similarity.parts`."""
        return np.asarray(history.data * self.matrix[history.indices, item].astype(np.float64))

    def release(self) -> None:
        """As `Similarity.release`."""
        release(self.matrix)


@dataclass(frozen=True, eq=False)
class DualWeights:
    """EASE's weights by users: s_ji = x_j·K·x_i / (1 − x_i·K·x_i) for j ≠ i, else 0, where x_i is column i of X.

    For the users of the fit K·X·Xᵀ = I − λK, so a score costs one number a user of the item; another user's history
    x is first multiplied by XᵀK.

    Attributes
    ----------
    kernel : (m, m) float64, K = (X·Xᵀ + λI)⁻¹ for m users; symmetric; may be mapped from disk
    leverage : (n_items,) float64, x_i·K·x_i, in [0, 1)
    regularization : λ, a float above 0
    cells : csr (m, n_items) float32, X: the scores that the fit saw
    """

    kernel: NDArray[np.float64]
    leverage: NDArray[np.float64]
    regularization: Any
    cells: sparse.csr_matrix

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.leverage.size)

    def __post_init__(self) -> None:
        (m, n), k, q = self.cells.shape, self.kernel, self.leverage
        if k.dtype != np.float64 or k.shape != (m, m) or q.dtype != np.float64 or q.shape != (n,):
            raise ArtifactError(f"A kernel of shape {k.shape} and {q.shape} leverages for {m} users and {n} items")
        if not (_is_finite(k) and _is_finite(q) and (q >= 0).all() and (q < 1).all()):
            raise ArtifactError("The kernel must be finite, and leverages from 0 to 1")
        if self.cells.dtype != np.float32:
            raise ArtifactError("The weights follow from the scores, and there are none")
        if type(self.regularization) is not float or not 0 < self.regularization < np.inf:
            raise ArtifactError(f"The regularization of a kernel is above 0, not {self.regularization!r:.60}")

    @cached_property
    def _by_item(self) -> sparse.csr_matrix:
        return self.cells.T.tocsr().astype(np.float64)

    def _of_users(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """x·XᵀK of each user, (n, m)."""
        if trained is None:
            common = history @ self._by_item  # x·Xᵀ
            common.sort_indices()
            return np.asarray(common @ self.kernel)
        rows: NDArray[np.float64] = self.kernel[trained] * -self.regularization
        rows[np.arange(trained.size), trained] += 1
        return rows

    def _sums(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """Scores before they are rounded, (n_items, n)."""
        of_users = np.ascontiguousarray(self._of_users(history, trained).T)
        sums: NDArray[np.float64] = self._by_item @ of_users
        user_of = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        sums[history.indices, user_of] -= history.data * self.leverage[history.indices]  # an item's own part
        sums /= (1 - self.leverage)[:, None]
        return sums

    def scores(self, history: sparse.csr_matrix, trained: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """As `Similarity.scores`."""
        return np.ascontiguousarray(self._sums(history, trained).T, np.float32)

    def parts(self, history: sparse.csr_matrix, item: int, trained: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """As `Similarity.parts`; the largest part takes up what the others lack by rounding, some 1e-15 of it."""
        of_item = self._by_item[[item]] @ self.kernel  # K·x_i
        weights = (self._by_item[history.indices] @ np.asarray(of_item).ravel()) / (1 - self.leverage[item])
        weights[history.indices == item] = 0
        parts: NDArray[np.float64] = history.data * weights
        score = float(self._sums(history, trained)[item, 0])
        if parts.size:
            largest = int(np.abs(parts).argmax())
            for _ in range(4):
                parts[largest] += score - sum(parts.tolist())
        return parts

    def release(self) -> None:
        """As `Similarity.release`."""
        release(self.kernel)


def _is_finite(values: NDArray[np.floating]) -> bool:
    return not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))
