"""`evaluate(ranker, split) → Evaluation`: how the lists fare on what was held out, user by user.

All of the training side's items are ranked, training interactions left out; relevant is every held-out
interaction. One pass over the users, in blocks. docs/metrics.md has each metric's formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline import metrics as m
from pipeline.errors import UsageError
from pipeline.evaluation import Evaluation, averages
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.matrix import UserItems, in_order, to_matrix
from pipeline.ranker import Ranker
from pipeline.ratings import evaluate_ratings
from pipeline.report import Progress, Report
from pipeline.splits import Split, check_candidate, check_folded, holds

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

_USERS_A_BLOCK = 4096
_USERS_A_CHUNK = 1 << 17  # whose lists are compared item by item at once

_ACCURACY = {
    "precision": m.precision_at_k,
    "recall": m.recall_at_k,
    "hit_rate": m.hit_rate_at_k,
    "ndcg": m.ndcg_at_k,
    "map": m.average_precision_at_k,
    "mrr": m.reciprocal_rank_at_k,
}


def evaluate(
    ranker: Ranker,
    split: Split,
    ks: Sequence[int] = (10,),
    *,
    fold_in: FoldIn | None = None,
    item_vectors: NDArray[Any] | None = None,
    cuts: tuple[int, int] | None = None,
    keep_lists: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Every ranking metric at each of `ks`, of each user and on average, by segment and by popularity band.

    Over the users who have a held-out interaction and are known to the ranker; the others are counted in
    a message. Lists are ranked once, to the largest k.

    Parameters
    ----------
    fold_in : for a split by whole users: given the held-out users' known history (over the ranker's items,
        scores as they are), a ranker for those users
    item_vectors : (n_train_items, d) to measure diversity by, rows as `split.train.item_ids`; default: the
        cosine of who has the items in training
    cuts : user segments' bounds, see `metrics.user_segments`; default: terciles
    keep_lists : keep `Evaluation.lists`, 4 bytes a user and place

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
    judged = _judged(ranker, split)
    n, n_items, k = judged.rows.size, len(split.train.item_ids), ks[-1]
    count = np.bincount(split.train.items, minlength=n_items)
    bands = m.popularity_bands(count)
    n_train, consumed = _histories(known, split.train, count, judged.user_ids)
    segment, cuts = m.user_segments(n_train, cuts)

    columns: dict[str, NDArray[np.float64]] = {}
    for name in _names(ks):
        columns[name] = np.empty(n)
    lists = np.empty((n, k), np.int32)
    in_band = _relevant_by_band(judged, bands, n_items)
    for block, listed, hits in _lists(ranker, split, judged, k):
        lists[block] = listed
        n_relevant = judged.n_relevant[block]
        of_band = np.where(hits, bands[listed], -1)
        for top in ks:
            for name, metric in _ACCURACY.items():
                columns[f"{name}_at_{top}"][block] = metric(hits[:, :top], n_relevant)
            for band, label in enumerate(m.BANDS):
                columns[f"recall_at_{top}_{label}"][block] = m.recall_at_k(
                    of_band[:, :top] == band, in_band[band, block]
                )
            columns[f"novelty_at_{top}"][block] = m.novelty(listed[:, :top], count, len(split.train.user_ids))
            columns[f"popularity_at_{top}"][block] = m.mean_popularity(listed[:, :top], count)
        if progress is not None:
            progress("evaluation", block.stop, n)
    _diversity(columns, lists, split, item_vectors, ks)
    columns["consumed_popularity"] = consumed
    found = averages(columns, lists, segment, bands, ks)
    return Evaluation(
        ks=ks,
        user_ids=judged.user_ids,
        n_train=n_train,
        n_relevant=judged.n_relevant,
        segment=segment,
        cuts=cuts,
        per_user=columns,
        metrics=found.overall,
        by_segment=found.by_segment,
        messages=judged.messages,
        split_digest=split.digest,
        lists=lists if keep_lists else None,
    )


def evaluate_ranking(ranker: Ranker, split: Split, k: int = 10, prefix: str = "holdout_") -> Report:
    """NDCG and recall at k alone, as `evaluate` has them.

    Recall divides by all of a user's held-out interactions and the ideal of NDCG by min(k, n), so an item
    that training has not seen counts as missed.
    """
    check_candidate(ranker, split)
    judged = _judged(ranker, split)
    if not judged.rows.size:
        return Report(
            messages=(
                f"{prefix}ndcg_at_{k} and {prefix}recall_at_{k} left out: no known user has a held-out interaction",
            )
        )
    ndcg, recall = np.empty(judged.rows.size), np.empty(judged.rows.size)
    for block, _, hits in _lists(ranker, split, judged, k):
        ndcg[block] = m.ndcg_at_k(hits, judged.n_relevant[block])
        recall[block] = m.recall_at_k(hits, judged.n_relevant[block])
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


class _Judged(NamedTuple):
    """Who is judged, (n,) each: rows in the ranker, ids, numbers of relevant items; and by what.

    relevant : ascending keys ``position · n_train_items + row in train.item_ids`` of the held-out items
        that training knows
    """

    rows: NDArray[np.intp]
    user_ids: NDArray[Any]
    n_relevant: NDArray[np.int64]
    relevant: NDArray[np.int64]
    messages: tuple[str, ...]


def _judged(ranker: Ranker, split: Split) -> _Judged:
    test = split.test
    row_of = ranker.users.rows(test.user_ids.values, missing="negative")
    col_of = split.train.item_ids.rows(test.item_ids.values, missing="negative").astype(np.int64)
    of_user = row_of[test.users]
    known = of_user >= 0
    n_relevant = np.bincount(of_user[known], minlength=len(ranker.users))
    rows = np.flatnonzero(n_relevant)
    position = np.cumsum(n_relevant > 0) - 1
    cols = col_of[test.items[known]]
    keys = (position[of_user[known]] * len(split.train.item_ids) + cols)[cols >= 0]
    messages = []
    if not known.all():
        n = np.unique(test.users[~known]).size
        messages.append(
            f"{n:,} users with {np.count_nonzero(~known):,} held-out interactions are left out: "
            "they have no training interaction"
        )
    if n := int(np.count_nonzero(cols < 0)):
        messages.append(f"{n:,} held-out interactions are of items that training has not seen: they count as missed")
    if not rows.size:
        messages.append("ranking metrics left out: no known user has a held-out interaction")
    return _Judged(rows, ranker.users.ids(rows), n_relevant[rows], np.sort(keys), tuple(messages))


def _lists(
    ranker: Ranker, split: Split, judged: _Judged, k: int
) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[np.bool_]]]:
    """Block by block: which users, their lists as rows of the training side's items, and what hits."""
    n_items = len(split.train.item_ids)
    item = np.append(split.train.item_ids.rows(ranker.items.values), np.int32(-1))  # -1 stays -1
    for start in range(0, judged.rows.size, _USERS_A_BLOCK):
        block = slice(start, min(start + _USERS_A_BLOCK, judged.rows.size))
        listed = item[ranker.recommend_rows(judged.rows[block], k).items]
        keys = np.arange(block.start, block.stop)[:, None] * n_items + listed
        yield block, listed, holds(judged.relevant, keys) & (listed >= 0)


