"""The leave-one-out protocol with sampled negatives: each held-out item ranked among a few that are not.

Of the literature (He et al. 2017 and many after), for comparison with published tables alone: which model
wins among 99 random items need not win among all of them (Krichene & Rendle 2020). `evaluate` ranks all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, UsageError
from pipeline.ids import IdMap
from pipeline.ranker import Ranker
from pipeline.report import Report
from pipeline.splits import Split, check_candidate, holds, pair_keys

__all__ = ["Negatives", "evaluate_sampled", "sample_negatives"]

_ROWS = 8192  # held-out interactions at once


@dataclass(frozen=True, eq=False)
class Negatives:
    """Each held-out interaction with the items that it is ranked among, by external id.

    users, items : (n,) ids of the pairs
    start : (n + 1,) int64, negatives[start[i] : start[i + 1]] are those of pair i
    negatives : (start[-1],) item ids
    """

    users: NDArray[Any]
    items: NDArray[Any]
    start: NDArray[np.int64]
    negatives: NDArray[Any]

    def __post_init__(self) -> None:
        n = self.users.size
        if self.items.size != n or self.start.shape != (n + 1,) or int(self.start[-1]) != self.negatives.size:
            raise InputError("Negatives need an item and a range for each user")


def evaluate_sampled(
    ranker: Ranker,
    split: Split,
    negatives: int | Negatives = 99,
    ks: Sequence[int] = (10,),
    *,
    seed: int = 42,
    prefix: str = "",
) -> Report:
    """Hit rate, NDCG and MRR at k of each held-out item among its negatives, averaged over held-out interactions.

    With one relevant item at rank r: hit rate = [r ≤ k], NDCG = [r ≤ k] / log₂(r + 1), MRR = [r ≤ k] / r;
    recall is the hit rate. Ranks are by score, ties by item id, as in every list.

    Parameters
    ----------
    negatives : how many to draw for each (`sample_negatives`), or given ones (of the protocol's file). Every
        given pair must be held out. An item that the ranker does not know ranks after all that it does.

    Raises
    ------
    LeakageError
        As `check_candidate`.
    InputError
        For given negatives whose pair is not held out.
    """
    check_candidate(ranker, split)
    if not ks or min(ks) < 1:
        raise UsageError(f"k must be at least 1, got {list(ks)}")
    given = sample_negatives(split, negatives, seed) if isinstance(negatives, int) else negatives
    _check_given(given, split)
    users = ranker.users.rows(given.users, missing="negative")
    known = np.flatnonzero(users >= 0)
    messages = []
    if known.size < users.size:
        messages.append(
            f"{users.size - known.size:,} held-out interactions are left out: their users have no training interaction"
        )
    if not known.size:
        return Report(messages=(*messages, "ranking metrics left out: no known user has a held-out interaction"))
    # Below every rank, for an item that can't be ranked.
    ids = IdMap.of(np.concatenate([ranker.items.values, given.items, given.negatives]))
    place_of_item, place_of_negative = ids.rows(given.items), ids.rows(given.negatives)
    item, negative = (ranker.items.rows(x, missing="negative") for x in (given.items, given.negatives))
    rank = np.empty(known.size, np.int64)
    n_tied = 0
    for first in range(0, known.size, _ROWS):
        pairs = known[first : first + _ROWS]
        n = given.start[pairs + 1] - given.start[pairs]
        of = np.repeat(np.arange(pairs.size), n)
        at = np.arange(of.size) - np.repeat(np.cumsum(n) - n, n) + np.repeat(given.start[pairs], n)
        mine = _scores(ranker, users[pairs], item[pairs])[of]
        other = _scores(ranker, users[pairs][of], negative[at])
        # Items that no model knows tie too, but with them the held-out one is missed or first anyway.
        tied = (other == mine) & (other > -np.inf) & (place_of_negative[at] != place_of_item[pairs][of])
        n_tied += np.unique(of[tied]).size
        ahead = (other > mine) | ((other == mine) & (place_of_negative[at] < place_of_item[pairs][of]))
        rank[first : first + _ROWS] = 1 + np.bincount(of, ahead, minlength=pairs.size).astype(np.int64)
        rank[first : first + _ROWS][item[pairs] < 0] = np.iinfo(np.int64).max
    if n_tied:
        messages.append(
            f"{n_tied:,} of {known.size:,} held-out items have the very score of one of their negatives: "
            "the order of ids decides"
        )
    found: dict[str, float] = {}
    for k in ks:
        hit = rank <= k
        place = np.where(hit, rank, 1).astype(np.float64)
        found |= {
            f"{prefix}hit_rate_at_{k}": float(hit.mean()),
            f"{prefix}recall_at_{k}": float(hit.mean()),
            f"{prefix}ndcg_at_{k}": float(np.where(hit, 1 / np.log2(place + 1), 0.0).mean()),
            f"{prefix}mrr_at_{k}": float(np.where(hit, 1 / place, 0.0).mean()),
        }
    return Report(found, tuple(messages))


def sample_negatives(split: Split, n: int = 99, seed: int = 42) -> Negatives:
    """n distinct training items for each held-out interaction, that its user has on no side; by seed.

    Uniform over them; all of them, where there are fewer.
    """
    if n < 1:
        raise UsageError(f"At least 1 negative is needed, got {n}")
    items, users = split.train.item_ids, split.test.user_ids
    n_items, test = len(items), split.test
    theirs = [pair_keys(x, users, items) for x in (split.train, split.test, split.fold_in) if x is not None]
    taken = np.unique(np.concatenate(theirs))
    taken = taken[taken >= 0]
    first = np.searchsorted(taken, test.users.astype(np.int64) * n_items)
    last = np.searchsorted(taken, (test.users.astype(np.int64) + 1) * n_items)
    wanted = np.minimum(n, n_items - (last - first))
    rng = np.random.default_rng(seed)
    drawn: list[NDArray[np.int64]] = []
    for start in range(0, len(test), _ROWS):
        block = slice(start, min(start + _ROWS, len(test)))
        user = test.users[block].astype(np.int64)[:, None]
        some = rng.integers(0, max(n_items, 1), (user.size, n + 8))
        free = ~holds(taken, user * n_items + some)
        # The first of each item alone: a stable sort puts equal ones in the order they were drawn in.
        order = np.argsort(some, axis=1, kind="stable")
        ordered = np.take_along_axis(some, order, axis=1)
        again = np.zeros_like(free)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        free &= ~again
        for row, of in enumerate(range(block.start, block.stop)):
            found = some[row][free[row]][: wanted[of]]
            if found.size < wanted[of]:
                # Many are taken: choose among those that are left.
                left = np.setdiff1d(np.arange(n_items), taken[first[of] : last[of]] - int(user[row, 0]) * n_items)
                found = rng.choice(left, int(wanted[of]), replace=False)
            drawn.append(found)
    flat = np.concatenate(drawn) if drawn else np.empty(0, np.int64)
    start_of = np.zeros(len(test) + 1, np.int64)
    np.cumsum(wanted, out=start_of[1:])
    return Negatives(users.ids(test.users), test.item_ids.ids(test.items), start_of, items.ids(flat))


def _check_given(given: Negatives, split: Split) -> None:
    test = split.test
    rows = test.user_ids.rows(given.users, missing="negative").astype(np.int64)
    cols = test.item_ids.rows(given.items, missing="negative")
    keys = np.where((rows >= 0) & (cols >= 0), rows * len(test.item_ids) + cols, -1)
    missing = ~holds(np.sort(pair_keys(test, test.user_ids, test.item_ids)), keys)
    if missing.any():
        at = int(np.argmax(missing))
        raise InputError(
            f"{int(np.count_nonzero(missing))} pair(s) of the negatives are not held out, "
            f"({given.users[at]},{given.items[at]}) first: are they of the same test file?"
        )


def _scores(ranker: Ranker, rows: NDArray[np.int32], cols: NDArray[np.int32]) -> NDArray[np.float32]:
    """(n,), -∞ for an item that the ranker does not know."""
    scores = np.full(rows.size, -np.inf, np.float32)
    known = cols >= 0
    scores[known] = ranker.model.predict(rows[known], cols[known])
    return scores
