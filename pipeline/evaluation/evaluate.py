"""`evaluate(ranker, split) → Evaluation`: the metrics of the lists on held-out interactions, user by user.

All items of the training side are ranked, without the user's training interactions (of a split by whole items, the
held-out items). Every held-out interaction is
relevant. The users are evaluated in blocks, in one pass. docs/metrics.md has the formula of each metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import release_all, translated
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import PreparedInteractions
from pipeline.data.splits import Split
from pipeline.errors import UsageError
from pipeline.evaluation import metrics as m
from pipeline.evaluation.leakage import check_candidate, check_folded
from pipeline.evaluation.metric_names import holdout_name
from pipeline.evaluation.per_user import ACCURACY, NAMES, Given, diversity, measure, tally, worth_compiling
from pipeline.evaluation.rating_errors import evaluate_ratings
from pipeline.evaluation.relevance import relevant_items
from pipeline.evaluation.results import Evaluation, Report, averages
from pipeline.evaluation.ties import Ties
from pipeline.ranking.protocols import Ranker
from pipeline.runtime.progress import Progress
from pipeline.runtime.threads import ThreadPool

__all__ = [
    "Evaluation",
    "FoldIn",
    "evaluate",
    "evaluate_ranking",
    "evaluate_ratings",
    "fold_in_history",
    "history_over",
    "ranking_per_user",
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

    Users are evaluated who have a held-out interaction and are known to the ranker; a message counts the others.
    Lists are ranked once, to the largest k plus one place: that place shows ties at the end of a list.

    Parameters
    ----------
    fold_in : for a split by whole users: makes a ranker for the held-out users from their known history (over
        the ranker's items, untransformed scores)
    keep_lists : keep `Evaluation.lists`, 4 bytes a user and place
    compiled : measure with compiled kernels (True, needs numba), with numpy (False), or with what is faster
        (None); values agree up to the rounding of sums

    Raises
    ------
    LeakageError, UsageError
        Where the ranker was trained on more than the training side; for k < 1, or a split by users without `fold_in`.
    """
    ks = _ascending(ks)
    check_candidate(ranker, split)
    ranker = _ranker_of_users(ranker, split, fold_in)
    known = split.train if split.fold_in is None else split.fold_in
    relevance = relevant_items(ranker, split)
    n, k = relevance.rows.size, ks[-1]
    count = split.item_counts
    given = Given(relevance, count, m.popularity_bands(count), len(split.train.user_ids), ks)
    columns = {name: np.empty(n) for name in _names(ks)}
    with ThreadPool() if worth_compiling(n * k, compiled) else nullcontext() as threads:
        n_train, columns["consumed_popularity"] = _histories(known, split, relevance.user_ids, threads)
        segment, cuts = m.user_segments(n_train)
        lists, ties = _measure_lists(ranker, split, given, columns, threads, progress)
        _add_diversity(columns, lists, split, ks, threads)
    means = averages(columns, lists, segment, given.bands, ks)
    n_hits = round(k * float(columns[f"precision_at_{k}"].sum()))
    messages = (*relevance.messages, *_said_of_k(k if n else 0, len(ranker.items)), *ties.messages(n_hits, k))
    return Evaluation(
        ks=ks,
        user_ids=relevance.user_ids,
        n_train=n_train,
        n_relevant=relevance.n_relevant,
        segment=segment,
        cuts=cuts,
        per_user=columns,
        metrics=means.overall,
        by_segment=means.by_segment,
        messages=messages,
        split_digest=split.digest,
        lists=lists if keep_lists else None,
    )


def _said_of_k(k: int, n_items: int) -> list[str]:
    if k <= n_items:
        return []
    return [f"k = {k} exceeds the {n_items:,} items that are ranked: the lists end there"]


def _ascending(ks: Sequence[int]) -> tuple[int, ...]:
    """Raises UsageError for k < 1, and for none."""
    ascending = tuple(sorted(set(ks)))
    if not ascending or ascending[0] < 1:
        raise UsageError(f"k must be at least 1, got {list(ascending)}")
    return ascending


def _ranker_of_users(ranker: Ranker, split: Split, fold_in: FoldIn | None) -> Ranker:
    """The ranker of the held-out users: `ranker` itself, or the one that folds them in for a split by users.

    Raises UsageError without `fold_in` for such a split, LeakageError as `check_folded`.
    """
    if split.fold_in is None:
        return ranker
    if fold_in is None:
        raise UsageError("Held-out users must be folded in: this split needs a model that can do that")
    ranker = fold_in(fold_in_history(split, ranker))
    check_folded(ranker, split)
    return ranker


def _measure_lists(
    ranker: Ranker,
    split: Split,
    given: Given,
    columns: Mapping[str, NDArray[np.float64]],
    threads: ThreadPool | None,
    progress: Progress | None,
) -> tuple[NDArray[np.int32], Ties]:
    """Rank the evaluated users block by block, and write each block's metrics into `columns`.

    Returns the lists (n, max k) as item rows of `split.items`, and the count of ties in them.
    """
    relevance, ks = given.relevance, given.ks
    n, n_items, k = relevance.rows.size, len(split.items), ks[-1]
    lists = np.empty((n, k), np.int32)
    item = np.append(split.items.rows(ranker.items.values), np.int32(-1))  # -1 stays -1
    ranked = _ranked(ranker, split)
    ties = Ties()
    for start in range(0, n, _USERS_A_BLOCK):
        block = slice(start, min(start + _USERS_A_BLOCK, n))
        top = ranker.recommend_rows(relevance.rows[block], k + 1, allow=ranked)
        lists[block] = item[top.items[:, :k]]
        table = measure(given, block, lists[block], threads)
        for name, values in zip(_measured_names(ks), table, strict=True):
            columns[name][block] = values
        ties.count(top, relevance, block, lists[block], n_items)
        release_all()  # what was read of seen items on disk
        if progress is not None:
            progress("evaluation", block.stop, n)
    return lists, ties


