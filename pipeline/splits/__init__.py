"""Splits: which interactions a model learns from, and which it is judged by."""

from pipeline.splits.candidate import check_candidate, check_folded
from pipeline.splits.split import Split, holds, pair_keys
from pipeline.splits.ways import (
    SplitName,
    holdout,
    last_split,
    latest_split,
    make_split,
    random_split,
    time_split,
    users_split,
)

__all__ = [
    "Split",
    "SplitName",
    "check_candidate",
    "check_folded",
    "holdout",
    "holds",
    "last_split",
    "latest_split",
    "make_split",
    "pair_keys",
    "random_split",
    "time_split",
    "users_split",
]
