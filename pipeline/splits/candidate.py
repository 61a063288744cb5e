"""The check that a candidate learned from the training side alone; it runs before anything is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import LeakageError
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.ranker import Model, Ranker
from pipeline.splits.split import Split, holds, pair_keys

__all__ = ["check_candidate", "check_folded"]


def check_candidate(candidate: Ranker | Model, split: Split, popularity: ArrayLike | None = None) -> None:
    """Refuse a candidate that knows more than the split's training side.

    Its users and items must be of the training side, and so must every pair it has as seen (which is what
    popularity is counted from). Scores that were learned elsewhere can't be told by looking.

    Parameters
    ----------
    popularity : (n_items,) numbers of interactions by the candidate's items, where it has such: they must
        be those of the training side. Of a `Ranker` whose source is ``popular`` the scores are checked.

    Raises
    ------
    LeakageError
        Naming what it knows.
    """
    model = _model(candidate)
    train = split.train
    _known(train.user_ids, model.users, "user")
    items = _known(train.item_ids, model.items, "item")
    _check_seen(model, train, split.test, "training")
    counts = popularity
    if counts is None and getattr(candidate, "source", "") == "popular" and len(model.users):
        cols = np.arange(len(model.items))
        counts = model.predict(np.zeros(cols.size, np.int64), cols)
    if counts is not None:
        expected = np.bincount(train.items, minlength=len(train.item_ids))[items].astype(np.float32)
        if not np.array_equal(np.asarray(counts, np.float32), expected):
            raise LeakageError("The popularity of items was not counted on the training side alone")


def check_folded(folded: Ranker | Model, split: Split) -> None:
    """The same for what folding in gave: held-out users, who have nothing as seen but what was folded in.

    Raises
    ------
    LeakageError
    """
    model = _model(folded)
    _known(split.train.item_ids, model.items, "item")
    if split.fold_in is not None:
        known = split.fold_in.compact()
        _known(known.user_ids, model.users, "user")
        _check_seen(model, known, split.test, "fold-in")


def _model(candidate: Ranker | Model) -> Model:
    model: Any = getattr(candidate, "model", candidate)
    return model  # type: ignore[no-any-return]


def _known(trained: IdMap, ids: IdMap, what: str) -> NDArray[np.int32]:
    """Rows of the candidate's ids among those that it may know."""
    rows = trained.rows(ids.values, missing="negative")
    if bool((rows < 0).any()):
        some: list[Any] = ids.values[rows < 0][:3].tolist()
        raise LeakageError(
            f"The candidate knows {int(np.count_nonzero(rows < 0))} {what}(s) that its side of the split does not, "
            f"{some} among them"
        )
    return rows


def _check_seen(model: Model, known: Interactions, test: Interactions, side: str) -> None:
    if _same_cells(model, known):
        return
    seen = model.seen
    of = np.repeat(np.arange(seen.shape[0], dtype=np.int64), np.diff(seen.indptr))
    keys = of * len(model.items) + seen.indices
    foreign = ~holds(_ascending(pair_keys(known, model.users, model.items)), keys)
    if foreign.any():
        judged = _ascending(pair_keys(test, model.users, model.items))
        raise LeakageError(
            f"The candidate has {int(np.count_nonzero(foreign))} interaction(s) as seen that are not of the {side} "
            f"side, {int(np.count_nonzero(holds(judged, keys[foreign])))} of them held out: it knows what it is "
            "judged by"
        )


def _same_cells(model: Model, x: Interactions) -> bool:
    """Whether seen is `x`, cell by cell in order: the usual case, without a search."""
    seen = model.seen
    return bool(
        seen.nnz == len(x)
        and np.array_equal(seen.indices, x.items)
        and np.array_equal(np.repeat(np.arange(seen.shape[0], dtype=np.int32), np.diff(seen.indptr)), x.users)
        and np.array_equal(model.users.values, x.user_ids.values)
        and np.array_equal(model.items.values, x.item_ids.values)
    )


def _ascending(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return keys if bool((keys[1:] >= keys[:-1]).all()) else np.sort(keys)
