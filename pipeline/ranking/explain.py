"""The exact parts of one score, by the model's kind, and the item's rank among the user's unseen items.

factors      the contribution of each factor; of each of the user's past items where the way of folding in splits scores
             so (als, svd, bpmf)
item_item    the contribution of each of the user's past items
popularity   how many of the model's users have interacted with the item
neural       by how much the score would be lower if one of the user's past items were not in their history: a network's
             score is no sum of parts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.candidates import CandidateFinder
from pipeline.ranking.topk_numpy import LeftOut, ListRequest

__all__ = [
    "Explanation",
    "FactorPart",
    "ItemPart",
    "contributions",
    "explain",
    "factors_of",
    "interactions_with",
    "item_contributions",
    "past_items_of",
    "rank_of",
]


@dataclass(frozen=True)
class FactorPart:
    """One factor's part in a score.

    Attributes
    ----------
    component : its row in H
    contribution : w_t·h_ti, in the score's units
    seen : item rows the user has seen with the largest h_tj, largest first
    loads : (n,) h_tj of these
    """

    component: int
    contribution: float
    seen: NDArray[np.int64]
    loads: NDArray[np.float32]


@dataclass(frozen=True)
class ItemPart:
    """The contribution of one of the user's past items to a score.

    Attributes
    ----------
    row : of the item
    contribution : its weight in the user's history, times its similarity to the scored item; of a network, how much
        lower the score would be without it
    score : the user's score of it (the cell of V), None where the model does not keep scores
    """

    row: int
    contribution: float
    score: float | None


@dataclass(frozen=True)
class Explanation:
    """The parts of a score of a model's user; `factors` or `past_items`, where the kind has them.

    Attributes
    ----------
    kind : of the model
    score : as in lists and tables, float32
    rank, n_unseen : the item's rank among the user's unseen items (None for a seen item), and their number; of a model
        that orders candidates, both are of the candidates
    candidate : false of an unseen item that is none of the model's candidates for the user
    n_interactions : how many of the model's users have interacted with the item
    factors : those with the largest contributions, by size
    past_items : the user's items with the largest contributions, by size
    level : what the score is before the contributions of past items: of a model of ratings the item's level, else 0
    n_parts : how many factors the model has, or how many of the user's items have a contribution other than 0
    """

    kind: str
    score: float
    rank: int | None
    n_unseen: int
    n_interactions: int
    factors: tuple[FactorPart, ...] = ()
    past_items: tuple[ItemPart, ...] = ()
    n_parts: int = 0
    level: float = 0.0
    candidate: bool = True


def explain(model: SavedModel, user_row: int, item_row: int, n_parts: int = 3) -> Explanation:
    """Explain the score of a user and an item of the model by its `n_parts` largest parts."""
    score = float(model.predict([user_row], [item_row])[0])
    rank, n_unseen = rank_of(model, user_row, item_row)
    known: dict[str, Any] = {"candidate": rank is not None or item_row in model.seen.indices[_seen_by(model, user_row)]}
    by_item = item_contributions(model, user_row, item_row)
    if by_item is not None:
        past_items = tuple(_past_items(model, user_row, by_item, n_parts))
        known |= {"past_items": past_items, "n_parts": int(np.count_nonzero(by_item)), "level": _level(model, item_row)}
    elif isinstance(model, FactorModel):
        factors = tuple(factors_of(model, user_row, item_row, n_parts))
        known |= {"factors": factors, "n_parts": model.n_components}
    return Explanation(model.kind, score, rank, n_unseen, interactions_with(model, item_row), **known)


def interactions_with(model: SavedModel, item_row: int) -> int:
    """How many of the model's users have interacted with the item."""
    return int(np.count_nonzero(model.seen.indices == item_row))


def _seen_by(model: SavedModel, user_row: int) -> slice:
    """The positions of the user's cells in `seen`."""
    return slice(int(model.seen.indptr[user_row]), int(model.seen.indptr[user_row + 1]))


def item_contributions(model: SavedModel, user_row: int, item_row: int) -> NDArray[np.float64] | None:
    """The contribution of each of the user's items, (n_seen,) float64, in the order of `seen`.

    The score of an item-item model is their sum in this order, rounded once to float32; that of a model of factors is
    their sum up to rounding, and of a model of ratings the item's level besides. Of a network they are what the score
    would lose without the item, and no sum. None where scores can't be told by items.
    """
    if isinstance(model, NeuralModel):
        return _withheld(model, user_row, item_row)
    if isinstance(model, ItemItemModel):
        return model.parts(user_row, item_row)
    if isinstance(model, FactorModel) and model.seen.dtype == np.float32:
        cells = _seen_by(model, user_row)
        fold_in = FoldIn(model.item_factors, model.meta, compiled=False)
        return fold_in.parts(model.seen.indices[cells], model.seen.data[cells], item_row)
    return None


