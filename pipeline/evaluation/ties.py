"""Count ties: equal scores, where the order of item ids decides the list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.relevance import Relevance
from pipeline.ranking.scorer import TopK

__all__ = ["Ties"]

SAID = 100  # ties are reported where they decide one in so many


@dataclass
class Ties:
    """Attributes
    ----------
    n_users : number of lists
    tied_hits : held-out items in them whose score equals that of another item of the list, or of the next item after it
    tied_ends : lists whose last item has the same score as the next item after the list
    """

    n_users: int = 0
    tied_hits: int = 0
    tied_ends: int = 0

    def count(self, top: TopK, relevance: Relevance, block: slice, lists: NDArray[np.int32], n_items: int) -> None:
        """Add a block of users. `lists` (users, k) are training item rows; `top` is the same with one place more."""
        equal = (top.scores[:, 1:] == top.scores[:, :-1]) & (top.items[:, 1:] >= 0)
        self.n_users += lists.shape[0]
        self.tied_ends += int(np.count_nonzero(equal[:, -1]))
        tied = equal.copy()
        tied[:, 1:] |= equal[:, :-1]
        users = np.flatnonzero(equal.any(axis=1))
        hits = relevance.hits(users + block.start, lists[users], n_items)
        self.tied_hits += int(np.count_nonzero(hits & tied[users]))

    def messages(self, n_hits: int, k: int) -> tuple[str, ...]:
        """A sentence where ids decide one in `SAID` or more; `n_hits` is the number of held-out items in the lists."""
        if not (0 < n_hits <= SAID * self.tied_hits or 0 < self.n_users <= SAID * self.tied_ends):
            return ()
        return (
            f"items of equal score are ordered by id: this decides the rank of {self.tied_hits:,} of {n_hits:,} "
            f"held-out items in the lists, and the last item of {self.tied_ends:,} of {self.n_users:,} lists of {k}",
        )
