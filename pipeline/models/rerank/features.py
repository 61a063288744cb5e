"""What the second stage knows of a user and an item, which the first does not: age, trend, genres, activity.

Features of a candidate, in this order (`NAMES`):

    rank        log2(1 + its place among the first model's candidates)
    standard    its standard score by the first model (`pipeline.models.block_scores`)
    count       log(1 + interactions of the item)
    age         log(1 + days from the item's first interaction to the newest of all)
    idle        log(1 + days from the item's last interaction to the newest of all)
    trend       log of its interactions in the last 30 days over those in the 30 days before, each + 1
    recent      log(1 + its interactions, each halved every 30 days)
    genres      mean over the item's genres of the share of the user's history that has the genre
    history     log(1 + interactions of the user)

The four of time are 0 where interactions have no times; `genres` is 0 where items have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import days_before, stored_cells
from pipeline.errors import ArtifactError
from pipeline.models.item_snapshot import ItemTexts

__all__ = ["NAMES", "OF_ITEM", "ItemFacts", "candidate_features", "item_facts"]

OF_ITEM = ("count", "age", "idle", "trend", "recent")
NAMES = ("rank", "standard", *OF_ITEM, "genres", "history")
_DAYS = 30.0


@dataclass(frozen=True, eq=False)
class ItemFacts:
    """Attributes
    ----------
    values : (n_items, 5) float32, the columns of `OF_ITEM`
    genres : csr (n_items, n_genres); a stored cell is a genre of the item
    """

    values: NDArray[np.float32]
    genres: sparse.csr_matrix

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(OF_ITEM) or self.values.dtype != np.float32:
            raise ArtifactError(f"Facts of items have shape (n, {len(OF_ITEM)}), not {self.values.shape}")
        if not np.isfinite(self.values).all() or self.genres.shape[0] != self.values.shape[0]:
            raise ArtifactError("Facts of items must be finite, with the genres of as many items")


def item_facts(x: Interactions, items: IdMap, texts: ItemTexts | None) -> ItemFacts:
    """The facts of the items by these interactions, whose item rows are those of `items`."""
    n = len(items)
    count = np.bincount(x.items, minlength=n).astype(np.float64)
    values = np.zeros((n, len(OF_ITEM)))
    values[:, 0] = np.log1p(count)
    if x.at is not None and len(x):
        days = days_before(x.at.max(), x.at)
        first, last = np.zeros(n), np.full(n, np.inf)
        np.maximum.at(first, x.items, days)
        np.minimum.at(last, x.items, days)
        now = np.bincount(x.items[days <= _DAYS], minlength=n)
        before = np.bincount(x.items[(days > _DAYS) & (days <= 2 * _DAYS)], minlength=n)
        values[:, 1], values[:, 2] = np.log1p(first), np.log1p(np.where(count > 0, last, first))
        values[:, 3] = np.log((now + 1) / (before + 1))
        values[:, 4] = np.log1p(np.bincount(x.items, 0.5 ** (days / _DAYS), minlength=n))
    return ItemFacts(values.astype(np.float32), _genres(items, texts))


def _genres(items: IdMap, texts: ItemTexts | None) -> sparse.csr_matrix:
    of_items = [tuple(texts.genres.get(str(item), ())) if texts else () for item in items.values.tolist()]
    column = {name: j for j, name in enumerate(sorted({name for names in of_items for name in names}))}
    rows = [sorted({column[name] for name in names}) for names in of_items]
    indptr = np.append(0, np.cumsum([len(row) for row in rows])).astype(np.int64)
    indices = np.array([j for row in rows for j in row], np.int32)
    return sparse.csr_matrix((np.ones(indices.size, np.float32), indices, indptr), shape=(len(rows), len(column)))


def candidate_features(
    facts: ItemFacts,
    seen: sparse.csr_matrix,
    rows: NDArray[np.intp],
    items: NDArray[np.intp],
    standard: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Features (n, size, 9) of the candidates of some users.

    Parameters
    ----------
    seen : csr (n_users, n_items), the users' histories
    rows : (n,) user rows
    items, standard : (n, size) candidates by falling score of the first model, and their standard scores
    """
    n, size = items.shape
    features = np.empty((n, size, len(NAMES)))
    features[:, :, 0] = np.log2(2 + np.arange(size))
    features[:, :, 1] = standard
    features[:, :, 2 : 2 + len(OF_ITEM)] = facts.values[items]
    features[:, :, -1] = np.log1p(np.diff(seen.indptr)[rows])[:, None]
    features[:, :, -2] = _matches(facts.genres, seen, rows, items)
    return features


def _matches(
    genres: sparse.csr_matrix, seen: sparse.csr_matrix, rows: NDArray[np.intp], items: NDArray[np.intp]
) -> NDArray[np.float64]:
    n_genres = genres.shape[1]
    if not n_genres:
        return np.zeros(items.shape)
    user, item = stored_cells(seen.indptr, seen.indices, rows)
    cell, genre = stored_cells(genres.indptr, genres.indices, item.astype(np.intp))
    counts = np.bincount(user[cell] * n_genres + genre, minlength=rows.size * n_genres).reshape(rows.size, n_genres)
    shares = counts / np.maximum(np.bincount(user, minlength=rows.size), 1)[:, None]
    candidate, genre = stored_cells(genres.indptr, genres.indices, items.ravel())
    total = np.bincount(candidate, shares[candidate // items.shape[1], genre], minlength=items.size)
    n_own = np.diff(genres.indptr)[items.ravel()]
    matches: NDArray[np.float64] = (total / np.maximum(n_own, 1)).reshape(items.shape)
    return matches