def _add_diversity(
    columns: Mapping[str, NDArray[np.float64]],
    lists: NDArray[np.int32],
    split: Split,
    ks: tuple[int, ...],
    threads: ThreadPool | None,
) -> None:
    if not len(lists):
        return
    train = to_matrix(split.train).scores
    columns_of = split.items.rows(split.train.item_ids.values)
    shape = (train.shape[0], len(split.items))
    columns_of_cells = train.indices if columns_of.size == shape[1] else translated(train.indices, columns_of)
    similarity = m.cosine_of_users(sparse.csr_matrix((train.data, columns_of_cells, train.indptr), shape=shape))
    release_all()
    for k, values in zip(ks, diversity(lists, similarity, ks, threads), strict=True):
        columns[f"diversity_at_{k}"][:] = values


def _ranked(ranker: Ranker, split: Split) -> NDArray[np.int32] | None:
    """The ranker's item rows that lists are made of; None: all."""
    if split.ranked is None:
        return None
    rows = ranker.items.rows(split.ranked.values, missing="negative")
    return rows[rows >= 0]


def evaluate_ranking(ranker: Ranker, split: Split, k: int = 10, part: str = "holdout") -> Report:
    """NDCG and recall at k alone, with the values of `evaluate`.

    Recall divides by the number n of a user's held-out interactions, and the ideal DCG has min(k, n) items, so an
    item that is absent from training counts as missed.
    """
    per_user = ranking_per_user(ranker, split, k)
    logged = {name: holdout_name(name, part=part) for name in per_user}
    if not next(iter(per_user.values())).size:
        return Report(messages=(f"{' and '.join(logged.values())} left out: no known user has a held-out interaction",))
    return Report({logged[name]: float(values.mean()) for name, values in per_user.items()})


def ranking_per_user(ranker: Ranker, split: Split, k: int = 10) -> dict[str, NDArray[np.float64]]:
    """NDCG and recall at k of each user who is evaluated, ``ndcg_at_10`` → (n,), with the values of `evaluate`."""
    check_candidate(ranker, split)
    relevance = relevant_items(ranker, split)
    n = relevance.rows.size
    item, ranked = np.append(split.items.rows(ranker.items.values), np.int32(-1)), _ranked(ranker, split)
    ndcg, recall = np.empty(n), np.empty(n)
    for start in range(0, n, _USERS_A_BLOCK):
        users = np.arange(start, min(start + _USERS_A_BLOCK, n))
        listed = item[ranker.recommend_rows(relevance.rows[users], k, allow=ranked).items]
        hits, n_relevant = relevance.hits(users, listed, item.size), relevance.n_relevant[users]
        ndcg[users] = m.ndcg_at_k(hits, n_relevant)
        recall[users] = m.recall_at_k(hits, n_relevant)
        release_all()
    return {f"ndcg_at_{k}": ndcg, f"recall_at_{k}": recall}


def fold_in_history(split: Split, ranker: Ranker) -> UserItems:
    """The held-out users' known history over the ranker's items, (n_held_out, n_items), untransformed scores.

    Items that are absent from training are left out; a user's row may be empty.
    """
    if split.fold_in is None:
        raise UsageError("Nothing is folded in: the split holds out no whole users")
    return history_over(split.fold_in.compact(), ranker.items)


def history_over(x: PreparedInteractions, items: IdMap) -> UserItems:
    """The interactions as a matrix over these items, (n_users, n_items); other items are left out."""
    # Both id maps ascend, so the remaining cells keep their order.
    cols = items.rows(x.item_ids.values, missing="negative")[x.items]
    known = cols >= 0
    indptr = np.append(0, np.cumsum(np.bincount(x.users[known], minlength=len(x.user_ids))))
    shape = (len(x.user_ids), len(items))
    return UserItems(sparse.csr_matrix((x.scores[known], cols[known], indptr), shape=shape), x.user_ids, items)


def _histories(
    known: Interactions,
    split: Split,
    user_ids: NDArray[Any],
    threads: ThreadPool | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The number of known interactions of each evaluated user, and the mean popularity of their items."""
    cols = split.items.rows(known.item_ids.values, missing="negative")
    popularity = np.where(cols >= 0, np.append(split.item_counts, 0)[cols], 0).astype(np.float64)
    n, total = tally(known.users, known.items, len(known.user_ids), popularity, threads)
    rows = known.user_ids.rows(user_ids, missing="negative")
    n, total = np.append(n, 0)[rows], np.append(total, 0.0)[rows]
    return n, np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _names(ks: Sequence[int]) -> list[str]:
    """Names of the per-user columns, in the order in which they are written."""
    kinds = [*ACCURACY, "novelty", "diversity", "popularity"]
    return [f"{kind}_at_{k}" for k in ks for kind in kinds] + [f"recall_at_{k}_{b}" for k in ks for b in m.BANDS]


def _measured_names(ks: Sequence[int]) -> list[str]:
    """Names of the rows that `measure` returns."""
    return [name.format(k=k) for k in ks for name in NAMES]
