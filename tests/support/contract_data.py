"""Interactions for the contract of models: three tastes, times, ids of either kind."""

from __future__ import annotations

import numpy as np

from pipeline.data.interactions import Interactions

__all__ = ["IDS", "make_interactions"]

IDS = ("int", "str")


def make_interactions(ids: str) -> Interactions:
    """Thirty users with ten of twenty-four items each."""
    rng = np.random.default_rng(11)
    users = np.repeat(np.arange(30), 10)
    items = np.concatenate(
        [rng.choice(24, 10, replace=False, p=np.where(np.arange(24) % 3 == u % 3, 8, 1) / 80) for u in range(30)]
    )
    at = np.datetime64("2024-01-01", "ms") + rng.integers(0, 10**10, users.size).astype("timedelta64[ms]")
    scores = rng.integers(1, 6, users.size)
    if ids == "int":
        return Interactions.of(100 + users, 7 * items, scores, at)
    return Interactions.of([f"u{u:03d}" for u in users], [f"i{i:03d}" for i in items], scores, at)
