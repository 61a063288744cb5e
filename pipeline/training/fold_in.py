"""Folds new data into a saved model without a training: users whose history has changed, and new items.

The items' side stays as it was fitted. A user whose history is the same keeps the row of the fit, byte for byte; that
of any other is solved from the whole history, which is what a service does for a user with new interactions
(`pipeline.models.fold_in`). Items are folded in where the model folds items (`pipeline.models.item_fold_in`), and the
users with changed histories are solved once more with these items. So a table that is scored with the result, and a
service that answers with it, give the same lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.data.repeats import Repeats
from pipeline.errors import UsageError
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn, transformed
from pipeline.models.item_fold_in import with_items
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.model_files import REPEATS
from pipeline.models.neural_model import NeuralModel
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import SavedModel, with_meta
from pipeline.models.similarity import DualWeights
from pipeline.ranking.new_users import with_users

__all__ = ["Folded", "HistoryChanges", "changes_since", "fold_in", "why_not_foldable"]


@dataclass(frozen=True, eq=False)
class HistoryChanges:
    """How interactions differ from those that a model has as seen; a cell is a pair of user and item.

    Attributes
    ----------
    rows : (n_users,) int32 row of each user in the model, -1 for a new one
    touched : (n_users,) whether any cell of the user is new, gone, or has another score
    n_before : cells of the model
    n_new, n_changed, n_gone : cells
    """

    rows: NDArray[np.int32]
    touched: NDArray[np.bool_]
    n_before: int
    n_new: int
    n_changed: int
    n_gone: int

    @property
    def share(self) -> float:
        """(new + changed + gone) / before."""
        return (self.n_new + self.n_changed + self.n_gone) / max(1, self.n_before)


@dataclass(frozen=True, eq=False)
class Folded:
    """Attributes
    ----------
    model : with the users of now; `meta` is the base's, with the rows of folded items and the repeats of now
    n_new_users, n_changed_users : users who were solved anew
    n_new_items : items that were folded in
    n_left_out : interactions with new items that the model can't fold in
    """

    model: SavedModel
    n_new_users: int
    n_changed_users: int
    n_new_items: int
    n_left_out: int


def why_not_foldable(model: SavedModel) -> str:
    """Why new data can't be folded into the model and saved; "" where it can."""
    parameters = model.meta.get("parameters")
    asked: Mapping[str, Any] = parameters if isinstance(parameters, Mapping) else {}
    if asked.get("half_life_days") is not None:
        return "its scores fade (--half-life-days)"
    if isinstance(model, EnsembleModel | RerankModel):
        if asked.get("transform", "none") != "none":
            return "its members transform the scores (--transform)"
        parts = model.members if isinstance(model, EnsembleModel) else (model.base,)
        # A member does not know the options of the whole.
        return next((f"of its member: {why}" for part in parts if (why := _why_not(part))), "")
    return _why_not(model)


def _why_not(model: SavedModel) -> str:
    if model.seen.dtype != np.float32:
        return "it was saved without scores"
    if isinstance(model, ItemItemModel) and isinstance(model.similarity, DualWeights):
        return "its weights follow from its users (ease of more items than users)"
    if isinstance(model, FactorModel | NeuralModel | ItemItemModel | EnsembleModel | RerankModel):
        return ""
    return "its list is for everybody, and counting anew takes a moment"


def changes_since(model: SavedModel, now: UserItems) -> HistoryChanges:
    """Compare the interactions of now, scores before the fit's transform, with what the model has as seen.

    Raises InputError for ids of the other kind.
    """
    seen, (n, n_items) = model.seen, (len(now.users), len(model.items))
    rows = model.users.rows(model.users.same_kind(now.users.values), missing="negative")
    cols = model.items.rows(model.items.same_kind(now.items.values), missing="negative")
    of = np.repeat(np.arange(n), np.diff(now.scores.indptr))
    row, col = rows[of].astype(np.int64), cols[now.scores.indices]
    places = np.flatnonzero((row >= 0) & (col >= 0))
    keys = row[places] * n_items + col[places]
    before = np.repeat(np.arange(len(model.users), dtype=np.int64), np.diff(seen.indptr)) * n_items + seen.indices
    position = np.minimum(np.searchsorted(before, keys), max(0, before.size - 1))
    there = before[position] == keys if before.size else np.zeros(keys.size, bool)
    scores = transformed(np.asarray(now.scores.data[places[there]], np.float32), model.meta)
    equal = scores == seen.data[position[there]]
    same = np.zeros(of.size, bool)
    same[places[there][equal]] = True
    touched = np.bincount(of[~same], minlength=n) > 0
    known = rows >= 0
    n_seen = np.zeros(n, np.int64)
    n_seen[known] = np.diff(seen.indptr)[rows[known]]
    touched |= np.bincount(of[places[there]], minlength=n) != n_seen
    n_there = int(np.count_nonzero(there))
    return HistoryChanges(
        rows,
        touched,
        n_before=int(before.size),
        n_new=int(of.size - n_there),
        n_changed=int(np.count_nonzero(~equal)),
        n_gone=int(before.size - n_there),
    )


