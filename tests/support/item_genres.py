"""Genres for the items of small models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts
from pipeline.ranking.genres import ItemGenres
from pipeline.ranking.scorer import Scorer

__all__ = ["genre_texts", "with_genres"]


def genre_texts(scorer: Scorer, genres: Mapping[int, Sequence[str]]) -> ItemTexts:
    """The texts of a snapshot whose items have these genres, by item row."""
    ids = scorer.items.values.tolist()
    return ItemTexts(genres={str(ids[row]): names for row, names in genres.items()})


def with_genres(scorer: Scorer, genres: Mapping[int, Sequence[str]]) -> Scorer:
    """The scorer, whose items have these genres, by item row."""
    scorer.genre_source.genres = ItemGenres.of(
        ItemSnapshot.of(scorer.items, scorer.model.seen, genre_texts(scorer, genres))
    )
    return scorer
