"""Several models of one service: which names they may have, since each is a part of paths and a folder."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import UsageError

__all__ = ["FOLDERS", "WORDS", "check_names"]

# What follows /api/v1/ in the paths of the API.
WORDS = frozenset(
    (
        "explain", "health", "interactions", "items", "jobs", "metrics", "models", "popular", "predict", "ready",
        "recommendations", "train", "training", "users",
    )
)  # fmt: skip
# Folders in the folder of a service.
FOLDERS = frozenset(("exposures", "jobs", "metrics", "models", "snapshots", "workers"))


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError for names that one service can't serve."""
    if taken := sorted((WORDS | FOLDERS) & set(names)):
        raise UsageError(f"A service can't serve a model of the name {taken[0]}: the word is one of its own paths")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"The model {twice[0]} is named twice: --also is for further ones")
