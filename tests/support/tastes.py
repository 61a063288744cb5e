"""Made-up interactions that a model has something to learn from."""

from __future__ import annotations

import numpy as np

from pipeline.data.interactions import Interactions

__all__ = ["three_tastes"]


def three_tastes() -> Interactions:
    """Sixty users of three tastes, twelve items each of forty-five, over a year."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(60), 12)
    items = np.concatenate(
        [rng.choice(45, 12, replace=False, p=np.where(np.arange(45) % 3 == u % 3, 8, 1) / 150) for u in range(60)]
    )
    at = np.datetime64("2024-01-01", "ms") + rng.integers(0, 366 * 86_400_000, users.size).astype("timedelta64[ms]")
    return Interactions.of(users, items, rng.integers(1, 6, users.size), at)
