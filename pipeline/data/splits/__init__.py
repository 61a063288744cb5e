"""Splits: which interactions a model learns from, and which it is evaluated on."""

from pipeline.data.splits.methods import (
    SplitName,
    holdout,
    items_split,
    last_split,
    latest_split,
    make_split,
    random_split,
    time_split,
    users_split,
)
from pipeline.data.splits.split import Split, holds, pair_keys

__all__ = [
    "Split",
    "SplitName",
    "holdout",
    "holds",
    "items_split",
    "last_split",
    "latest_split",
    "make_split",
    "pair_keys",
    "random_split",
    "time_split",
    "users_split",
]
