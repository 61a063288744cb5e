"""Most popular: the list anyone can make, and the one to beat."""

from __future__ import annotations

import numpy as np

from pipeline.artifact import FactorModel
from pipeline.matrix import UserItems

__all__ = ["popular_model"]


def popular_model(matrix: UserItems) -> FactorModel:
    """Items ranked by their number of interactions, as a model with one factor.

    A factor of 1 for every user and the count for every item: the baseline goes through the same
    scorer as the model it stands beside.
    """
    count = np.bincount(matrix.scores.indices, minlength=len(matrix.items)).astype(np.float32)
    return FactorModel(
        np.ones((len(matrix.users), 1), np.float32), count[None, :], matrix.users, matrix.items, matrix.scores
    )
