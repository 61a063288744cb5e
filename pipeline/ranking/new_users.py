"""Users whom a model was not trained on: the same model with other users, made from their histories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import BadRowsError, InputError, UsageError
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn, transformed
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import SavedModel

__all__ = ["as_floats", "ascending", "one_row", "with_users"]


def with_users(
    model: SavedModel, history: UserItems, fold_in: FoldIn | None = None, *, as_fitted: bool = False
) -> SavedModel:
    """The model with the users of `history` instead of its own; their history is what they have seen.

    Parameters
    ----------
    history : over the model's items, scores as they were before the fit's transform
    fold_in : of a model with factors, if the caller has one
    as_fitted : the scores are those after the transform, as a model's `seen` has them

    Raises
    ------
    InputError, BadRowsError
        For a history over other items, or with scores that are not finite and ≥ 0.
    """
    if len(history.items) != len(model.items):
        raise InputError(f"A history over {len(history.items)} items for a model of {len(model.items)}")
    if isinstance(model, EnsembleModel):
        return _ensemble_with_users(model, history)
    if isinstance(model, RerankModel):
        return model.with_users(with_users(model.base, history), history.users, history.scores)
    if isinstance(model, FactorModel | NeuralModel):
        fold_in = fold_in or FoldIn(model.item_factors, model.meta)
        cells = history.scores
        factors = fold_in.solve(cells.indptr, cells.indices, cells.data) if as_fitted else fold_in.fold_matrix(cells)
        return replace(model, user_factors=factors, users=history.users, seen=history.scores)
    if isinstance(model, PopularityModel):
        return replace(model, users=history.users, seen=history.scores)
    if isinstance(model, ItemItemModel):
        scores = history.scores.data
        if scores.size and not (np.isfinite(scores).all() and scores.min() >= 0):
            raise BadRowsError("1 or more score(s) are not finite and ≥ 0")
        seen = sparse.csr_matrix(history.scores, copy=False)
        cells = scores if as_fitted else transformed(scores.astype(np.float32), model.meta)
        seen = sparse.csr_matrix((cells, seen.indices, seen.indptr), shape=seen.shape)
        return model.with_users(history.users, seen)
    raise UsageError(f"A model of kind {model.kind!r} ranks for the users that it was trained on alone")


def _ensemble_with_users(model: EnsembleModel, history: UserItems) -> EnsembleModel:
    """The ensemble of those members that rank for new users; their weights are made to add up to 1 again.

    The ensemble itself transforms no scores; its members do.
    """
    members, weights = [], []
    for member, weight, fold_in in zip(model.members, model.weights, model.fold_ins, strict=True):
        try:
            members.append(with_users(member, history, fold_in))
        except UsageError:
            continue
        weights.append(weight)
    if not members:
        raise UsageError("No member of the ensemble ranks for users that it was not trained on")
    shares = tuple(weight / sum(weights) for weight in weights)
    return replace(model, members=tuple(members), weights=shares, users=history.users, seen=history.scores)


def ascending(
    cols: NDArray[np.int32], values: NDArray[np.float32], items: IdMap
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """One user's items and scores, both (n,), with ascending columns. Raises InputError for a repeated item."""
    # float32 sums are then in the same order as in training.
    order = np.argsort(cols, kind="stable")
    cols, values = cols[order], values[order]
    repeated = cols[1:][cols[1:] == cols[:-1]]
    if repeated.size:
        raise InputError(f"Item(s) {items.ids(repeated[:5]).tolist()} are there twice: one score an item")
    return cols, values


def one_row(cols: NDArray[np.int32], values: NDArray[np.float32], items: IdMap) -> UserItems:
    """One user's items and scores, both (n,), as a matrix of one row. Raises InputError for a repeated item."""
    cols, values = ascending(cols, values, items)
    row = sparse.csr_matrix((values, cols, np.array([0, cols.size])), shape=(1, len(items)))
    return UserItems(row, IdMap(np.zeros(1, np.int64)), items)


def as_floats(scores: ArrayLike) -> NDArray[np.float32]:
    """Scores as float32, (n,). Raises BadRowsError for a value that is not a number."""
    try:
        with np.errstate(over="ignore"):
            return np.atleast_1d(np.asarray(scores, np.float64)).astype(np.float32)
    except (TypeError, ValueError):
        raise BadRowsError("1 or more scores are not numbers") from None
