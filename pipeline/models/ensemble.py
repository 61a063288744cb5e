"""Chooses the members of an ensemble and their weights on validation users.

Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew & Ksikes 2004): it begins with the best single model;
each round adds the member, chosen before or not, with which the mean NDCG@10 is highest. The weights are how often each
was chosen, up to the best round.

Weights that were chosen for some users flatter the ensemble on the same users. So it is measured by cross-validation
over the users: the weights of each fold are chosen on the other folds. The single model that it is compared with is the
best one on all of the users. With a split by time it must be surely better than each list for everybody among the
members, too; else that one is kept. There the validation part is one stretch of time, and what is a little better in it
is often worse in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, stored_cells
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout, random_split, time_split
from pipeline.models.block_scores import TOP, standard_scores
from pipeline.models.protocols import SavedModel
from pipeline.options.train import SplitWay

__all__ = [
    "MOST_USERS",
    "HeldOut",
    "Pools",
    "Selection",
    "held_out_of",
    "interactions_of",
    "pools_of",
    "select",
    "validation_split",
]

_K, _ROUNDS, _FOLDS = 10, 12, 5
# Fewer users tell nothing, and more than so many would only cost time and memory.
_FEWEST_USERS, MOST_USERS = 20, 2000
_CELLS = 1 << 21  # scores that are computed at a time


class Pools(NamedTuple):
    """For each of n users the items that any member ranks high, with the members' standard scores.

    Attributes
    ----------
    standard : (n_members, n, pool) float32; −∞ for a seen item
    relevant : (n, pool) bool, whether the user chose the item in the validation part
    n_relevant : (n,) int64 ≥ 1, all items that the user chose there
    """

    standard: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]

    def part(self, users: NDArray[np.bool_]) -> Pools:
        """Those of some users."""
        return Pools(self.standard[:, users], self.relevant[users], self.n_relevant[users])

    def ndcg(self, total: NDArray[np.float32]) -> NDArray[np.float64]:
        """NDCG@10 of each user's list by the scores `total` (n, pool), (n,)."""
        k = min(_K, total.shape[1])
        top = np.sort(np.argpartition(-total, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(total, top, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self.relevant, np.take_along_axis(top, order, axis=1), axis=1)
        discount = 1 / np.log2(np.arange(2, _K + 2))
        ideal = np.cumsum(discount)[np.minimum(self.n_relevant, _K) - 1]
        values: NDArray[np.float64] = (hits @ discount[:k]) / ideal
        return values


class Selection(NamedTuple):
    """Attributes
    ----------
    counts : how often each member was chosen; the best single one alone where the ensemble is not better
    best : the member that is trained alone, or that the ensemble is compared with
    better : whether the whole interval of the difference is above 0
    single, ensemble : mean NDCG@10 of the best single member, and of the ensemble by cross-validation
    difference, low, high : mean of the users' differences, with its interval of 95 %
    means : mean NDCG@10 of each member
    """

    counts: tuple[int, ...]
    best: int
    better: bool
    single: float
    ensemble: float
    difference: float
    low: float
    high: float
    means: tuple[float, ...]
    n_users: int


def interactions_of(user_items: UserItems) -> PreparedInteractions:
    """The cells of a matrix as interactions without times."""
    cells = user_items.scores.tocoo()
    users, items = cells.row.astype(np.int32), cells.col.astype(np.int32)
    x = Interactions(users, items, cells.data.astype(np.float32), user_items.users, user_items.items)
    return prepare_interactions(x, "last", None, None, 0).interactions


def validation_split(x: PreparedInteractions, share: float, split: SplitWay, seed: int) -> Split:
    """A share held out: at random or by time where the held-out part is; else each user's latest, given times."""
    if split == "time":
        return time_split(x, share)
    return random_split(x, share, seed) if split == "random" else holdout(x, share, seed)


class HeldOut(NamedTuple):
    """The validation part of n users.

    Attributes
    ----------
    rows : (n,) their rows in the training side
    relevant : csr (n_users, n_items) of the training side's users and items; a stored cell was held out
    n_relevant : (n,) ≥ 1, how many items were held out of each, with those that the training side does not have
    """

    rows: NDArray[np.intp]
    relevant: sparse.csr_matrix
    n_relevant: NDArray[np.int64]


def held_out_of(split: Split, seed: int) -> HeldOut:
    """What the split holds out of its users; of many users, `MOST_USERS` of them."""
    test, train = split.test, split.train
    row_of = train.user_ids.rows(test.user_ids.values, missing="negative")
    col_of = train.item_ids.rows(test.item_ids.values, missing="negative")
    held_out = np.bincount(test.users, minlength=row_of.size)
    users = np.flatnonzero((row_of >= 0) & (held_out > 0))
    if users.size > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).permutation(users)[:MOST_USERS])
    known = (row_of[test.users] >= 0) & (col_of[test.items] >= 0)
    cells = row_of[test.users[known]], col_of[test.items[known]]
    relevant = sparse.csr_matrix((np.ones(cells[0].size, np.int8), cells), (len(train.user_ids), len(train.item_ids)))
    return HeldOut(row_of[users].astype(np.intp), relevant, held_out[users].astype(np.int64))


