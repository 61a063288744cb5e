"""`Relevance`: the users who are evaluated, and their relevant items, from a split and the ranker's users."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mapped import counts_of, empty_beside, parts, release
from pipeline.data.splits import Split, holds
from pipeline.ranking.protocols import Ranker

__all__ = ["Relevance", "relevant_items"]


class Relevance(NamedTuple):
    """Relevant items of n evaluated users, in the order of their ids.

    rows : (n,) the ranker's user rows
    user_ids : (n,)
    n_relevant : (n,) int64, number of held-out items, with those that are absent from training
    start, relevant : (n + 1,) int64 and int32: user u's held-out items that can be ranked are the ascending rows
        relevant[start[u] : start[u + 1]] of the split's `items`
    messages : sentences about the users and interactions that are left out
    """

    rows: NDArray[np.intp]
    user_ids: NDArray[Any]
    n_relevant: NDArray[np.int64]
    start: NDArray[np.int64]
    relevant: NDArray[np.int32]
    messages: tuple[str, ...]

    def hits(self, users: NDArray[np.intp], lists: NDArray[np.int32], n_items: int) -> NDArray[np.bool_]:
        """Which places of the lists (m, k) of item rows are relevant; `users` (m,) are ascending positions here."""
        n = self.start[users + 1] - self.start[users]
        row_of = np.repeat(np.arange(users.size), n)
        position = np.arange(row_of.size) - np.repeat(np.cumsum(n) - n, n) + np.repeat(self.start[users], n)
        keys = np.arange(users.size)[:, None] * n_items + lists
        return holds(row_of * n_items + self.relevant[position], keys) & (lists >= 0)


def relevant_items(ranker: Ranker, split: Split) -> Relevance:
    """The users of `split.test` who are known to the ranker, with their held-out items."""
    test = split.test
    row_of = ranker.users.rows(test.user_ids.values, missing="negative")
    col_of = split.items.rows(test.item_ids.values, missing="negative")
    held_out = counts_of(test.users, row_of.size)
    known = (row_of >= 0) & (held_out > 0)
    # Both id maps ascend, so these rows are in the order of the ids.
    rows = row_of[known].astype(np.intp)
    position = np.where(known, np.cumsum(known) - 1, -1)
    start, relevant, n_evaluated = np.zeros(rows.size + 1, np.int64), empty_beside(test.items, len(test)), 0
    done = 0
    for part in parts(len(test)):
        users, cols = position[test.users[part]], col_of[test.items[part]]
        n_evaluated += int(np.count_nonzero(users >= 0))
        seen = (users >= 0) & (cols >= 0)
        start[1:] += np.bincount(users[seen], minlength=rows.size)
        some = cols[seen]
        relevant[done : done + some.size] = some
        done += some.size
        release(test.users, test.items, relevant)
    np.cumsum(start, out=start)
    messages = []
    if n := int(np.count_nonzero((row_of < 0) & (held_out > 0))):
        messages.append(
            f"{n:,} users with {int(held_out[row_of < 0].sum()):,} held-out interactions are left out: "
            "they have no training interaction"
        )
    if n := int(n_evaluated - start[-1]):
        messages.append(f"{n:,} held-out interactions are of items that training has not seen: they count as missed")
    if not rows.size:
        messages.append("ranking metrics left out: no known user has a held-out interaction")
    n_relevant = held_out[known].astype(np.int64)
    return Relevance(rows, ranker.users.ids(rows), n_relevant, start, relevant[:done], tuple(messages))
