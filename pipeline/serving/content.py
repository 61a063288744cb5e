"""Items outside the model, for one user: scored and explained by their content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.content import CONTENT, ContentMatch, largest, words_of
from pipeline.ranking.reasons import genres_match
from pipeline.serving.overlay import Interaction, history_of, raw_score
from pipeline.serving.problems import Code, Problem
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import ServiceConfig

__all__ = ["OwnItems", "content_explanation", "content_prediction", "item_place", "own_items"]


class OwnItems(NamedTuple):
    """A user's history: item rows of the model (n,), their cells, and their scores before the fit's transform."""

    rows: NDArray[np.int32]
    cells: NDArray[np.float32]
    scores: NDArray[np.float64]


class Place(NamedTuple):
    """Where an item is: its row in the model, or its row among the items outside; -1 for the other."""

    col: int
    other: int


def item_place(served: ServedModel, item: int | str) -> Place:
    """Raises Problem for an item in no snapshot."""
    col = served.scorer.items.row(item)
    other = -1 if col >= 0 else served.other_row(item)
    if col < 0 and other < 0:
        raise Problem(Code.UNKNOWN_ITEM, f"No item has the id {str(item)[:80]!r}", unknown_items=[item])
    return Place(col, other)


def own_items(served: ServedModel, row: int, new: Sequence[Interaction]) -> OwnItems:
    """What the user in `row` (-1: nobody in the model) has done by now."""
    model = served.scorer.model
    cells = history_of(model, row, new).cells
    raw = np.array([raw_score(value, model.meta) for value in cells.data.tolist()], np.float64)
    return OwnItems(cells.indices, cells.data, raw)


def content_prediction(served: ServedModel, config: ServiceConfig, other: int, own: OwnItems) -> dict[str, Any]:
    """One entry of the predictions; without a score for a user who has done nothing."""
    (item,) = served.other_items([other])
    match = served.content.match(other, own.rows, own.cells) if own.rows.size else None
    return {**item, "source": CONTENT, **_scores(config, match, own)}


def _scores(config: ServiceConfig, match: ContentMatch | None, own: OwnItems) -> dict[str, Any]:
    if match is None:
        return {"score": None, "predicted_rating": None}
    options = config.options
    expected = min(max(match.expected(own.scores), options.min_rating), options.max_rating)
    return {"score": match.score, "predicted_rating": expected}


def content_explanation(
    served: ServedModel, config: ServiceConfig, other: int, own: OwnItems, n_parts: int
) -> dict[str, Any]:
    """What an explanation says besides user, item and version: never without a reason, as the content is one."""
    match = served.content.match(other, own.rows, own.cells) if own.rows.size else None
    parts = [] if match is None else _alike(served, own, "part", match.parts, n_parts)
    return {
        "source": CONTENT,
        **_scores(config, match, own),
        "calibrated": False,
        "confidence": None if match is None else match.confidence,
        "rank": None,
        "n_unseen": len(served.scorer.items) - own.rows.size,
        "n_interactions": 0,
        "reasons": _reasons(served, other, own, match, n_parts),
        "contributions": {"factors": [], "your_items": parts, "level": 0.0},
    }


def _reasons(
    served: ServedModel, other: int, own: OwnItems, match: ContentMatch | None, n_parts: int
) -> dict[str, Any]:
    others = served.snapshot.others
    genres = [] if others is None else words_of(str(others.genres[other]))
    tags = [] if others is None else words_of(str(others.tags[other]))
    like = genres_match(served.snapshot, own.rows, own.cells, frozenset(genres)) if own.rows.size else None
    return {
        "similar_movies": [] if match is None else _alike(served, own, "similarity", match.similarities, n_parts),
        "genre_match": None if like is None else {"score": like.score, "genres": like.shares},
        "similar_users": {"count": 0, "among": 0, "average": None},
        "popularity": 0,
        "content": {"genres": genres, "tags": tags},
    }


def _alike(served: ServedModel, own: OwnItems, name: str, values: NDArray[np.float64], n: int) -> list[dict[str, Any]]:
    """The items of the history with the n largest values above 0, which stand under `name`; ties by item row."""
    return [{**_titled(served, own, i), name: float(values[i])} for i in largest(values, own.rows, n)]


def _titled(served: ServedModel, own: OwnItems, i: int) -> dict[str, Any]:
    """An item of the history with its title, and its rating as a training has it."""
    snapshot, row = served.snapshot, int(own.rows[i])
    title = "" if snapshot.titles is None else str(snapshot.titles[row])
    return {"item_id": snapshot.ids.values[row].item(), "title": title, "rating": float(own.cells[i])}
