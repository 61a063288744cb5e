"""Search in titles: one text of all titles, so that a search is a few scans of it."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from pipeline.models.item_snapshot import ItemSnapshot

__all__ = ["ItemSearch"]


class ItemSearch:
    """Finds items whose titles have all words of a query, in any order and case; the most popular first."""

    def __init__(self, snapshot: ItemSnapshot) -> None:
        titles = [] if snapshot.titles is None else [str(title).casefold() for title in snapshot.titles.tolist()]
        self._text = "\n".join(title.replace("\n", " ") for title in titles) + "\n"
        self._starts: NDArray[np.int64] = np.cumsum([0, *(len(title) + 1 for title in titles)])
        self._popularity = snapshot.popularity

    def find(self, query: str, k: int) -> list[int]:
        """Item rows, at most k."""
        words = query.casefold().split()
        if not words:
            return []
        found: set[int] | None = None
        for word in sorted(words, key=len, reverse=True):
            at = [match.start() for match in re.finditer(re.escape(word), self._text)]
            rows = set((np.searchsorted(self._starts, at, side="right") - 1).tolist())
            found = rows if found is None else found & rows
            if not found:
                return []
        return sorted(found or (), key=lambda row: (-int(self._popularity[row]), row))[:k]
