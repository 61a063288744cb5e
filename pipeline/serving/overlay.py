"""A user's history as it is now: what the model has of them, and what they did since, merged as a training would.

Of several interactions of a user with an item, the mart (sql/marts/mart_user_movie_matrix.sql) takes the latest
rating; of two at one time the larger; 1 where there is a viewing and no rating. A model that was trained on files
merges as its option `duplicates` says; for means it has kept how many each is of (`pipeline.data.repeats`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from pipeline.data.repeats import Repeats
from pipeline.models.fold_in import transformed
from pipeline.models.model_files import REPEATS
from pipeline.models.saved_model import SavedModel

__all__ = ["WATCHED", "History", "Interaction", "history_of", "raw_score"]

_Event = tuple[bool, datetime, float]  # whether it is a rating, when, score

WATCHED = 1.0  # the score of an item that was watched and not rated


class Interaction(Protocol):
    """A new interaction: as the interaction log has it."""

    @property
    def item_id(self) -> int | str:
        """The item."""

    @property
    def rating(self) -> float | None:
        """None for a viewing."""

    @property
    def at(self) -> datetime:
        """When."""


@dataclass(frozen=True, eq=False)
class History:
    """Attributes
    ----------
    cells : csr (1, n_items) float32, scores after the fit's transform
    unknown : items that the model does not have
    n_new : interactions, of those given, with items that the model has
    """

    cells: sparse.csr_matrix
    unknown: tuple[int | str, ...]
    n_new: int


def history_of(model: SavedModel, row: int, new: Iterable[Interaction]) -> History:
    """The cells of the user in `row` (-1: of nobody in the model), with new interactions.

    A model of before scores were saved has a pattern of what was seen; its cells then count 1.
    """
    cells: dict[int, float] = {}
    own = slice(0, 0)
    if row >= 0:
        own = slice(int(model.seen.indptr[row]), int(model.seen.indptr[row + 1]))
        cells = dict(zip(model.seen.indices[own].tolist(), model.seen.data[own].tolist(), strict=True))
    unknown: dict[int | str, None] = {}
    by_item: dict[int, list[_Event]] = {}
    for interaction in new:
        col = model.items.row(interaction.item_id)
        if col < 0:
            unknown[interaction.item_id] = None
        else:
            rating = interaction.rating
            event = (rating is not None, interaction.at, WATCHED if rating is None else rating)
            by_item.setdefault(col, []).append(event)
    rule = _rule(model.meta)
    for col, events in by_item.items():
        before = None if col not in cells else _before(model, rule, own, col, cells[col])
        merged = _merged(rule, sorted(events), before)
        if merged is not None:
            cells[col] = float(transformed(np.array([merged], np.float32), model.meta)[0])
    cols = np.array(sorted(cells), np.int32)
    data = np.array([cells[col] for col in cols.tolist()], np.float32)
    matrix = sparse.csr_matrix((data, cols, np.array([0, cols.size])), shape=(1, len(model.items)))
    return History(matrix, tuple(unknown), sum(map(len, by_item.values())))


def _rule(meta: Mapping[str, Any]) -> str:
    parameters = meta.get("parameters")
    if meta.get("source") != "file" or not isinstance(parameters, Mapping):
        return "mart"
    return str(parameters.get("duplicates", "last"))


def _before(model: SavedModel, rule: str, own: slice, col: int, cell: float) -> tuple[float, int]:
    """What the model has of an item for a user, whose cells are `own`: score and 1; of a mean of several sum and count.

    Of a model that was saved before these were kept, a mean counts as one.
    """
    repeats = model.meta.get(REPEATS) if rule == "mean" else None
    if isinstance(repeats, Repeats):
        place = own.start + int(np.flatnonzero(model.seen.indices[own] == col)[0])
        if (several := repeats.of(place)) is not None:
            return several
    return raw_score(cell, model.meta), 1


def _merged(rule: str, events: list[_Event], before: tuple[float, int] | None) -> float | None:
    """The score of a cell before the transform; None if it stays. `events` are sorted: viewings first, then by time.

    The time of what the model has is not known. It counts as earlier.
    """
    scores = [score for _, _, score in events]
    known, n_known = ([], 0) if before is None else ([before[0]], before[1])
    if rule == "sum":
        return sum(known + scores)
    if rule == "max":
        return max(known + scores)
    if rule == "mean":
        return sum(known + scores) / (n_known + len(scores))
    if rule == "last":
        return max(events, key=lambda event: event[1:])[2]
    is_rating, _, score = events[-1]
    return None if known and not is_rating else score


def raw_score(value: float, meta: Mapping[str, Any]) -> float:
    """A cell's score before the transform; of a binary one 1."""
    parameters = meta.get("parameters")
    name = parameters.get("transform", "none") if isinstance(parameters, Mapping) else "none"
    return float(np.expm1(value)) if name == "log1p" else value
