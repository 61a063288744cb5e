"""`evaluate(ranker, split) → Evaluation`: how the lists fare on what was held out, user by user.

All of the training side's items are ranked, training interactions left out; relevant is every held-out
interaction. One pass over the users, in blocks. docs/metrics.md has each metric's formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline import metrics as m
from pipeline.crew import Crew
from pipeline.errors import UsageError
from pipeline.evaluation import Evaluation, averages
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.matrix import UserItems, in_order, to_matrix
from pipeline.measured import ACCURACY, NAMES, Given, diversity, measure, tally, worth_compiling
from pipeline.ranker import Ranker
from pipeline.ratings import evaluate_ratings
from pipeline.report import Progress, Report
from pipeline.splits import Split, check_candidate, check_folded
from pipeline.ties import Ties
from pipeline.truth import truth_of

__all__ = [
    "Evaluation",
    "FoldIn",
    "evaluate",
    "evaluate_ranking",
    "evaluate_ratings",
    "fold_in_history",
    "history_over",
]

FoldIn = Callable[[UserItems], Ranker]

_USERS_A_BLOCK = 1 << 14


def evaluate(
    ranker: Ranker,
    split: Split,
    ks: Sequence[int] = (10,),
    *,
    fold_in: FoldIn | None = None,
    keep_lists: bool = False,
    compiled: bool | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Every ranking metric at each of `ks`, of each user and on average, by segment and by popularity band.

    Over the users who have a held-out interaction and are known to the ranker; the others are counted in
    a message. Lists are ranked once, to the largest k and one place more, which tells where ids decide.

    Parameters
    ----------
    fold_in : for a split by whole users: given the held-out users' known history (over the ranker's items,
        scores as they are), a ranker for those users
    keep_lists : keep `Evaluation.lists`, 4 bytes a user and place
    compiled : measure with compiled kernels (True, needs numba), with numpy (False), or with what is faster
        (None); values agree but for the last bits of a sum

    Raises
    ------
    LeakageError
        Where the ranker knows more than the training side.
    UsageError
        For k < 1, or a split by users without `fold_in`.
    """
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 1:
        raise UsageError(f"k must be at least 1, got {list(ks)}")
    check_candidate(ranker, split)
    known = split.train
    if split.fold_in is not None:
        if fold_in is None:
            raise UsageError("Held-out users must be folded in: this split needs a model that can do that")
        known = split.fold_in
        ranker = fold_in(fold_in_history(split, ranker))
        check_folded(ranker, split)
    truth = truth_of(ranker, split)
    n, n_items, k = truth.rows.size, len(split.train.item_ids), ks[-1]
    count = np.bincount(split.train.items, minlength=n_items)
    given = Given(truth, count, m.popularity_bands(count), len(split.train.user_ids), ks)
    columns = {name: np.empty(n) for name in _names(ks)}
    lists = np.empty((n, k), np.int32)
    item = np.append(split.train.item_ids.rows(ranker.items.values), np.int32(-1))  # -1 stays -1
    ties = Ties()
    with Crew() if worth_compiling(n * k, compiled) else nullcontext() as crew:
        n_train, columns["consumed_popularity"] = _histories(known, split.train, count, truth.user_ids, crew)
        segment, cuts = m.user_segments(n_train)
        for start in range(0, n, _USERS_A_BLOCK):
            block = slice(start, min(start + _USERS_A_BLOCK, n))
            top = ranker.recommend_rows(truth.rows[block], k + 1)
            lists[block] = item[top.items[:, :k]]
            table = measure(given, block, lists[block], crew)
            for name, values in zip(_measured_names(ks), table, strict=True):
                columns[name][block] = values
            ties.count(top, truth, block, lists[block], n_items)
            if progress is not None:
                progress("evaluation", block.stop, n)
        if n:
            likeness = m.cosine_of_users(to_matrix(in_order(split.train)).scores)
            for top_k, values in zip(ks, diversity(lists, likeness, ks, crew), strict=True):
                columns[f"diversity_at_{top_k}"][:] = values
    found = averages(columns, lists, segment, given.bands, ks)
    return Evaluation(
        ks=ks,
        user_ids=truth.user_ids,
        n_train=n_train,
        n_relevant=truth.n_relevant,
        segment=segment,
        cuts=cuts,
        per_user=columns,
        metrics=found.overall,
        by_segment=found.by_segment,
        messages=(*truth.messages, *ties.messages(round(k * float(columns[f"precision_at_{k}"].sum())), k)),
        split_digest=split.digest,
        lists=lists if keep_lists else None,
    )


