"""`Truth`: who is judged, and by which items; made of a split and of who the ranker knows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.matrix import in_order
from pipeline.ranker import Ranker
from pipeline.splits import Split, holds

__all__ = ["Truth", "truth_of"]


class Truth(NamedTuple):
    """Of n judged users, in the order of their ids.

    rows : (n,) in the ranker
    user_ids : (n,)
    n_relevant : (n,) int64, all their held-out items, those that training has not seen too
    start, relevant : (n + 1,) int64 and int32: user u's held-out items that training knows are the ascending rows
        relevant[start[u] : start[u + 1]] of its items
    messages : who and what is left out, in sentences
    """

    rows: NDArray[np.intp]
    user_ids: NDArray[Any]
    n_relevant: NDArray[np.int64]
    start: NDArray[np.int64]
    relevant: NDArray[np.int32]
    messages: tuple[str, ...]

    def hits(self, users: NDArray[np.intp], lists: NDArray[np.int32], n_items: int) -> NDArray[np.bool_]:
        """Which places of the lists of these users (positions here, ascending), (m, k) item rows, are relevant."""
        n = self.start[users + 1] - self.start[users]
        of = np.repeat(np.arange(users.size), n)
        at = np.arange(of.size) - np.repeat(np.cumsum(n) - n, n) + np.repeat(self.start[users], n)
        keys = np.arange(users.size)[:, None] * n_items + lists
        return holds(of * n_items + self.relevant[at], keys) & (lists >= 0)


def truth_of(ranker: Ranker, split: Split) -> Truth:
    """Those who have a held-out interaction and are known to the ranker, by `split.test`."""
    test = in_order(split.test)
    row_of = ranker.users.rows(test.user_ids.values, missing="negative")
    col_of = split.train.item_ids.rows(test.item_ids.values, missing="negative")
    held_out = np.bincount(test.users, minlength=row_of.size)
    known = (row_of >= 0) & (held_out > 0)
    # Both id maps ascend: in the order of the ranker's rows, as of the ids.
    rows = row_of[known].astype(np.intp)
    cols = col_of[test.items]
    judged = known[test.users]
    seen = judged & (cols >= 0)
    position = np.cumsum(known) - 1
    start = np.zeros(rows.size + 1, np.int64)
    np.cumsum(np.bincount(position[test.users[seen]], minlength=rows.size), out=start[1:])
    messages = []
    if n := int(np.count_nonzero((row_of < 0) & (held_out > 0))):
        messages.append(
            f"{n:,} users with {int(held_out[row_of < 0].sum()):,} held-out interactions are left out: "
            "they have no training interaction"
        )
    if n := int(np.count_nonzero(judged) - start[-1]):
        messages.append(f"{n:,} held-out interactions are of items that training has not seen: they count as missed")
    if not rows.size:
        messages.append("ranking metrics left out: no known user has a held-out interaction")
    n_relevant = held_out[known].astype(np.int64)
    return Truth(rows, ranker.users.ids(rows), n_relevant, start, cols[seen], tuple(messages))
