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
| ``tags`` | (n,) text | only if the source has tags; separated by ``|`` |
| ``series`` | (n,) text | only if the source has series: the one of each item; empty for an item of none |
| ``other_id`` | (o,) int64 or text | only if the source has items that the model has not: their ids, ascending |
| ``other_title``, ``other_genres``, ``other_tags`` | (o,) text | only with ``other_id`` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap
from pipeline.data.mapped import counts_of
from pipeline.errors import ArtifactError, InputError
from pipeline.models import safe_files

__all__ = [
    "MAX_TEXT_LENGTH",
    "MOST_OTHERS",
    "SEPARATOR",
    "ItemSnapshot",
    "ItemTexts",
    "OtherItems",
    "most_bytes",
    "read_snapshot",
    "write_snapshot",
]

# An array of text gives every item the width of the longest, four bytes a character: longer text is cut.
MAX_TEXT_LENGTH = 256
SEPARATOR = "|"
# Items outside the model that a snapshot keeps. Of more, those whose ids come last: mostly the newest.
MOST_OTHERS = 20_000
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_ALWAYS = ("item_id.npy", "popularity.npy")
_GENRES = ("genres.npy", "genre.npy", "genre_indptr.npy", "genre_items.npy")
_OTHERS = ("other_id.npy", "other_title.npy", "other_genres.npy", "other_tags.npy")
_SOMETIMES = ("title.npy", "tags.npy", "series.npy", *_GENRES, *_OTHERS)