def _withheld(model: NeuralModel, user_row: int, item_row: int) -> NDArray[np.float64] | None:
    """By how much the score is lower without each of the user's items, (n_seen,): they are folded in without it."""
    if model.seen.dtype != np.float32:
        return None
    cells = _seen_by(model, user_row)
    items, scores = model.seen.indices[cells], model.seen.data[cells]
    fold_in = FoldIn(model.item_factors, model.meta, compiled=False)
    histories = [(items, scores), *((np.delete(items, i), np.delete(scores, i)) for i in range(items.size))]
    rows = [fold_in.solve(np.array([0, of.size]), of, scores) for of, scores in histories]
    n = 1 + items.size
    of_network = model.network.scores(np.concatenate(rows), np.arange(n), np.full(n, item_row)).astype(np.float64)
    parts: NDArray[np.float64] = of_network[0] - of_network[1:]
    return parts


def _level(model: SavedModel, item_row: int) -> float:
    """What `item_contributions` come on top of."""
    if isinstance(model, FactorModel):
        return FoldIn(model.item_factors, model.meta, compiled=False).level(item_row)
    return 0.0


def past_items_of(model: ItemItemModel, user_row: int, item_row: int, n: int = 3) -> list[ItemPart]:
    """The user's items with the largest contributions, by size, without those of 0."""
    return _past_items(model, user_row, model.parts(user_row, item_row), n)


def _past_items(model: SavedModel, user_row: int, parts: NDArray[np.float64], n: int) -> list[ItemPart]:
    cells = _seen_by(model, user_row)
    rows, scores = model.seen.indices[cells], model.seen.data[cells]
    order = [i for i in np.lexsort((rows, -np.abs(parts)))[:n].tolist() if parts[i] != 0]
    scored = model.seen.dtype == np.float32
    return [ItemPart(int(rows[i]), float(parts[i]), float(scores[i]) if scored else None) for i in order]


def contributions(model: FactorModel, user_row: int, item_row: int) -> NDArray[np.float64]:
    """w_t·h_ti, (k,) float64; the score is their sum in this order, rounded once to float32."""
    w = model.user_factors[user_row].astype(np.float64)
    parts: NDArray[np.float64] = w * model.item_factors[:, item_row]
    return parts


def factors_of(
    model: FactorModel, user_row: int, item_row: int, n_factors: int = 3, n_seen: int = 3
) -> list[FactorPart]:
    """The factors with the largest contributions, by size, each with the seen items that load most on it."""
    parts = contributions(model, user_row, item_row)
    seen = np.asarray(model.seen.indices[_seen_by(model, user_row)], np.int64)
    factors = []
    for t in np.argsort(-np.abs(parts), kind="stable")[:n_factors].tolist():
        loads = model.item_factors[t, seen]
        order = np.lexsort((seen, -loads))[:n_seen]
        order = order[loads[order] > 0]
        factors.append(FactorPart(t, float(parts[t]), seen[order], loads[order]))
    return factors


def rank_of(model: SavedModel, user_row: int, item_row: int) -> tuple[int | None, int]:
    """The item's rank among the user's unseen items (None for a seen item), and the number of unseen items.

    Of a model that orders candidates, both are of the candidates: None for any other item.
    """
    if isinstance(model, NeuralModel):
        row = np.array([user_row])
        seen = LeftOut(model.seen.indptr, model.seen.indices, row)
        listed = CandidateFinder(model).find(ListRequest(row, model.candidates, [seen])).items[0]
        place = np.flatnonzero(listed == item_row)
        return (int(place[0]) + 1 if place.size else None), int(np.count_nonzero(listed >= 0))
    scores = model.predict(np.full(len(model.items), user_row), np.arange(len(model.items)))
    unseen = np.ones(len(model.items), bool)
    unseen[model.seen.indices[_seen_by(model, user_row)]] = False
    if not unseen[item_row]:
        return None, int(unseen.sum())
    ahead = (scores > scores[item_row]) | ((scores == scores[item_row]) & (np.arange(scores.size) < item_row))
    return 1 + int((ahead & unseen).sum()), int(unseen.sum())
