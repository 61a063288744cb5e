"""The exact parts of one score, by the model's kind, and the item's rank among the user's unseen items.

factors      the contribution of each of the user's past items; and of each factor, where factors are non-negative (nmf)
item_item    the contribution of each of the user's past items
popularity   how many of the model's users have interacted with the item
ensemble     the contribution of each member; with one member, that member's own parts
rerank       no parts: trees split no score; what they go by
neural       by how much the score would be lower if one of the user's past items were not in their history: a network's
             score is no sum of parts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.models.ensemble_model import EnsembleModel, MemberPart
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn, ScoreParts
from pipeline.models.item_item_model import ItemItemModel
from pipeline.models.neural_model import NeuralModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.rerank_model import RerankModel
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.candidates import CandidateFinder
from pipeline.ranking.topk_numpy import LeftOut, ListRequest

__all__ = [
    "Explanation",
    "FactorPart",
    "ItemPart",
    "MemberPart",
    "Place",
    "contributions",
    "explain",
    "factors_have_meaning",
    "factors_of",
    "interactions_with",
    "item_contributions",
    "rank_of",
]


# Largest difference between a score and the sum of its parts, beside their size: users' factors are those of their
# history up to the tolerance of the fit's last half-step, and of float32.
TOLERANCE = 1e-3


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
    """The parts of a score of a model's user; `factors` and `past_items`, where the model has them.

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
    members : of an ensemble, all of them, by the size of their contributions
    goes_by : of a two-stage model, name and value of each feature; () for an item that is no candidate
    n_factors, n_past_items : how many factors there are, and how many of the user's items have a part other than 0
    level : what the score is besides the parts of past items: the item's level, the pull of L1; mostly 0
    confidence : share of the user's other unseen items that score lower, None for a seen item
    """

    kind: str
    score: float
    rank: int | None
    n_unseen: int
    n_interactions: int
    confidence: float | None
    factors: tuple[FactorPart, ...] = ()
    past_items: tuple[ItemPart, ...] = ()
    members: tuple[MemberPart, ...] = ()
    goes_by: tuple[tuple[str, float], ...] = ()
    n_factors: int = 0
    n_past_items: int = 0
    level: float = 0.0
    candidate: bool = True


def explain(
    model: SavedModel, user_row: int, item_row: int, n_parts: int = 3, fold_in: FoldIn | None = None
) -> Explanation:
    """Explain the score of a user and an item of the model by its `n_parts` largest parts of each sort.

    fold_in : of the model's items, for a service that explains often; made anew if it is not given
    """
    if isinstance(model, EnsembleModel | RerankModel) and model.alone is not None:
        return explain(model.alone, user_row, item_row, n_parts, fold_in)
    score = float(model.predict([user_row], [item_row])[0])
    place = rank_of(model, user_row, item_row)
    known: dict[str, Any] = {"candidate": place.candidate}
    by_item = item_contributions(model, user_row, item_row, fold_in)
    if by_item is not None:
        parts, level = by_item
        past_items = tuple(_past_items(model, user_row, parts, n_parts))
        known |= {"past_items": past_items, "n_past_items": int(np.count_nonzero(parts)), "level": level}
    if isinstance(model, FactorModel) and (by_item is None or factors_have_meaning(model)):
        factors = tuple(factors_of(model, user_row, item_row, n_parts))
        known |= {"factors": factors, "n_factors": model.n_components}
    if isinstance(model, RerankModel):
        known["goes_by"] = model.goes_by(user_row, item_row)
    if isinstance(model, EnsembleModel):
        known["members"] = tuple(sorted(model.parts(user_row, item_row), key=lambda part: -abs(part.contribution)))
    return Explanation(
        model.kind, score, place.rank, place.n_unseen, interactions_with(model, item_row), place.confidence, **known
    )


def factors_have_meaning(model: FactorModel) -> bool:
    """Whether single factors say something: those of any sign may be rotated, and give the same scores."""
    return model.meta.get("fold_in") in (None, "non_negative")


def interactions_with(model: SavedModel, item_row: int) -> int:
    """How many of the model's users have interacted with the item."""
    if isinstance(model, PopularityModel) and not len(model.users):  # of a snapshot of items alone
        return int(model.item_scores[item_row])
    return int(np.count_nonzero(model.seen.indices == item_row))