@dataclass(frozen=True)
class ItemTexts:
    """Titles, genres and tags by item id as text; each may lack an item, and have items that the model has not.

    Attributes
    ----------
    titles : title
    genres : names of its genres
    tags : words that people gave it
    series : the series or franchise that it is a part of
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    genres: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OtherItems:
    """Items of the catalogue that the model has not: too few interactions, or none. Texts are (o,), empty if unknown.

    Only items with a genre or a tag are here: nothing else could be said of them.
    """

    ids: IdMap
    titles: NDArray[np.str_]
    genres: NDArray[np.str_]
    tags: NDArray[np.str_]

    @classmethod
    def of(cls, items: IdMap, texts: ItemTexts) -> OtherItems | None:
        """Those of the texts that are not among `items`, `MOST_OTHERS` at most; None if there are none."""
        if not len(items):
            return None
        named = [item for item in {**texts.genres, **texts.tags} if texts.genres.get(item) or texts.tags.get(item)]
        others = {item: known for item in named if (known := _of_kind(items, item)) is not None}
        if not others:
            return None
        ordered = sorted(others, key=lambda item: others[item])[-MOST_OTHERS:]
        ids = IdMap([others[item] for item in ordered])
        return cls(ids, *(_texts_of(ordered, by_item) for by_item in (texts.titles, texts.genres, texts.tags)))


def _of_kind(items: IdMap, item: str) -> int | str | None:
    """The id as the model has ids; None for one of the model's items, and for one that can't be of that kind."""
    if not item or _cut(item) != item or items.row(item) >= 0:
        return None
    if items.kind == "str":
        return item
    return int(item) if _INTEGER.fullmatch(item) and -(2**63) <= int(item) < 2**63 else None


@dataclass(frozen=True, eq=False)
class ItemSnapshot:
    """`titles`, `genres`, `tags` and `series` are None if the source has none; see the module for shapes and types."""

    ids: IdMap
    popularity: NDArray[np.int64]
    titles: NDArray[np.str_] | None = None
    genres: NDArray[np.str_] | None = None
    genre_names: tuple[str, ...] = ()
    genre_indptr: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    genre_items: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    tags: NDArray[np.str_] | None = None
    others: OtherItems | None = None
    series: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, items: IdMap, seen: sparse.csr_matrix, texts: ItemTexts | None = None) -> ItemSnapshot:
        """The items with their numbers of interactions and their texts, and what the texts say of other items."""
        return cls.of_counts(items, counts_of(seen.indices, len(items)), texts)

    @classmethod
    def of_counts(cls, items: IdMap, popularity: NDArray[np.int64], texts: ItemTexts | None = None) -> ItemSnapshot:
        """As `of`, of numbers of interactions (n,)."""
        texts = texts or ItemTexts()
        ids = [str(value) for value in items.values.tolist()]
        titles = _texts_of(ids, texts.titles) if texts.titles else None
        tags = _texts_of(ids, texts.tags) if texts.tags else None
        series = _texts_of(ids, texts.series) if texts.series else None
        known = cls(items, popularity, titles, tags=tags, others=OtherItems.of(items, texts), series=series)
        if not texts.genres:
            return known
        genres = _texts_of(ids, texts.genres)
        # A genre that was cut off does not count: `genres` holds all genres of the item.
        names, indptr, rows = _by_genre(genres, popularity)
        return replace(known, genres=genres, genre_names=names, genre_indptr=indptr, genre_items=rows)

    @property
    def texts(self) -> ItemTexts:
        """Titles, genres, tags and series by id as text, of the other items too; as far as they were not cut off."""
        of_both: tuple[dict[str, str], ...] = ({}, {}, {})
        groups = [(self.ids, (self.titles, self.genres, self.tags))]
        if (others := self.others) is not None:
            groups.append((others.ids, (others.titles, others.genres, others.tags)))
        for ids, arrays in groups:
            for known, array in zip(of_both, arrays, strict=True):
                if array is not None:
                    known.update(zip(map(str, ids.values.tolist()), array.tolist(), strict=True))
        titles, *words = of_both
        genres, tags = ({item: text.split(SEPARATOR) for item, text in of.items()} for of in words)
        series = [] if self.series is None else self.series.tolist()
        by_item = zip(map(str, self.ids.values.tolist()), series, strict=False)
        return ItemTexts(titles, genres, tags, {item: one for item, one in by_item if one})

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


def _texts_of(ids: Sequence[str], texts: Mapping[str, str] | Mapping[str, Sequence[str]]) -> NDArray[np.str_]:
    """What the texts say of the items, (n,); several words of an item with `SEPARATOR` between them."""
    said = [texts.get(item, "") for item in ids]
    return _text([one if isinstance(one, str) else SEPARATOR.join(_cut(name) for name in one if name) for one in said])


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
    if snapshot.tags is not None:
        arrays["tags"] = snapshot.tags
    if snapshot.series is not None:
        arrays["series"] = snapshot.series
    if (others := snapshot.others) is not None:
        arrays |= {"other_id": others.ids.values, "other_title": others.titles}
        arrays |= {"other_genres": others.genres, "other_tags": others.tags}
    np.savez(file, allow_pickle=False, **arrays)


def most_bytes(n_items: int) -> int:
    """Largest size of a snapshot of so many items, in bytes."""
    text = 4 * MAX_TEXT_LENGTH
    # Four texts and an id an item; a genre has two characters at least in `genres`, with its separator.
    most_genres = n_items * (MAX_TEXT_LENGTH // 2 + 1)
    of_items = (n_items + MOST_OTHERS) * (4 * text + 4 * MAX_ID_LENGTH) + 8 * n_items
    return of_items + min(most_genres, 1 << 16) * (text + 8) + 4 * most_genres + 8


def read_snapshot(file: BufferedReader, items: IdMap) -> ItemSnapshot:
    """The snapshot of a model with these items. Raises ArtifactError if it is not a snapshot of them."""
    parts = safe_files.members(file, _ALWAYS, optional=_SOMETIMES)
    for group in (_GENRES, _OTHERS):
        if any(name in parts for name in group) and not all(name in parts for name in group):
            raise ArtifactError(f"it must hold all of {', '.join(group)}, or none of them")
    n = len(items)
    popularity = safe_files.read_array(file, parts["popularity.npy"], "<i8", 1)
    # An empty list of ids has no type.
    ids = _ids(file, parts["item_id.npy"], items) if n else items.values[:0]
    if not np.array_equal(ids, items.values) or popularity.shape != (n,):
        raise ArtifactError("its items are not those of the model")
    titles, tags, series = (_texts(file, parts, name, n) for name in ("title", "tags", "series"))
    known = ItemSnapshot(items, popularity, titles, tags=tags, others=_others(file, parts, items), series=series)
    if "genres.npy" not in parts:
        return known
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
    return replace(known, genres=genres, genre_names=tuple(names.tolist()), genre_indptr=indptr, genre_items=rows)


def _ids(file: BufferedReader, part: safe_files.Part, items: IdMap) -> NDArray[Any]:
    if items.kind == "int":
        return safe_files.read_array(file, part, "<i8", 1)
    return safe_files.read_text_array(file, part, MAX_ID_LENGTH)


def _texts(file: BufferedReader, parts: Mapping[str, safe_files.Part], name: str, n: int) -> NDArray[np.str_] | None:
    """A text for each of n items; None where the file has no such member."""
    if f"{name}.npy" not in parts:
        return None
    texts = safe_files.read_text_array(file, parts[f"{name}.npy"], MAX_TEXT_LENGTH)
    if texts.shape != (n,):
        raise ArtifactError(f"it has {texts.size} of {name} for {n} items")
    return texts


def _others(file: BufferedReader, parts: Mapping[str, safe_files.Part], items: IdMap) -> OtherItems | None:
    if _OTHERS[0] not in parts:
        return None
    try:
        ids = IdMap(_ids(file, parts[_OTHERS[0]], items))
    except InputError as error:
        raise ArtifactError(f"its other items: {error}") from None
    found = [_texts(file, parts, name.removesuffix(".npy"), len(ids)) for name in _OTHERS[1:]]
    titles, genres, tags = [texts for texts in found if texts is not None]
    return OtherItems(ids, titles, genres, tags)