def fold_in(model: SavedModel, now: UserItems, changes: HistoryChanges, repeats: Repeats | None = None) -> Folded:
    """The model for the users and interactions of now; its items stay, and new ones are added where it folds items.

    Parameters
    ----------
    model : for which `why_not_foldable` is ""
    now : all interactions, scores before the fit's transform
    changes : `changes_since` of the two
    repeats : of the cells of `now` that are means

    Raises
    ------
    UsageError, InputError
        Where a member can't rank for other users, or scores are too large.
    """
    history = _over(now, model.items)
    new = np.flatnonzero(model.items.rows(model.items.same_kind(now.items.values), missing="negative") < 0)
    n_new_items, n_left_out = 0, int(now.scores.nnz - history.scores.nnz)
    if isinstance(model, FactorModel | NeuralModel):
        folded: SavedModel = _with_rows(model, history, changes)
        if new.size and isinstance(folded, FactorModel):
            wide = _with_new_items(folded, now, new)
            if wide is not None:
                folded, n_new_items, n_left_out = _solved_again(wide, changes.touched), int(new.size), 0
    else:
        folded = with_users(model, history)
        if isinstance(model, EnsembleModel) and isinstance(folded, EnsembleModel):
            _check_members(model, folded)
    n_new_users = int(np.count_nonzero(changes.rows < 0))
    n_changed = int(np.count_nonzero(changes.touched)) - n_new_users
    folded = with_meta(folded, {**folded.meta, REPEATS: _repeats_over(folded, now, repeats)})
    return Folded(folded, n_new_users, n_changed, n_new_items, n_left_out)


def _with_rows(
    model: FactorModel | NeuralModel, history: UserItems, changes: HistoryChanges
) -> FactorModel | NeuralModel:
    """The model with the users of `history`: a row of the fit where nothing was touched, else one solved anew."""
    factors = np.zeros((len(history.users), model.item_factors.shape[0]), np.float32)
    kept, touched = np.flatnonzero(~changes.touched), np.flatnonzero(changes.touched)
    factors[kept] = model.user_factors[changes.rows[kept]]
    factors[touched] = FoldIn(model.item_factors, model.meta).fold_matrix(history.scores[touched])
    seen = history.scores.copy()
    seen.data = transformed(np.asarray(seen.data, np.float32), model.meta)
    return replace(model, user_factors=factors, users=history.users, seen=seen)


def _with_new_items(model: FactorModel, now: UserItems, new: NDArray[np.intp]) -> FactorModel | None:
    """With these items of `now` folded in; None for a model that folds none."""
    cells = now.scores.tocsc()[:, new].tocsr()
    cells.sort_indices()
    try:
        return with_items(model, UserItems(cells, now.users, IdMap(now.items.values[new])))
    except UsageError:
        return None


def _solved_again(model: FactorModel, touched: NDArray[np.bool_]) -> FactorModel:
    """The rows of the users with new histories, from all of their items, the folded ones too."""
    cells = model.seen[np.flatnonzero(touched)]
    factors = np.array(model.user_factors)
    factors[touched] = FoldIn(model.item_factors, model.meta).solve(cells.indptr, cells.indices, cells.data)
    return replace(model, user_factors=factors)


def _check_members(before: EnsembleModel, after: EnsembleModel) -> None:
    if len(after.members) != len(before.members):
        raise UsageError("A member of the ensemble ranks for the users that it was trained on alone")


def _over(now: UserItems, items: IdMap) -> UserItems:
    """The interactions with these items, which are the columns."""
    cols = items.rows(items.same_kind(now.items.values), missing="negative")
    n = len(now.users)
    of, col = np.repeat(np.arange(n), np.diff(now.scores.indptr)), cols[now.scores.indices]
    known = col >= 0
    indptr = np.append(0, np.cumsum(np.bincount(of[known], minlength=n)))
    cells = sparse.csr_matrix((now.scores.data[known], col[known], indptr), shape=(n, len(items)))
    cells.sort_indices()
    return UserItems(cells, now.users, items)


def _repeats_over(model: SavedModel, now: UserItems, repeats: Repeats | None) -> Repeats | None:
    """The repeats of the cells of `now`, as those of the model's cells; its users are those of `now`."""
    if repeats is None:
        return None
    cols = model.items.rows(model.items.same_kind(now.items.values), missing="negative")
    indptr, seen, n_items = now.scores.indptr, model.seen, len(model.items)
    rows = np.searchsorted(indptr, repeats.cells, side="right") - 1
    col = cols[now.scores.indices[repeats.cells]]
    kept = np.flatnonzero(col >= 0)
    if not kept.size:
        return None
    cells = np.repeat(np.arange(seen.shape[0], dtype=np.int64), np.diff(seen.indptr)) * n_items + seen.indices
    places = np.searchsorted(cells, rows[kept].astype(np.int64) * n_items + col[kept])
    order = np.argsort(places)
    return Repeats(places[order], repeats.counts[kept][order], repeats.sums[kept][order], int(seen.nnz))
