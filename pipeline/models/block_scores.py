"""Scores of all items for a block of users, of any saved model; and standard scores, which can be added up.

standard score   (max(score, lowest) − mean) / deviation

mean, deviation and lowest are of the 200 highest scores among the items that the user has not interacted with (fewer
where there are fewer). So all items beyond these 200 have the same standard score, and scores of different models have
one scale. Where the 200 scores are all the same, every standard score is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.models.factor_model import FactorModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.protocols import SavedModel
from pipeline.models.validation import check_pairs

__all__ = [
    "TOP",
    "Cells",
    "ScoresBlocks",
    "best_scores",
    "pairs_by_user",
    "standard_of",
    "standard_scores",
    "top_items",
]

TOP = 200
Cells = tuple[NDArray[np.intp], NDArray[Any]]
_ROUNDING = 2.0**-21  # of |w|·|h|: several times what rounding a score to float32 and a product in float64 can change


@runtime_checkable
class ScoresBlocks(Protocol):
    """A model that scores a block of users against all items."""

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items)."""


def best_scores(model: SavedModel, rows: NDArray[np.intp], seen: Cells) -> NDArray[np.float32]:
    """Scores (n, n_items) as of `predict`; −∞ where a score is below the `TOP` highest of unseen items.

    A score that is not −∞ may be below them, too. `seen` are the users' seen items, by `stored_cells`.
    """
    if isinstance(model, FactorModel):
        return _best_of_factors(model, rows, seen)
    if isinstance(model, PopularityModel):
        return np.tile(model.item_scores, (rows.size, 1))
    if isinstance(model, ScoresBlocks):
        return model.scores(rows)
    n_items = len(model.items)
    every = np.tile(np.arange(n_items), rows.size)
    return model.predict(np.repeat(rows, n_items), every).reshape(rows.size, n_items)


def _best_of_factors(model: FactorModel, rows: NDArray[np.intp], seen: Cells) -> NDArray[np.float32]:
    """A product of matrices finds the candidates, whose scores are then computed as `predict` does."""
    w, h = model.user_factors[rows].astype(np.float64), model.item_factors.astype(np.float64)
    product = w @ h
    size = np.sqrt(np.einsum("ut,ut->u", w, w)) * np.sqrt(np.einsum("ti,ti->i", h, h).max(initial=0.0))
    unseen = product.copy()
    unseen[seen] = -np.inf
    lowest = _highest(unseen)[:, :1]
    # A user with fewer unseen items than TOP: all are candidates.
    user, item = np.nonzero(product >= lowest - _ROUNDING * size[:, None])
    scores = np.full(product.shape, -np.inf, np.float32)
    scores[user, item] = model.predict(rows[user], item)
    return scores


def _highest(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The `TOP` highest of each row in ascending order, as float64, (n, at most TOP)."""
    n = scores.shape[1]
    some = scores if n <= TOP else np.partition(scores, n - TOP, axis=1)[:, n - TOP :]
    return np.sort(some, axis=1).astype(np.float64)


def standard_scores(model: SavedModel, rows: NDArray[np.intp], seen: Cells) -> NDArray[np.float64]:
    """Standard scores of all items for the users in `rows`, (n, n_items). A user's do not depend on the others."""
    return standard_of(best_scores(model, rows, seen), seen)


def standard_of(scores: NDArray[np.float32], seen: Cells) -> NDArray[np.float64]:
    """Standard scores (n, n_items) of what `best_scores` gives."""
    unseen = scores.copy()
    unseen[seen] = -np.inf
    top = _highest(unseen)
    known = np.isfinite(top)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, top, 0.0).sum(axis=1) / count
    deviation = np.sqrt((np.where(known, top - mean[:, None], 0.0) ** 2).sum(axis=1) / count)
    lowest = np.where(known, top, np.inf).min(axis=1, initial=np.inf)
    usable = (deviation > 0) & np.isfinite(deviation)
    scale = np.where(usable, deviation, 1.0)[:, None]
    low = np.where(usable, lowest, 0.0)[:, None]
    standard = np.maximum(scores.astype(np.float64), low)
    standard -= np.where(usable, mean, 0.0)[:, None]
    standard /= scale
    standard[~usable] = 0.0
    return standard


def pairs_by_user(
    user_rows: ArrayLike,
    item_rows: ArrayLike,
    shape: tuple[int, int],
    users_a_block: int,
    scores: Callable[[NDArray[np.intp]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Score of each pair (user_rows[i], item_rows[i]), (n,), of a model that scores users in blocks.

    `scores` gives the scores (n, n_items) of some users. Raises RowRangeError.
    """
    rows, cols = check_pairs(user_rows, item_rows, shape)
    predicted = np.empty(rows.size, np.float32)
    users, of = np.unique(rows, return_inverse=True)
    order = np.argsort(of, kind="stable")
    start = np.searchsorted(of[order], np.arange(users.size + 1))
    for first in range(0, users.size, users_a_block):
        last = min(first + users_a_block, users.size)
        pairs = order[start[first] : start[last]]
        predicted[pairs] = scores(users[first:last])[of[pairs] - first, cols[pairs]]
    return predicted


def top_items(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Of each row (n, n_items) the places of the `TOP` highest, highest first, ties by place; (n, at most TOP)."""
    n_items = scores.shape[1]
    size = min(TOP, n_items)
    top = np.empty((scores.shape[0], size), np.intp)
    for u, row in enumerate(scores):
        least = np.partition(row, n_items - size)[n_items - size] if size else 0
        above = np.flatnonzero(row > least)
        some = np.sort(np.append(above, np.flatnonzero(row == least)[: size - above.size]))
        top[u] = some[np.argsort(-row[some], kind="stable")]
    return top