def evaluate_ranking(ranker: Ranker, split: Split, k: int = 10, prefix: str = "holdout_") -> Report:
    """NDCG and recall at k alone, as `evaluate` has them.

    Recall divides by all of a user's held-out interactions and the ideal of NDCG by min(k, n), so an item
    that training has not seen counts as missed.
    """
    check_candidate(ranker, split)
    truth = truth_of(ranker, split)
    n = truth.rows.size
    if not n:
        return Report(
            messages=(
                f"{prefix}ndcg_at_{k} and {prefix}recall_at_{k} left out: no known user has a held-out interaction",
            )
        )
    item = np.append(split.train.item_ids.rows(ranker.items.values), np.int32(-1))
    ndcg, recall = np.empty(n), np.empty(n)
    for start in range(0, n, _USERS_A_BLOCK):
        users = np.arange(start, min(start + _USERS_A_BLOCK, n))
        listed = item[ranker.recommend_rows(truth.rows[users], k).items]
        hits, n_relevant = truth.hits(users, listed, item.size), truth.n_relevant[users]
        ndcg[users] = m.ndcg_at_k(hits, n_relevant)
        recall[users] = m.recall_at_k(hits, n_relevant)
    return Report({f"{prefix}ndcg_at_{k}": float(ndcg.mean()), f"{prefix}recall_at_{k}": float(recall.mean())})


def fold_in_history(split: Split, ranker: Ranker) -> UserItems:
    """The held-out users' known history over the ranker's items, (n_held_out, n_items), scores as they are.

    Items that training has not seen are left out; a user may be left with none.
    """
    if split.fold_in is None:
        raise UsageError("Nothing is folded in: the split holds out no whole users")
    return history_over(in_order(split.fold_in.compact()), ranker.items)


def history_over(x: Interactions, items: IdMap) -> UserItems:
    """Interactions in order as a matrix over these items, (n_users, n_items); what is of other items is left out."""
    # Both id maps ascend, so the cells stay in order without the items that are left out.
    cols = items.rows(x.item_ids.values, missing="negative")[x.items]
    kept = cols >= 0
    indptr = np.append(0, np.cumsum(np.bincount(x.users[kept], minlength=len(x.user_ids))))
    shape = (len(x.user_ids), len(items))
    return UserItems(sparse.csr_matrix((x.scores[kept], cols[kept], indptr), shape=shape), x.user_ids, items)


def _histories(
    known: Interactions, train: Interactions, count: NDArray[np.int64], user_ids: NDArray[Any], crew: Crew | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each judged user: the number of known interactions, and the mean popularity of their items."""
    cols = train.item_ids.rows(known.item_ids.values, missing="negative")
    popularity = np.where(cols >= 0, np.append(count, 0)[cols], 0).astype(np.float64)
    n, total = tally(known.users, known.items, len(known.user_ids), popularity, crew)
    rows = known.user_ids.rows(user_ids, missing="negative")
    n, total = np.append(n, 0)[rows], np.append(total, 0.0)[rows]
    return n, np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _names(ks: Sequence[int]) -> list[str]:
    """Columns of each user, in the order in which they are written down."""
    kinds = [*ACCURACY, "novelty", "diversity", "popularity"]
    return [f"{kind}_at_{k}" for k in ks for kind in kinds] + [f"recall_at_{k}_{b}" for k in ks for b in m.BANDS]


def _measured_names(ks: Sequence[int]) -> list[str]:
    """Rows of `measure`."""
    return [name.format(k=k) for k in ks for name in NAMES]
