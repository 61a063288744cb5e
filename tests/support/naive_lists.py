"""A list under a limit on genres, one item at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = ["limited"]


def limited(
    ranked: Iterable[tuple[int, Any]], k: int, most: int, genres: Mapping[int, Collection[str]]
) -> list[tuple[int, Any]]:
    """The first k of the ranked (item, score) that leave no genre with more than `most` items."""
    taken: list[tuple[int, Any]] = []
    count: Counter[str] = Counter()
    for item, score in ranked:
        if len(taken) < k and all(count[genre] < most for genre in genres[item]):
            taken.append((item, score))
            count.update(genres[item])
    return taken
