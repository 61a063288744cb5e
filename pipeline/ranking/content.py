"""Scores by content, for items that a model has not: how like the user's history an item is, by genres and tags.

With f the indicators of genres and tags, each item's of length 1, and w the user's scores of their items:

    s(u, x) = Σ_i w_i·cos(f_x, f_i) / Σ_i w_i        over the items i of the user's history

It is from 0 to 1, and the sum of the parts of the user's items (content-based profiles of Pazzani & Billsus 2007, with
the user's scores as weights). Scores of the model and these are of different scales, and are in no list together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.models.item_snapshot import SEPARATOR, ItemSnapshot

__all__ = ["CONTENT", "ContentMatch", "ContentScorer", "largest", "words_of"]

CONTENT = "content"

Float64s = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ContentMatch:
    """How an item outside the model matches a history of n items.

    Attributes
    ----------
    score : from 0 to 1
    parts : (n,) of each item of the history; they sum to the score
    similarities : (n,) of each item of the history with the item
    confidence : share of the model's items that are not in the history and score lower
    """

    score: float
    parts: Float64s
    similarities: Float64s
    confidence: float

    def expected(self, scores: Float64s) -> float:
        """The mean of the history's scores (n,), those of similar items counting more; n is 1 at least."""
        weights = self.similarities if self.similarities.any() else np.ones(scores.size)
        return float(np.average(scores, weights=weights))


class ContentScorer:
    """Compares the items of a snapshot by their genres and tags. A feature that no item of the model has is ignored."""

    def __init__(self, snapshot: ItemSnapshot) -> None:
        others = snapshot.others
        own = _words(len(snapshot.ids), snapshot.genres, snapshot.tags)
        names = sorted({word for words in own for word in words})
        self._position = {name: j for j, name in enumerate(names)}
        self._own = self._matrix(own)
        self._others = self._matrix(_words(0, None, None) if others is None else _words(
            len(others.ids), others.genres, others.tags
        ))  # fmt: skip

    def _matrix(self, words: Iterable[Sequence[str]]) -> sparse.csr_matrix:
        """(n, f) float64, each row of length 1, or of zeros."""
        columns = [sorted({self._position[word] for word in of if word in self._position}) for of in words]
        indptr = np.append(0, np.cumsum([len(row) for row in columns])).astype(np.int64)
        indices = np.array([j for row in columns for j in row], np.int32)
        data = np.repeat([1 / np.sqrt(len(row)) if row else 0.0 for row in columns], [len(row) for row in columns])
        return sparse.csr_matrix((data, indices, indptr), shape=(len(columns), len(self._position)))

    def similarities(self, other: int) -> Float64s:
        """(n_items,) of the model's items with the item in row `other` of those outside the model."""
        similar: Float64s = np.asarray((self._own @ self._others[other].T).todense()).ravel()
        return similar

    def match(self, other: int, rows: NDArray[np.integer], scores: NDArray[np.floating]) -> ContentMatch:
        """How the item matches a history: rows (n,) of the model's items, n ≥ 1, and their scores (n,) ≥ 0."""
        weights = np.maximum(scores.astype(np.float64), 0)
        weights = weights / weights.sum() if weights.any() else np.full(rows.size, 1 / rows.size)
        similar = self.similarities(other)[rows]
        parts = weights * similar
        score = float(parts.sum())
        unseen = np.ones(self._own.shape[0], bool)
        unseen[rows] = False
        of_items = self._own @ (self._own[rows].T @ weights)
        n_unseen = int(unseen.sum())
        lower = int(np.count_nonzero(of_items[unseen] < score - 1e-12))  # two sums of the same numbers
        return ContentMatch(score, parts, similar, lower / n_unseen if n_unseen else 1.0)


def largest(values: Float64s, rows: NDArray[np.integer], n: int) -> list[int]:
    """The places of the n largest values (m,) above 0, the largest first; ties by item row (m,)."""
    return [i for i in np.lexsort((rows, -values)).tolist() if values[i] > 0][:n]


def words_of(text: str) -> list[str]:
    """The genres or tags of a text of the snapshot."""
    return [word for word in text.split(SEPARATOR) if word]


def _words(n: int, genres: NDArray[np.str_] | None, tags: NDArray[np.str_] | None) -> list[list[str]]:
    """Of each item, in lower case, as rules compare genres."""
    words: list[list[str]] = [[] for _ in range(n)]
    for kind, texts in (("genre", genres), ("tag", tags)):
        for of_item, text in zip(words, [] if texts is None else texts.tolist(), strict=False):
            of_item += [f"{kind}:{word.lower()}" for word in words_of(text)]
    return words
