"""The items of a saved model in readable form: ``items.npz``, which numpy reads without Rankline.

| member | shape, type | what |
|---|---|---|
| ``item_id`` | (n,) int64 or text | ids in the order of the model's item rows |
| ``popularity`` | (n,) int64 | number of interactions in training |
| ``title`` | (n,) text | only if the source has titles; empty for an item without one |
| ``genres`` | (n,) text | only if the source has genres; separated by ``|`` |
| ``genre`` | (g,) text | only with ``genres``: the names, in ascending order |
| ``genre_indptr`` | (g + 1,) int64 | only with ``genres``: start of each genre's rows in ``genre_items`` |
| ``genre_items`` | (m,) int32 | only with ``genres``: the item rows of each genre, most popular first |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap
from pipeline.errors import ArtifactError
from pipeline.models import safe_files

__all__ = ["MAX_TEXT_LENGTH", "SEPARATOR", "ItemSnapshot", "ItemTexts", "most_bytes", "read_snapshot", "write_snapshot"]

# An array of text gives every item the width of the longest, four bytes a character: longer text is cut.
MAX_TEXT_LENGTH = 256
SEPARATOR = "|"
_ALWAYS = ("item_id.npy", "popularity.npy")
_GENRES = ("genres.npy", "genre.npy", "genre_indptr.npy", "genre_items.npy")
_SOMETIMES = ("title.npy", *_GENRES)


@dataclass(frozen=True)
class ItemTexts:
    """Titles, genres and tags by item id as text; each may lack an item.

    Attributes
    ----------
    titles : title
    genres : names of its genres
    tags : words that people gave it; they are not saved
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    genres: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ItemSnapshot:
    """`titles` and `genres` are None if the source has none; see the module for shapes and types."""

    ids: IdMap
    popularity: NDArray[np.int64]
    titles: NDArray[np.str_] | None = None
    genres: NDArray[np.str_] | None = None
    genre_names: tuple[str, ...] = ()
    genre_indptr: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    genre_items: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def of(cls, items: IdMap, seen: sparse.csr_matrix, texts: ItemTexts | None = None) -> ItemSnapshot:
        """The items with their numbers of interactions and their texts."""
        return cls.of_counts(items, np.bincount(seen.indices, minlength=len(items)).astype(np.int64), texts)

    @classmethod
    def of_counts(cls, items: IdMap, popularity: NDArray[np.int64], texts: ItemTexts | None = None) -> ItemSnapshot:
        """The items with these numbers of interactions, (n,)."""
        if texts is None or not (texts.titles or texts.genres):
            return cls(items, popularity)
        ids = [str(value) for value in items.values.tolist()]
        titles = _text([texts.titles.get(item, "") for item in ids]) if texts.titles else None
        if not texts.genres:
            return cls(items, popularity, titles)
        names = [[_cut(name) for name in texts.genres.get(item, ()) if name] for item in ids]
        genres = _text([SEPARATOR.join(of_item) for of_item in names])
        # A genre that was cut off does not count: `genres` holds all genres of the item.
        return cls(items, popularity, titles, genres, *_by_genre(genres, popularity))

    @property
    def texts(self) -> ItemTexts:
        """Titles and genres by id as text, as far as they were not cut off."""
        ids = [str(value) for value in self.ids.values.tolist()]
        titles = {} if self.titles is None else dict(zip(ids, self.titles.tolist(), strict=True))
        genres = {} if self.genres is None else dict(zip(ids, self.genres.tolist(), strict=True))
        return ItemTexts(titles, {item: text.split(SEPARATOR) for item, text in genres.items()})

    def popular_in(self, genre: str) -> NDArray[np.int32]:
        """Item rows of the genre, most popular first, ties by row; none for a genre that no item has."""
        if genre not in self.genre_names:
            return self.genre_items[:0]
        j = self.genre_names.index(genre)
        return self.genre_items[self.genre_indptr[j] : self.genre_indptr[j + 1]]


def _cut(text: str) -> str:
    # A NUL at the end would be lost: numpy pads text with them. A lone surrogate is no text.
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:MAX_TEXT_LENGTH]


