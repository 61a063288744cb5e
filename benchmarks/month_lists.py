"""Published lists against what users did afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from month_data import Events
from numpy.typing import NDArray

__all__ = ["Lists", "ndcg_of", "popular_lists", "read_lists"]

K = 10
Lists = dict[int, list[int]]  # user → items, best first


def read_lists(warehouse: Any) -> Lists | None:
    """The published table; None where there is none, or nothing in it."""
    if warehouse.engine("analytics.recommendations") is None:
        return None
    table = warehouse.table(
        "SELECT user_id, groupArray(item_id) AS items FROM "
        "(SELECT user_id, item_id FROM analytics.recommendations WHERE rank <= 10 ORDER BY user_id, rank) "
        "GROUP BY user_id"
    )
    return dict(zip(table["user_id"].to_pylist(), table["items"].to_pylist(), strict=True)) or None


def popular_lists(truth: Events, past: Events) -> Lists:
    """For each user of the truth, the items with most events in the past that they have none with."""
    films, counts = np.unique(past.items, return_counts=True)
    best = films[np.lexsort((films, -counts))][:500].tolist()
    users = np.unique(truth.users)
    seen: dict[int, set[int]] = {int(user): set() for user in users}
    mine = np.isin(past.users, users)
    for user, item in zip(past.users[mine].tolist(), past.items[mine].tolist(), strict=True):
        seen[user].add(item)
    return {user: [item for item in best if item not in gone][:K] for user, gone in seen.items()}


def ndcg_of(truth: Events, past: Events, tables: Sequence[Lists | None]) -> list[NDArray[np.float64]]:
    """NDCG@10 of each table for each user who has a list in any of the first two; a user without one counts as 0.

    Relevant is each item of the truth that the user had nothing to do with before.
    """
    had = set(zip(past.users.tolist(), past.items.tolist(), strict=True))
    relevant: dict[int, set[int]] = {}
    for pair in zip(truth.users.tolist(), truth.items.tolist(), strict=True):
        if pair not in had:
            relevant.setdefault(pair[0], set()).add(pair[1])
    users = [user for user in sorted(relevant) if any(user in lists for lists in tables[:2] if lists)]
    gain = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.cumsum(gain)
    return [
        np.array(
            [
                sum(gain[rank] for rank, item in enumerate((lists or {}).get(user, ())[:K]) if item in relevant[user])
                / ideal[min(K, len(relevant[user])) - 1]
                for user in users
            ]
        )
        for lists in tables
    ]