def _histories(
    known: Interactions, train: Interactions, count: NDArray[np.int64], user_ids: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each judged user: the number of known interactions, and the mean popularity of their items."""
    n = np.bincount(known.users, minlength=len(known.user_ids))
    cols = train.item_ids.rows(known.item_ids.values, missing="negative")
    popularity = np.where(cols >= 0, np.append(count, 0)[cols], 0)
    total = np.bincount(known.users, popularity[known.items], minlength=n.size)
    rows = known.user_ids.rows(user_ids, missing="negative")
    n, total = np.append(n, 0)[rows], np.append(total, 0.0)[rows]
    return n, np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _relevant_by_band(judged: _Judged, bands: NDArray[np.int8], n_items: int) -> NDArray[np.int64]:
    """How many of each user's relevant items are in each band, (n_bands, n)."""
    user, item = np.divmod(judged.relevant, max(n_items, 1))
    return np.array(
        [np.bincount(user[bands[item] == band], minlength=judged.rows.size) for band in range(len(m.BANDS))]
    )


def _names(ks: Sequence[int]) -> list[str]:
    kinds = [*_ACCURACY, "novelty", "diversity", "popularity"]
    return [f"{kind}_at_{k}" for k in ks for kind in kinds] + [f"recall_at_{k}_{b}" for k in ks for b in m.BANDS]


def _diversity(
    columns: Mapping[str, NDArray[np.float64]],
    lists: NDArray[np.int32],
    split: Split,
    item_vectors: NDArray[Any] | None,
    ks: Sequence[int],
) -> None:
    if not lists.size:
        return
    if item_vectors is None:
        cosine = m.cosine_of_users(to_matrix(in_order(split.train)).scores)
    else:
        if item_vectors.shape[0] != len(split.train.item_ids):
            raise UsageError(f"{item_vectors.shape[0]} item vectors for {len(split.train.item_ids)} training items")
        cosine = m.cosine_of_vectors(item_vectors)
    for start in range(0, lists.shape[0], _USERS_A_CHUNK):
        chunk = slice(start, start + _USERS_A_CHUNK)
        for k, values in zip(ks, m.intra_list_diversity(lists[chunk], cosine, ks), strict=True):
            columns[f"diversity_at_{k}"][chunk] = values
