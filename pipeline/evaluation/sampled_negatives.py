"""The leave-one-out protocol with sampled negatives: each held-out item is ranked among a few other items.

Use it only to compare with the tables of papers (He et al. 2017 and many after): the model that wins among 99 random
items need not win among all items (Krichene & Rendle 2020). `evaluate` ranks all items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap, distinct
from pipeline.data.interactions import Interactions
from pipeline.data.splits import Split, holds, pair_keys
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.leakage import check_candidate
from pipeline.evaluation.results import Report
from pipeline.ranking.protocols import Ranker

__all__ = ["Negatives", "evaluate_sampled", "sample_negatives"]

_ROWS = 8192  # held-out interactions in a block


@dataclass(frozen=True, eq=False)
class Negatives:
    """Each held-out interaction with the items that it is ranked among, by external id.

    users, items : (n,) ids of the pairs
    start : (n + 1,) int64, negatives[start[i] : start[i + 1]] are the negatives of pair i
    negatives : (start[-1],) item ids
    asked : how many were to be drawn for each pair; 0 for given ones
    """

    users: NDArray[Any]
    items: NDArray[Any]
    start: NDArray[np.int64]
    negatives: NDArray[Any]
    asked: int = 0

    def __post_init__(self) -> None:
        n = self.users.size
        if self.items.size != n or self.start.shape != (n + 1,) or int(self.start[-1]) != self.negatives.size:
            raise InputError("Negatives need an item and a range for each user")

    def known_to(self, train: Interactions) -> NDArray[np.bool_]:
        """Which of the negatives are items that their user has in training, (start[-1],)."""
        users, items = train.user_ids, train.item_ids
        rows = np.repeat(users.rows(self.users, missing="negative").astype(np.int64), np.diff(self.start))
        cols = items.rows(self.negatives, missing="negative")
        keys = np.where((rows >= 0) & (cols >= 0), rows * len(items) + cols, -1)
        return holds(np.sort(pair_keys(train, users, items)), keys)

    def without(self, left_out: NDArray[np.bool_]) -> Negatives:
        """Without these negatives, (start[-1],)."""
        start = np.concatenate([[0], np.cumsum(~left_out)])[self.start]
        return replace(self, start=start.astype(np.int64), negatives=self.negatives[~left_out])

    def of(self, held_out: Interactions) -> Negatives:
        """Those of the pairs that are among the interactions."""
        users, items = held_out.user_ids, held_out.item_ids
        rows = users.rows(self.users, missing="negative").astype(np.int64)
        cols = items.rows(self.items, missing="negative")
        keys = np.where((rows >= 0) & (cols >= 0), rows * len(items) + cols, -1)
        chosen = holds(np.sort(pair_keys(held_out, users, items)), keys)
        n = np.diff(self.start)
        return Negatives(
            self.users[chosen],
            self.items[chosen],
            np.concatenate([[0], np.cumsum(n[chosen])]),
            self.negatives[np.repeat(chosen, n)],
            self.asked,
        )


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

    With one relevant item at rank r: hit rate = [r ≤ k], NDCG = [r ≤ k] / log₂(r + 1), MRR = [r ≤ k] / r.
    Recall equals the hit rate. Items are ranked by score, ties by item id, as in every list.

    Parameters
    ----------
    negatives : how many to draw for each pair (`sample_negatives`), or given negatives (from the protocol's file).
        Every given pair must be held out. An item unknown to the ranker ranks after all known items.

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
    messages += _said_of_candidates(given, max(ks))
    rank, n_tied = _ranks(ranker, given, users, known)
    if n_tied:
        messages.append(
            f"{n_tied:,} of {known.size:,} held-out items have the very score of one of their negatives: "
            "their ids decide the order"
        )
    return Report(_metrics_of_ranks(rank, ks, prefix), tuple(messages))


def _said_of_candidates(given: Negatives, k: int) -> list[str]:
    """Messages where a list has no more candidates than places, and where fewer were drawn than asked for."""
    messages = []
    n = np.diff(given.start)
    if n_fewer := int(np.count_nonzero(n < given.asked)):
        messages.append(
            f"{n_fewer:,} held-out items have fewer than {given.asked} negatives: their users have no more items left "
            f"(the fewest: {n.min()})"
        )
    if n_short := int(np.count_nonzero(n < k)):
        messages.append(
            f"k = {k} is at least the number of candidates of {n_short:,} held-out items: these are always in the list"
        )
    return messages


def _ranks(
    ranker: Ranker, given: Negatives, users: NDArray[np.int32], known: NDArray[np.intp]
) -> tuple[NDArray[np.int64], int]:
    """The rank of each known pair's item among its negatives, and how many of these items tie with a negative.

    users : (n,) the ranker's user row of each pair, -1 for an unknown user
    known : positions of the pairs whose user is known; the ranks are in this order
    """
    ids = IdMap.of(np.concatenate([ranker.items.values, given.items, given.negatives]))
    order_of_item, order_of_negative = ids.rows(given.items), ids.rows(given.negatives)
    item, negative = (ranker.items.rows(x, missing="negative") for x in (given.items, given.negatives))
    rank = np.empty(known.size, np.int64)
    n_tied = 0
    for first in range(0, known.size, _ROWS):
        pairs = known[first : first + _ROWS]
        n = given.start[pairs + 1] - given.start[pairs]
        pair_of = np.repeat(np.arange(pairs.size), n)
        position = np.arange(pair_of.size) - np.repeat(np.cumsum(n) - n, n) + np.repeat(given.start[pairs], n)
        item_score = _scores(ranker, users[pairs], item[pairs])[pair_of]
        negative_score = _scores(ranker, users[pairs][pair_of], negative[position])
        item_order, negative_order = order_of_item[pairs][pair_of], order_of_negative[position]
        # Two unknown items tie too; the rank of an unknown held-out item is set below, so they are not counted.
        equal = negative_score == item_score
        tied = equal & (negative_score > -np.inf) & (negative_order != item_order)
        n_tied += distinct(pair_of[tied]).size
        ahead = (negative_score > item_score) | (equal & (negative_order < item_order))
        rank[first : first + _ROWS] = 1 + np.bincount(pair_of, ahead, minlength=pairs.size).astype(np.int64)
        # Past every k, for an item that can't be ranked.
        rank[first : first + _ROWS][item[pairs] < 0] = np.iinfo(np.int64).max
    return rank, n_tied


def _metrics_of_ranks(rank: NDArray[np.int64], ks: Sequence[int], prefix: str) -> dict[str, float]:
    """Means over the ranks, by metric name."""
    metrics: dict[str, float] = {}
    for k in ks:
        hit = rank <= k
        hit_rank = np.where(hit, rank, 1).astype(np.float64)
        metrics |= {
            f"{prefix}hit_rate_at_{k}": float(hit.mean()),
            f"{prefix}recall_at_{k}": float(hit.mean()),
            f"{prefix}ndcg_at_{k}": float(np.where(hit, 1 / np.log2(hit_rank + 1), 0.0).mean()),
            f"{prefix}mrr_at_{k}": float(np.where(hit, 1 / hit_rank, 0.0).mean()),
        }
    return metrics


def sample_negatives(split: Split, n: int = 99, seed: int = 42) -> Negatives:
    """n distinct training items for each held-out interaction, drawn by `seed`.

    They are drawn uniformly from the items that the user has on no side; where there are fewer than n, all are taken.
    """
    if n < 1:
        raise UsageError(f"At least 1 negative is needed, got {n}")
    items, users = split.train.item_ids, split.test.user_ids
    n_items, test = len(items), split.test
    sides = [pair_keys(x, users, items) for x in (split.train, split.test, split.fold_in) if x is not None]
    taken = distinct(*sides)
    taken = taken[taken >= 0]
    first = np.searchsorted(taken, test.users.astype(np.int64) * n_items)
    last = np.searchsorted(taken, (test.users.astype(np.int64) + 1) * n_items)
    wanted = np.minimum(n, n_items - (last - first))
    rng = np.random.default_rng(seed)
    drawn: list[NDArray[np.int64]] = []
    for start in range(0, len(test), _ROWS):
        block = slice(start, min(start + _ROWS, len(test)))
        user = test.users[block].astype(np.int64)[:, None]
        candidates = rng.integers(0, max(n_items, 1), (user.size, n + 8))
        free = ~holds(taken, user * n_items + candidates)
        # Only the first draw of each item counts: a stable sort keeps equal items in the order of drawing.
        order = np.argsort(candidates, axis=1, kind="stable")
        ordered = np.take_along_axis(candidates, order, axis=1)
        repeated = np.zeros_like(free)
        np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        free &= ~repeated
        for row, pair in enumerate(range(block.start, block.stop)):
            chosen = candidates[row][free[row]][: wanted[pair]]
            if chosen.size < wanted[pair]:
                # The user has many of the items: choose among the remaining ones.
                taken_here = taken[first[pair] : last[pair]] - int(user[row, 0]) * n_items
                left = np.setdiff1d(np.arange(n_items), taken_here, assume_unique=True)
                chosen = rng.choice(left, int(wanted[pair]), replace=False)
            drawn.append(chosen)
    flat = np.concatenate(drawn) if drawn else np.empty(0, np.int64)
    start_of = np.zeros(len(test) + 1, np.int64)
    np.cumsum(wanted, out=start_of[1:])
    return Negatives(users.ids(test.users), test.item_ids.ids(test.items), start_of, items.ids(flat), n)


def _check_given(given: Negatives, split: Split) -> None:
    test = split.test
    rows = test.user_ids.rows(given.users, missing="negative").astype(np.int64)
    cols = test.item_ids.rows(given.items, missing="negative")
    keys = np.where((rows >= 0) & (cols >= 0), rows * len(test.item_ids) + cols, -1)
    missing = ~holds(np.sort(pair_keys(test, test.user_ids, test.item_ids)), keys)
    if missing.any():
        position = int(np.argmax(missing))
        raise InputError(
            f"{int(np.count_nonzero(missing))} pair(s) of the negatives are not held out, "
            f"({given.users[position]},{given.items[position]}) first: are they of the same test file?"
        )


def _scores(ranker: Ranker, rows: NDArray[np.int32], cols: NDArray[np.int32]) -> NDArray[np.float32]:
    """Scores of the pairs (rows[i], cols[i]), (n,); -∞ where cols[i] is -1, an item unknown to the ranker."""
    scores = np.full(rows.size, -np.inf, np.float32)
    known = cols >= 0
    scores[known] = ranker.model.predict(rows[known], cols[known])
    return scores
