"""A list under a limit on genres, and with promoted items, one item at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["limited", "promoted"]


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


def promoted(
    ranked: Sequence[tuple[int, Any]],
    k: int,
    promotions: Sequence[tuple[str, int, Collection[int]]],
    most: int | None = None,
    genres: Mapping[int, Collection[str]] | None = None,
) -> list[tuple[int, Any, str]]:
    """(item, score, label or "-") of a list with promotions (label, quota, items), from all items that it may hold."""
    genres = genres or {}

    def fits(items: Iterable[int]) -> bool:
        count = Counter(genre for item in items for genre in genres.get(item, ()))
        return most is None or all(n <= most for n in count.values())

    taken = list(ranked[:k]) if most is None else limited(ranked, k, most, genres)
    found = [(item, score, "-") for item, score in taken]
    wanted = {
        label: [pair for pair in ranked if pair[0] in items][: min(quota, k)] for label, quota, items in promotions
    }
    safe = {item for pairs in wanted.values() for item, _ in pairs}
    for label, pairs in wanted.items():
        for item, score in pairs:
            if item in [other for other, _, _ in found]:
                continue
            rest = list(found)
            if len(rest) == k:
                open_places = [i for i, (other, _, by) in enumerate(rest) if by == "-" and other not in safe]
                if not open_places:
                    continue
                del rest[open_places[-1]]
            if fits([other for other, _, _ in rest] + [item]):
                found = [*rest, (item, score, label)]
    return sorted(found, key=lambda row: (-row[1], row[0]))
