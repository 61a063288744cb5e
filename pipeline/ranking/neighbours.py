"""The most similar items and users of a model.

Of a model with factors, similarity is the cosine of the factors; of any other model, the cosine of the sets of users
(of an item) or of items (of a user) in the interactions: n_common / √(n_a·n_b).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.models.factor_model import FactorModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.saved_model import SavedModel

__all__ = ["Neighbours", "nearest", "similar_items", "similar_users", "similarities_of_items"]

_ROWS = 1 << 16  # rows of factors in float64 at the same time


class Neighbours(NamedTuple):
    """Rows (n,) and their similarities (n,) float64, the most similar first, ties by row."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float64]


def similar_items(model: SavedModel, item_row: int, n: int = 10) -> Neighbours:
    """The items most similar to an item, without itself and without those of similarity 0 or below."""
    return nearest(similarities_of_items(model, item_row), n, item_row)


def similar_users(
    model: SavedModel, user_row: int, n: int = 10, *, among: SavedModel | None = None, itself: int = -1
) -> Neighbours:
    """The users most similar to a user, without themselves and without those of similarity 0 or below.

    Parameters
    ----------
    among : the model with the users to look among; default, the user's own
    itself : the user's row there; -1 for none
    """
    if among is None:
        among, itself = model, user_row
    if isinstance(model, FactorModel) and isinstance(among, FactorModel):
        w = np.asarray(among.user_factors)
        return nearest(_cosines(model.user_factors[user_row], w.shape[0], lambda lo, hi: w[lo:hi]), n, itself)
    seen = among.seen
    own, mine = np.zeros(seen.shape[1]), model.seen
    own[mine.indices[mine.indptr[user_row] : mine.indptr[user_row + 1]]] = 1
    sizes = np.diff(seen.indptr)
    common = np.add.reduceat(np.append(own[seen.indices], 0.0), seen.indptr[:-1]) * (sizes > 0)
    return nearest(_shared(common, sizes, int(own.sum())), n, itself)


def similarities_of_items(model: SavedModel, item_row: int) -> NDArray[np.float64]:
    """The similarity of every item to one, (n_items,)."""
    if isinstance(model, FactorModel | NeuralModel):
        h = np.asarray(model.item_factors)
        return _cosines(h[:, item_row], h.shape[1], lambda lo, hi: h[:, lo:hi].T)
    seen = model.seen
    users = np.searchsorted(seen.indptr, np.flatnonzero(seen.indices == item_row), side="right") - 1
    of_users = [seen.indices[seen.indptr[user] : seen.indptr[user + 1]] for user in users.tolist()]
    common = np.bincount(np.concatenate([*of_users, seen.indices[:0]]), minlength=seen.shape[1])
    return _shared(common, np.bincount(seen.indices, minlength=seen.shape[1]), users.size)


def _cosines(one: NDArray[np.float32], n: int, rows: Callable[[int, int], NDArray[np.float32]]) -> NDArray[np.float64]:
    own = one.astype(np.float64)
    out = np.zeros(n)
    for lo in range(0, n, _ROWS):
        block = rows(lo, min(lo + _ROWS, n)).astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", block, block) * float(own @ own))
        np.divide(block @ own, length, out=out[lo : lo + _ROWS], where=length > 0)
    return out


def _shared(common: NDArray[np.number], sizes: NDArray[np.number], own: int) -> NDArray[np.float64]:
    length = np.sqrt(sizes.astype(np.float64) * own)
    shared: NDArray[np.float64] = np.divide(common, length, out=np.zeros(sizes.size), where=length > 0)
    return shared


def nearest(similarities: NDArray[np.float64], n: int, itself: int = -1) -> Neighbours:
    """The rows of the n largest similarities above 0, without `itself`."""
    left = np.flatnonzero(similarities > 0)
    left = left[left != itself]
    if left.size > n:  # only those that can be among the n best are sorted
        least = np.partition(similarities[left], left.size - n)[left.size - n]
        left = left[similarities[left] >= least]
    rows = left[np.lexsort((left, -similarities[left]))][:n].astype(np.int64)
    return Neighbours(rows, similarities[rows])
