"""Fits the most popular and the recently popular items, the baselines of every model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, ends_of, sums_of
from pipeline.data.matrix import UserItems, days_before
from pipeline.errors import InputError, UsageError
from pipeline.models.popularity_model import PopularityModel

__all__ = ["popular_model", "recent_model"]


def popular_model(matrix: UserItems) -> PopularityModel:
    """Items ranked by their number of interactions."""
    count = counts_of(matrix.scores.indices, len(matrix.items)).astype(np.float32)
    return _model(matrix, count, "popular")


def recent_model(matrix: UserItems, train: Interactions, *, half_life_days: float = 30.0) -> PopularityModel:
    """Items ranked by their recent interactions; without times, by all interactions.

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
        return replace(popular_model(matrix), meta={"model": "recent"})
    at, (_, newest) = train.at, ends_of(train.at)
    weight = sums_of(
        train.items, lambda part: 0.5 ** (days_before(newest, at[part]) / half_life_days), len(matrix.items)
    )
    return _model(matrix, weight.astype(np.float32), "recent")


def _model(matrix: UserItems, weight: NDArray[np.float32], name: str) -> PopularityModel:
    return PopularityModel(weight, matrix.users, matrix.items, matrix.scores, {"model": name})