def _seen_by(model: SavedModel, user_row: int) -> slice:
    """The positions of the user's cells in `seen`."""
    return slice(int(model.seen.indptr[user_row]), int(model.seen.indptr[user_row + 1]))


def item_contributions(
    model: SavedModel, user_row: int, item_row: int, fold_in: FoldIn | None = None
) -> ScoreParts | None:
    """The part of each of the user's items, (n_seen,) float64, in the order of `seen`, and what comes on top of them.

    The score of an item-item model is their sum in this order, rounded once to float32; that of a model of factors is
    their sum up to rounding. Of a network they are what the score would lose without the item, and no sum. None where
    scores are no such sums: the way of folding in does not split them, or the user's factors are not those of their
    history.
    """
    if isinstance(model, NeuralModel):
        return _withheld(model, user_row, item_row, fold_in)
    if isinstance(model, ItemItemModel):
        return ScoreParts(model.parts(user_row, item_row), 0.0)
    if isinstance(model, FactorModel) and model.seen.dtype == np.float32:
        cells = _seen_by(model, user_row)
        fold_in = fold_in or FoldIn(model.item_factors, model.meta, compiled=False)
        split = fold_in.split(model.seen.indices[cells], model.seen.data[cells], item_row)
        return split if split is None or _adds_up(split, model.predict([user_row], [item_row])[0]) else None
    return None


def _withheld(model: NeuralModel, user_row: int, item_row: int, fold_in: FoldIn | None) -> ScoreParts | None:
    """By how much the score is lower without each of the user's items: they are folded in without it."""
    if model.seen.dtype != np.float32:
        return None
    cells = _seen_by(model, user_row)
    items, scores = model.seen.indices[cells], model.seen.data[cells]
    fold_in = fold_in or FoldIn(model.item_factors, model.meta, compiled=False)
    histories = [(items, scores), *((np.delete(items, i), np.delete(scores, i)) for i in range(items.size))]
    rows = [fold_in.solve(np.array([0, of.size]), of, scores) for of, scores in histories]
    n = 1 + items.size
    of_network = model.network.scores(np.concatenate(rows), np.arange(n), np.full(n, item_row)).astype(np.float64)
    return ScoreParts(of_network[0] - of_network[1:], 0.0)


def _adds_up(split: ScoreParts, score: np.float32) -> bool:
    size = abs(split.level) + float(np.abs(split.parts).sum())
    return bool(abs(split.level + float(split.parts.sum()) - score) <= TOLERANCE * size)


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


class Place(NamedTuple):
    """Where an item stands among the user's unseen items; fields as in `Explanation`."""

    rank: int | None
    n_unseen: int
    confidence: float | None
    candidate: bool = True


def rank_of(model: SavedModel, user_row: int, item_row: int) -> Place:
    """The item's place among the user's unseen items, or among the candidates of a model that has them; ties by row."""
    if isinstance(model, NeuralModel):
        return _place_among_candidates(model, user_row, item_row)
    if isinstance(model, FactorModel):
        scores = model.scores_of(user_row)
    else:
        scores = model.predict(np.full(len(model.items), user_row), np.arange(len(model.items)))
    unseen = np.ones(len(model.items), bool)
    unseen[model.seen.indices[_seen_by(model, user_row)]] = False
    n_unseen = int(unseen.sum())
    if not unseen[item_row]:
        return Place(None, n_unseen, None)
    ahead = (scores > scores[item_row]) | ((scores == scores[item_row]) & (np.arange(scores.size) < item_row))
    lower = int((unseen & (scores < scores[item_row])).sum())
    return Place(1 + int((ahead & unseen).sum()), n_unseen, lower / (n_unseen - 1) if n_unseen > 1 else 1.0)


def _place_among_candidates(model: NeuralModel, user_row: int, item_row: int) -> Place:
    row = np.array([user_row])
    top = CandidateFinder(model).find(
        ListRequest(row, model.candidates, [LeftOut(model.seen.indptr, model.seen.indices, row)])
    )
    listed, scores = top.items[0], top.scores[0]
    n = int(np.count_nonzero(listed >= 0))
    place = np.flatnonzero(listed == item_row)
    if not place.size:
        return Place(None, n, None, item_row in model.seen.indices[_seen_by(model, user_row)])
    lower = int(np.count_nonzero(scores[:n] < scores[place[0]]))
    return Place(1 + int(place[0]), n, lower / (n - 1) if n > 1 else 1.0)