def _text(values: Sequence[str]) -> NDArray[np.str_]:
    return np.array([_cut(value) for value in values] or np.zeros(0, "<U1"), dtype=np.str_)


def _by_genre(
    genres: NDArray[np.str_], popularity: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int32]]:
    """Names, and for each the item rows of it by falling popularity."""
    rows: dict[str, list[int]] = {}
    for row in np.argsort(-popularity, kind="stable").tolist():
        for name in dict.fromkeys(filter(None, str(genres[row]).split(SEPARATOR))):
            rows.setdefault(name, []).append(row)
    names = tuple(sorted(rows))
    indptr = np.append(0, np.cumsum([len(rows[name]) for name in names])).astype(np.int64)
    return names, indptr, np.array([row for name in names for row in rows[name]], np.int32)


def write_snapshot(file: IO[bytes], snapshot: ItemSnapshot) -> None:
    """Write an uncompressed ``.npz``."""
    arrays: dict[str, Any] = {"item_id": snapshot.ids.values, "popularity": snapshot.popularity}
    if snapshot.titles is not None:
        arrays["title"] = snapshot.titles
    if snapshot.genres is not None:
        arrays |= {"genres": snapshot.genres, "genre": _text(snapshot.genre_names)}
        arrays |= {"genre_indptr": snapshot.genre_indptr, "genre_items": snapshot.genre_items}
    np.savez(file, allow_pickle=False, **arrays)


def most_bytes(n_items: int) -> int:
    """Largest size of a snapshot of so many items, in bytes."""
    text = 4 * MAX_TEXT_LENGTH
    # Two texts and an id an item; a genre has two characters at least in `genres`, with its separator.
    most_genres = n_items * (MAX_TEXT_LENGTH // 2 + 1)
    return n_items * (2 * text + 4 * MAX_ID_LENGTH + 8) + min(most_genres, 1 << 16) * (text + 8) + 4 * most_genres + 8


def read_snapshot(file: BufferedReader, items: IdMap) -> ItemSnapshot:
    """The snapshot of a model with these items. Raises ArtifactError if it is not a snapshot of them."""
    parts = safe_files.members(file, _ALWAYS, optional=_SOMETIMES)
    if any(name in parts for name in _GENRES) and not all(name in parts for name in _GENRES):
        raise ArtifactError(f"it must hold all of {', '.join(_GENRES)}, or none of them")
    n = len(items)
    popularity = safe_files.read_array(file, parts["popularity.npy"], "<i8", 1)
    ids: NDArray[Any] = items.values[:0]  # an empty list of ids has no type
    if n and items.kind == "int":
        ids = safe_files.read_array(file, parts["item_id.npy"], "<i8", 1)
    elif n:
        ids = safe_files.read_text_array(file, parts["item_id.npy"], MAX_ID_LENGTH)
    if not np.array_equal(ids, items.values) or popularity.shape != (n,):
        raise ArtifactError("its items are not those of the model")
    titles = None
    if "title.npy" in parts:
        titles = safe_files.read_text_array(file, parts["title.npy"], MAX_TEXT_LENGTH)
        if titles.shape != (n,):
            raise ArtifactError(f"it has {titles.size} titles for {n} items")
    if "genres.npy" not in parts:
        return ItemSnapshot(items, popularity, titles)
    genres = safe_files.read_text_array(file, parts["genres.npy"], MAX_TEXT_LENGTH)
    names = safe_files.read_text_array(file, parts["genre.npy"], MAX_TEXT_LENGTH)
    indptr = safe_files.read_array(file, parts["genre_indptr.npy"], "<i8", 1)
    rows = safe_files.read_array(file, parts["genre_items.npy"], "<i4", 1)
    if genres.shape != (n,) or indptr.shape != (names.size + 1,):
        raise ArtifactError("its genres do not fit its items")
    if indptr[0] != 0 or indptr[-1] != rows.size or (np.diff(indptr) < 0).any():
        raise ArtifactError(f"genre_indptr does not fit {rows.size} items")
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise ArtifactError(f"item rows must be in range [0, {n})")
    return ItemSnapshot(items, popularity, titles, genres, tuple(names.tolist()), indptr, rows)