def pools_of(members: Sequence[SavedModel], part: HeldOut) -> Pools:
    """The pools of the users of a validation part, by members that are fitted to its training side."""
    rows, relevant, n_relevant = part
    n_items, seen_of = len(members[0].items), members[0].seen
    size = min(n_items, TOP * len(members))
    standard = np.empty((len(members), rows.size, size), np.float32)
    hits = np.empty((rows.size, size), bool)
    step = max(1, _CELLS // max(n_items, 1))
    for start in range(0, rows.size, step):
        block = slice(start, start + step)
        some = rows[block]
        seen = stored_cells(seen_of.indptr, seen_of.indices, some)
        scores = np.empty((len(members), some.size, n_items), np.float32)
        high = np.zeros((some.size, n_items), bool)
        for i, member in enumerate(members):
            scores[i] = standard_scores(member, some, seen)
            high |= scores[i] > scores[i].min(axis=1, keepdims=True)
            scores[i][seen] = -np.inf
        high[seen] = False
        # The chosen items by row, and then others, which rank below them.
        items = np.argsort(~high, axis=1, kind="stable")[:, :size]
        chosen = np.zeros((some.size, n_items), bool)
        chosen[stored_cells(relevant.indptr, relevant.indices, some)] = True
        hits[block] = np.take_along_axis(chosen, items, axis=1)
        for i in range(len(members)):
            standard[i, block] = np.take_along_axis(scores[i], items, axis=1)
    return Pools(standard, hits, n_relevant)


def select(pools: Pools, seed: int, lists: Sequence[int] = ()) -> Selection:
    """The members and their weights.

    Parameters
    ----------
    seed : deals the users into folds
    lists : members that are the same list for everybody, one of which is kept where nothing is surely better
    """
    n_members, n_users = pools.standard.shape[:2]
    values = np.array([pools.ndcg(scores) for scores in pools.standard])
    means = tuple(values.mean(axis=1).tolist()) if n_users else (0.0,) * n_members
    best = int(np.argmax(means))
    plain = max(lists, key=lambda member: (means[member], -member)) if lists else None
    if n_members == 1 or n_users < _FEWEST_USERS:
        best = best if plain is None else plain
        return Selection(_alone(best, n_members), best, False, means[best], means[best], 0.0, 0.0, 0.0, means, n_users)
    fold = np.random.default_rng(seed).permutation(n_users) % _FOLDS
    crossed = np.empty(n_users)
    for i in range(_FOLDS):
        counts = _greedy(pools.part(fold != i))
        held_out = pools.part(fold == i)
        crossed[fold == i] = held_out.ndcg(_total(held_out, counts))
    over = {member: _difference(crossed - values[member]) for member in {best, *lists}}
    counts = _greedy(pools)
    better = all(low > 0 for _, low, _ in over.values()) and sum(count > 0 for count in counts) > 1
    if plain is not None and not better and _difference(values[best] - values[plain])[1] <= 0:
        best = plain
    chosen = counts if better else _alone(best, n_members)
    return Selection(chosen, best, better, means[best], float(crossed.mean()), *over[best], means, n_users)


def _alone(member: int, n_members: int) -> tuple[int, ...]:
    return tuple(int(i == member) for i in range(n_members))


def _difference(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of the users' differences, with its interval of 95 %."""
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))
    return mean, mean - 1.96 * error, mean + 1.96 * error


def _greedy(pools: Pools) -> tuple[int, ...]:
    """How often each member is chosen, up to the best round; of equal members the first."""
    n_members = pools.standard.shape[0]
    values = [float(pools.ndcg(scores).mean()) for scores in pools.standard]
    counts = [0] * n_members
    counts[int(np.argmax(values))] = 1
    best, most = tuple(counts), max(values)
    total = _total(pools, best)
    for _ in range(_ROUNDS - 1):
        values = [float(pools.ndcg(total + scores).mean()) for scores in pools.standard]
        chosen = int(np.argmax(values))
        counts[chosen] += 1
        total += pools.standard[chosen]
        if values[chosen] > most:
            best, most = tuple(counts), values[chosen]
    return best


def _total(pools: Pools, counts: Sequence[int]) -> NDArray[np.float32]:
    total = np.zeros(pools.standard.shape[1:], np.float32)
    for count, scores in zip(counts, pools.standard, strict=True):
        if count:
            total += count * scores
    return total
