"""Averages of ratings: predictions without a model, which a model has to beat.

All are of the training side, in float64; rows and columns are those of its user and item ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, empty_beside, parts, release, sums_of
from pipeline.errors import TooLittleDataError

__all__ = ["Biases", "damped_biases", "global_average", "item_averages", "user_averages"]

_SUMMED = 1 << 16  # scores added at a time: the sum is the same wherever they lie


def global_average(x: Interactions) -> float:
    """Mean of all scores. Raises TooLittleDataError if there are none."""
    if not len(x):
        raise TooLittleDataError("There is no score to average")
    total = 0.0
    for part in parts(len(x), _SUMMED):
        total += float(x.scores[part].sum(dtype=np.float64))
        release(x.scores[part])
    return total / len(x)


def user_averages(x: Interactions) -> NDArray[np.float64]:
    """Mean score of each user, (n_users,); the global average for a user without scores."""
    return _averages(x.users, x.scores, len(x.user_ids), global_average(x))


def item_averages(x: Interactions) -> NDArray[np.float64]:
    """Mean score of each item, (n_items,); the global average for an item without scores."""
    return _averages(x.items, x.scores, len(x.item_ids), global_average(x))


class Biases(NamedTuple):
    """mean + users[u] + items[i]; users (n_users,), items (n_items,)."""

    mean: float
    users: NDArray[np.float64]
    items: NDArray[np.float64]

    def predict(self, user_rows: NDArray[np.integer], item_rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Predicted score of each pair, (n,)."""
        predicted: NDArray[np.float64] = empty_beside(user_rows, user_rows.size, np.float64)
        for part in parts(predicted.size):
            predicted[part] = self.mean + self.users[user_rows[part]] + self.items[item_rows[part]]
            release(user_rows, item_rows, predicted)
        return predicted


def damped_biases(x: Interactions, damping_items: float = 5.0, damping_users: float = 5.0) -> Biases:
    """Global average plus damped item and user biases (Funk 2006; Koren 2010, §2.1).

    b_i = Σ_{u of i} (x − μ) / (n_i + damping_items), then b_u = Σ_{i of u} (x − μ − b_i) / (n_u + damping_users):
    damping draws a bias of few scores towards 0.
    """
    mean = global_average(x)

    def left(part: slice) -> NDArray[np.float64]:
        return x.scores[part].astype(np.float64) - mean

    items = _damped(x.items, left, len(x.item_ids), damping_items)
    users = _damped(x.users, lambda part: left(part) - items[x.items[part]], len(x.user_ids), damping_users)
    return Biases(mean, users, items)


def _damped(
    codes: NDArray[np.int32], values: Callable[[slice], NDArray[np.float64]], n: int, damping: float
) -> NDArray[np.float64]:
    count = counts_of(codes, n) + damping
    total = sums_of(codes, values, n)
    return np.asarray(np.divide(total, count, out=np.zeros(n), where=count > 0))


def _averages(codes: NDArray[np.int32], scores: NDArray[np.float32], n: int, otherwise: float) -> NDArray[np.float64]:
    count = counts_of(codes, n)
    total = sums_of(codes, lambda part: scores[part], n)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)
