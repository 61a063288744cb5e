"""The check that a candidate was trained on the training side only; it runs before every evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, parts, release
from pipeline.data.splits.split import Split, holds, pair_keys
from pipeline.errors import LeakageError
from pipeline.models import registry
from pipeline.ranking.protocols import Model, Ranker

__all__ = ["check_candidate", "check_folded"]


def check_candidate(candidate: Ranker | Model, split: Split, popularity: ArrayLike | None = None) -> None:
    """Refuse a candidate that was trained on more than the split's training side.

    Its users, its items and every pair in its `seen` (which popularity is counted from) must be of the training
    side. Scores that were learned from other data are not detected.

    Parameters
    ----------
    popularity : (n_items,) interaction counts of the candidate's items, if it has them: they must equal the
        counts of the training side. For a `Ranker` whose source is ``popular`` its scores are checked.

    Raises
    ------
    LeakageError
        With what the candidate knows of the other side.
    """
    model = _model(candidate)
    train = split.train
    _known(train.user_ids, model.users, "user")
    items = _known(split.items, model.items, "item")
    _check_seen(model, train, split.test, "training")
    counts = popularity
    if counts is None and getattr(candidate, "source", "") == registry.POPULAR and len(model.users):
        cols = np.arange(len(model.items))
        counts = model.predict(np.zeros(cols.size, np.int64), cols)
    if counts is not None:
        expected = split.item_counts[items].astype(np.float32)
        if not np.array_equal(np.asarray(counts, np.float32), expected):
            raise LeakageError("The popularity of items was not counted on the training side alone")


def check_folded(folded: Ranker | Model, split: Split) -> None:
    """Refuse a ranker of folded-in users whose `seen` holds more than the history that was folded in.

    Raises
    ------
    LeakageError
    """
    model = _model(folded)
    _known(split.items, model.items, "item")
    if split.fold_in is not None:
        known = split.fold_in.compact()
        _known(known.user_ids, model.users, "user")
        _check_seen(model, known, split.test, "fold-in")


def _model(candidate: Ranker | Model) -> Model:
    model: Any = getattr(candidate, "model", candidate)
    return model  # type: ignore[no-any-return]


def _known(trained: IdMap, ids: IdMap, what: str) -> NDArray[np.int32]:
    """Rows of the candidate's ids in `trained`. Raises LeakageError for an id that is not there."""
    rows = trained.rows(ids.values, missing="negative")
    if bool((rows < 0).any()):
        examples: list[Any] = ids.values[rows < 0][:3].tolist()
        raise LeakageError(
            f"The candidate knows {int(np.count_nonzero(rows < 0))} {what}(s) that its side of the split does not, "
            f"{examples} among them"
        )
    return rows


def _check_seen(model: Model, known: Interactions, test: Interactions, side: str) -> None:
    if _same_cells(model, known):
        return
    seen = model.seen
    user_of = np.repeat(np.arange(seen.shape[0], dtype=np.int64), np.diff(seen.indptr))
    keys = user_of * len(model.items) + seen.indices
    foreign = ~holds(_ascending(pair_keys(known, model.users, model.items)), keys)
    if foreign.any():
        held_out = _ascending(pair_keys(test, model.users, model.items))
        raise LeakageError(
            f"The candidate has {int(np.count_nonzero(foreign))} interaction(s) as seen that are not of the {side} "
            f"side, {int(np.count_nonzero(holds(held_out, keys[foreign])))} of them held out: it knows what it is "
            "evaluated on"
        )


def _same_cells(model: Model, x: Interactions) -> bool:
    """Whether `seen` has the cells of `x` in the same order: the usual case, checked without a search."""
    seen = model.seen
    return bool(
        seen.nnz == len(x)
        and seen.shape[0] == len(x.user_ids)
        and np.array_equal(np.diff(seen.indptr), counts_of(x.users, len(x.user_ids)))
        and all(_same_part(seen.indices, x, part) for part in parts(len(x)))
        and np.array_equal(model.users.values, x.user_ids.values)
        and np.array_equal(model.items.values, x.item_ids.values)
    )


def _same_part(indices: NDArray[Any], x: Interactions, part: slice) -> bool:
    """Whether a part has these items, and users who do not fall; with their counts, that tells where each begins."""
    users = x.users[part.start : part.stop + 1]
    same = bool((users[1:] >= users[:-1]).all()) and np.array_equal(indices[part], x.items[part])
    release(x.users, x.items)
    return same


def _ascending(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return keys if bool((keys[1:] >= keys[:-1]).all()) else np.sort(keys)
