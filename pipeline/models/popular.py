"""Most popular: the list anyone can make, and the one to beat; and what is popular lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import FactorModel
from pipeline.errors import InputError, UsageError
from pipeline.interactions import Interactions
from pipeline.matrix import UserItems, days_before

__all__ = ["popular_model", "recent_model"]


def popular_model(matrix: UserItems) -> FactorModel:
    """Items ranked by their number of interactions, as a model with one factor.

    A factor of 1 for every user and the count for every item: the baseline goes through the same
    scorer as the model it stands beside.
    """
    count = np.bincount(matrix.scores.indices, minlength=len(matrix.items)).astype(np.float32)
    return _model(matrix, count)


def recent_model(matrix: UserItems, train: Interactions, *, half_life_days: float = 30.0) -> FactorModel:
    """Items ranked by their recent interactions; where there are no times, by all of them.

    "Now" is the latest training time. Each interaction counts ½^(age / half_life_days).

    Parameters
    ----------
    matrix, train : the training side as a matrix, and its interactions with the same ids
    """
    if half_life_days <= 0:
        raise UsageError("The half-life must be longer than 0 days")
    if len(train.item_ids) != len(matrix.items):
        raise InputError(f"Interactions with {len(train.item_ids)} items and a matrix with {len(matrix.items)}")
    if train.at is None or not len(train):
        return popular_model(matrix)
    age = days_before(train.at.max(), train.at)
    weight = np.bincount(train.items, 0.5 ** (age / half_life_days), minlength=len(matrix.items))
    return _model(matrix, weight.astype(np.float32))


def _model(matrix: UserItems, weight: NDArray[np.float32]) -> FactorModel:
    ones = np.ones((len(matrix.users), 1), np.float32)
    return FactorModel(ones, weight[None, :], matrix.users, matrix.items, matrix.scores)
