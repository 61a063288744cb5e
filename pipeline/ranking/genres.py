"""`ItemGenres`: which items have which genres, from the snapshot of the items that comes with a model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import distinct
from pipeline.errors import InputError
from pipeline.models.item_snapshot import ItemSnapshot

__all__ = ["GenreSource", "ItemGenres"]


@dataclass(frozen=True, eq=False)
class ItemGenres:
    """The genres of each item; names that differ in the case of letters are one genre, as in rules.

    Attributes
    ----------
    names : in lower case, ascending
    indptr, indices : (n_items + 1,) int64 and int32; genre numbers of item i in indices[indptr[i] : indptr[i + 1]]
    """

    names: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]

    @classmethod
    def of(cls, snapshot: ItemSnapshot) -> ItemGenres | None:
        """The genres of a snapshot's items; None if it has none."""
        if not snapshot.genre_names:
            return None
        names = sorted({name.lower() for name in snapshot.genre_names})
        number = {name: i for i, name in enumerate(names)}
        of_name = np.array([number[name.lower()] for name in snapshot.genre_names])
        genre = np.repeat(of_name, np.diff(snapshot.genre_indptr))
        # Ascending by item, then genre; each pair once, though two spellings may be of one genre.
        pairs = distinct(snapshot.genre_items.astype(np.int64) * len(names) + genre)
        item, genre = np.divmod(pairs, len(names))
        indptr = np.searchsorted(item, np.arange(len(snapshot.ids) + 1)).astype(np.int64)
        return cls(tuple(names), indptr, genre.astype(np.int32))

    @classmethod
    def of_series(cls, snapshot: ItemSnapshot) -> ItemGenres | None:
        """The same of the series: each item has one, or none. None where the snapshot has no series."""
        if snapshot.series is None:
            return None
        lower = np.array([text.lower() for text in snapshot.series.tolist()] or np.zeros(0, "<U1"), np.str_)
        names, number = np.unique(lower[lower != ""], return_inverse=True)
        indptr = np.append(0, np.cumsum(lower != "")).astype(np.int64)
        return cls(tuple(names.tolist()), indptr, number.astype(np.int32))

    def rows_of(self, wanted: Collection[str]) -> NDArray[np.int32]:
        """Rows of the items that have any of these genres, ascending. Raises InputError for a genre of no item."""
        unknown = [name for name in wanted if name.lower() not in self.names]
        if unknown:
            shown = ", ".join(self.names[:20]) + (" …" if len(self.names) > 20 else "")
            raise InputError(f"No item of the model has the genre {unknown[0][:60]!r}; its genres are {shown}")
        numbers = [self.names.index(name.lower()) for name in wanted]
        cells = np.flatnonzero(np.isin(self.indices, numbers))
        return distinct(np.searchsorted(self.indptr, cells, side="right") - 1).astype(np.int32)

    def beside(self, other: ItemGenres) -> ItemGenres:
        """These, and after them others of the same items."""
        n = self.indptr.size - 1
        item = np.concatenate([np.repeat(np.arange(n), np.diff(one.indptr)) for one in (self, other)])
        genre = np.append(self.indices, other.indices + len(self.names)).astype(np.int32)
        order = np.argsort(item, kind="stable")
        return ItemGenres((*self.names, *other.names), self.indptr + other.indptr, genre[order])

    def of_items(self, items: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """(position in `items`, genre) of each genre of these item rows."""
        start = self.indptr[items]
        count = self.indptr[items + 1] - start
        of = np.repeat(np.arange(items.size), count)
        within = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
        return of, self.indices[np.repeat(start, count) + within]


class GenreSource:
    """The genres and series of a model's items, made once, when they are first asked for.

    snapshot : gives the items with their genres, or None for a model without such a snapshot
    """

    def __init__(self, snapshot: Callable[[], ItemSnapshot | None] = lambda: None) -> None:
        self._snapshot = snapshot

    @cached_property
    def genres(self) -> ItemGenres:
        """Raises InputError where the items have none, ArtifactError where their file can't be read."""
        snapshot = self._snapshot()
        genres = None if snapshot is None else ItemGenres.of(snapshot)
        if genres is None:
            raise InputError(
                "The items of this model have no genres: a training from the warehouse takes them from raw.movies, one "
                "from a file or a query from the files of --items"
            )
        return genres

    @cached_property
    def series(self) -> ItemGenres:
        """Raises InputError where the items have none, ArtifactError where their file can't be read."""
        snapshot = self._snapshot()
        series = None if snapshot is None else ItemGenres.of_series(snapshot)
        if series is None:
            raise InputError(
                "The items of this model have no series: a training takes them from a column series in the files of "
                "--items"
            )
        return series
