"""Reasons for an item that people understand, besides the exact parts of its score: likeness, genres, other users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models.item_snapshot import SEPARATOR, ItemSnapshot
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.neighbours import similar_users, similarities_of_items

__all__ = ["GenreMatch", "OtherUsers", "Reasons", "SimilarItem", "genre_match", "genres_match", "reasons_for"]

# Users that count as similar to a user.
N_SIMILAR_USERS = 50


@dataclass(frozen=True)
class SimilarItem:
    """An item of the user's history.

    Attributes
    ----------
    row : its row
    similarity : to the explained item
    score : the user's score of it, None where the model keeps no scores
    """

    row: int
    similarity: float
    score: float | None


@dataclass(frozen=True)
class GenreMatch:
    """How well the item's genres match the user's history.

    Attributes
    ----------
    score : share of the user's history that has at least one of the item's genres, each item by its score
    shares : the same for each of the item's genres
    """

    score: float
    shares: dict[str, float]


@dataclass(frozen=True)
class OtherUsers:
    """The users most similar to the user who have interacted with the item.

    Attributes
    ----------
    count : their number
    among : how many similar users were looked at
    average : their mean score of the item, None where the model keeps no scores
    """

    count: int
    among: int
    average: float | None


@dataclass(frozen=True)
class Reasons:
    """`genre_match` is None where the item has no genres or the model no snapshot of its items."""

    similar_items: tuple[SimilarItem, ...]
    genre_match: GenreMatch | None
    other_users: OtherUsers


def reasons_for(
    model: SavedModel,
    user_row: int,
    item_row: int,
    snapshot: ItemSnapshot | None = None,
    n: int = 3,
    *,
    among: SavedModel | None = None,
    itself: int = -1,
) -> Reasons:
    """Reasons for the item, for a user of the model; at most `n` similar items.

    among, itself : as `similar_users`, for a user who was folded in
    """
    rows, scores = _history(model, user_row)
    similarities = similarities_of_items(model, item_row)[rows]
    kept = model.seen.dtype == np.float32
    order = [i for i in np.lexsort((rows, -similarities)).tolist() if similarities[i] > 0 and rows[i] != item_row][:n]
    similar = [SimilarItem(int(rows[i]), float(similarities[i]), float(scores[i]) if kept else None) for i in order]
    match = None if snapshot is None else genre_match(snapshot, rows, scores, item_row)
    near = similar_users(model, user_row, N_SIMILAR_USERS, among=among, itself=itself).rows
    return Reasons(tuple(similar), match, _other_users(model if among is None else among, near, item_row))


def genre_match(
    snapshot: ItemSnapshot, rows: NDArray[np.integer], scores: NDArray[np.floating], item_row: int
) -> GenreMatch | None:
    """The match of an item with a history: rows (n,) of its items, and their scores (n,) ≥ 0."""
    own = frozenset() if snapshot.genres is None else _genres(snapshot.genres, item_row)
    return genres_match(snapshot, rows, scores, own)


def genres_match(
    snapshot: ItemSnapshot, rows: NDArray[np.integer], scores: NDArray[np.floating], own: frozenset[str]
) -> GenreMatch | None:
    """`genre_match` of an item that has the genres `own`, and may be none of the model's."""
    if snapshot.genres is None or not own:
        return None
    weights = scores.astype(np.float64) if scores.any() else np.ones(rows.size)
    total = float(weights.sum())
    if not total:
        return GenreMatch(0.0, dict.fromkeys(sorted(own), 0.0))
    shares, any_of = {}, np.zeros(len(snapshot.ids), bool)
    for name in sorted(own):
        with_it = np.zeros(len(snapshot.ids), bool)
        with_it[snapshot.popular_in(name)] = True
        any_of |= with_it
        shares[name] = float(weights[with_it[rows]].sum()) / total
    return GenreMatch(float(weights[any_of[rows]].sum()) / total, shares)


def _genres(genres: NDArray[np.str_], row: int) -> frozenset[str]:
    return frozenset(filter(None, str(genres[row]).split(SEPARATOR)))


def _other_users(model: SavedModel, users: NDArray[np.int64], item_row: int) -> OtherUsers:
    seen = model.seen
    first, sizes = seen.indptr[users].astype(np.int64), seen.indptr[users + 1] - seen.indptr[users]
    theirs = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
    cells = theirs[seen.indices[theirs] == item_row]
    average = float(np.mean(seen.data[cells], dtype=np.float64)) if cells.size and seen.dtype == np.float32 else None
    return OtherUsers(int(cells.size), int(users.size), average)


def _history(model: SavedModel, user_row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and scores of the user's items; each counts 1 where the model keeps no scores."""
    cells = slice(int(model.seen.indptr[user_row]), int(model.seen.indptr[user_row + 1]))
    rows = np.asarray(model.seen.indices[cells], np.int64)
    kept = model.seen.dtype == np.float32
    return rows, np.asarray(model.seen.data[cells], np.float64) if kept else np.ones(rows.size)
