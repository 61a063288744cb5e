"""Splits: which interactions a model learns from, and which it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import UsageError
from pipeline.interactions import Interactions

__all__ = ["Split", "holdout"]


@dataclass(frozen=True, eq=False)
class Split:
    """Attributes
    ----------
    train : what the candidate and the baselines see; ids that only the test side uses are left out
    test : what they are judged by, with the ids of both sides
    cutoff : the time that parts them, where one does
    """

    train: Interactions
    test: Interactions
    cutoff: np.datetime64 | None = None


def holdout(x: Interactions, share: float = 0.2, seed: int = 42) -> Split:
    """Each user's latest interactions held out; where there are no times, a random share by seed.

    A user with n interactions gives round(share·n) of them, and always keeps one: nobody is judged
    who was not in training. Interactions of equal time are parted at random, by the same seed.

    Parameters
    ----------
    x : in order and aggregated (one interaction a user and item)
    share : of each user's interactions, in (0, 1)
    """
    if not 0 < share < 1:
        raise UsageError(f"The held-out share must be between 0 and 1, got {share}")
    n_users = len(x.user_ids)
    count = np.bincount(x.users, minlength=n_users)
    n_test = np.minimum(np.floor(share * count + 0.5).astype(np.int64), np.maximum(count - 1, 0))
    lot = np.random.default_rng(seed).random(len(x))
    order = np.lexsort((lot, x.users) if x.at is None else (lot, x.at, x.users))
    end = np.cumsum(count)
    # Position counted from the end of the user's stretch: 1 is the latest.
    from_end = end[x.users[order]] - np.arange(len(x))
    test = np.zeros(len(x), bool)
    test[order] = from_end <= n_test[x.users[order]]
    return Split(x.take(~test).compact(), x.take(test))
