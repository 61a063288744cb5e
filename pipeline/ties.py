"""Where a list is decided by the order of item ids, its scores being equal: counted, to be told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scorer import TopK
from pipeline.truth import Truth

__all__ = ["Ties"]

SAID = 100  # one in so many


@dataclass
class Ties:
    """Attributes
    ----------
    n_users : lists looked at
    tied_hits : held-out items in them with the very score of another item of the list, or of the one that comes next
    tied_ends : lists whose last item has the very score of the one that comes next
    """

    n_users: int = 0
    tied_hits: int = 0
    tied_ends: int = 0

    def count(self, top: TopK, truth: Truth, block: slice, lists: NDArray[np.int32], n_items: int) -> None:
        """Add a block: `top` has one place more than `lists` (users, k), the same as rows of training's items."""
        equal = (top.scores[:, 1:] == top.scores[:, :-1]) & (top.items[:, 1:] >= 0)
        self.n_users += lists.shape[0]
        self.tied_ends += int(np.count_nonzero(equal[:, -1]))
        tied = equal.copy()
        tied[:, 1:] |= equal[:, :-1]
        some = np.flatnonzero(equal.any(axis=1))
        hits = truth.hits(some + block.start, lists[some], n_items)
        self.tied_hits += int(np.count_nonzero(hits & tied[some]))

    def messages(self, n_hits: int, k: int) -> tuple[str, ...]:
        """A sentence, where ids decide one in a hundred or more; `n_hits` held-out items are listed in all."""
        if not (0 < n_hits <= SAID * self.tied_hits or 0 < self.n_users <= SAID * self.tied_ends):
            return ()
        return (
            f"equal scores are in the order of ids: the place of {self.tied_hits:,} of {n_hits:,} held-out items that "
            f"are listed hangs on it, and the last item of {self.tied_ends:,} of {self.n_users:,} lists of {k}",
        )
