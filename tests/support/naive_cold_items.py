"""The slow, obvious twin of the regression for cold items, and ratings with one right answer for each new item."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.interactions import Interactions
from pipeline.models.item_snapshot import ItemTexts

__all__ = ["NEW", "ridge", "two_tastes"]

NEW = {"Comedy": 900, "Drama": 901}  # nobody has them


def ridge(features: ArrayLike, targets: ArrayLike, strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Base (k,) and slopes (f, k): one system with a column of ones, whose slope alone is not penalised."""
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    x = np.column_stack([np.ones(len(x)), x])
    penalty = strength * np.eye(x.shape[1])
    penalty[0, 0] = 0
    found = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return found[0], found[1:]


def two_tastes(n_users: int = 40, n_items: int = 30) -> tuple[Interactions, ItemTexts]:
    """Even users rate most comedies (even items) with 5 and a few dramas with 1, odd users the other way round.

    The texts have a comedy and a drama more, which nobody has.
    """
    rng = np.random.default_rng(3)
    users, items = (side.ravel() for side in np.indices((n_users, n_items)))
    own = users % 2 == items % 2
    has = rng.random(users.size) < np.where(own, 0.8, 0.15)
    genre = {0: "Comedy", 1: "Drama"}
    genres = {str(item): [genre[item % 2]] for item in range(n_items)}
    genres |= {str(item): [name] for name, item in NEW.items()}
    x = Interactions.of(users[has], items[has], np.where(own, 5, 1)[has])
    return x, ItemTexts({"900": "A new comedy"}, genres)
