"""Search in titles: one text of all titles, so that a search is a few scans of it.

Items that the model has not yet, which the snapshot knows, are found too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.models.item_snapshot import ItemSnapshot

__all__ = ["Found", "ItemSearch"]


class Found(NamedTuple):
    """Rows of the model's items, the most popular first; and those of `ItemSnapshot.others`, the last id first."""

    rows: list[int]
    others: list[int]


class ItemSearch:
    """Finds items whose titles have all words of a query, in any order and case; the most popular first."""

    def __init__(self, snapshot: ItemSnapshot) -> None:
        self._n = 0 if snapshot.titles is None else len(snapshot.ids)
        titles: list[str] = [] if snapshot.titles is None else snapshot.titles.tolist()
        titles += [] if snapshot.others is None else snapshot.others.titles.tolist()
        titles = [title.casefold() for title in titles]
        self._text = "\n".join(title.replace("\n", " ") for title in titles) + "\n"
        self._starts: NDArray[np.int64] = np.cumsum([0, *(len(title) + 1 for title in titles)])
        self._popularity = snapshot.popularity

    def find(self, query: str, k: int) -> Found:
        """At most k items; those that the model has come first."""
        found = self._with(query.casefold().split())
        rows = sorted((row for row in found if row < self._n), key=lambda row: (-int(self._popularity[row]), row))[:k]
        others = sorted((row - self._n for row in found if row >= self._n), reverse=True)
        return Found(rows, others[: k - len(rows)])

    def _with(self, words: list[str]) -> set[int]:
        """The titles that have all words."""
        found: set[int] | None = None
        for word in sorted(words, key=len, reverse=True):
            at = [match.start() for match in re.finditer(re.escape(word), self._text)]
            rows = set((np.searchsorted(self._starts, at, side="right") - 1).tolist())
            found = rows if found is None else found & rows
            if not found:
                break
        return found or set()
