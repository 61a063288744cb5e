"""The candidates that a first model proposes, and their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.matrix import stored_cells
from pipeline.models.block_scores import best_scores, standard_of, top_items
from pipeline.models.protocols import SavedModel
from pipeline.models.rerank.features import ItemFacts, candidate_features

__all__ = ["Candidates", "candidates_of"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Attributes
    ----------
    items : (n, size) item rows, by falling score of the first model
    unseen : (n, size) bool; false past the last item that the user has not seen
    features : (n, size, n_features)
    """

    items: NDArray[np.intp]
    unseen: NDArray[np.bool_]
    features: NDArray[np.float64]


def candidates_of(model: SavedModel, facts: ItemFacts, rows: NDArray[np.intp]) -> Candidates:
    """The items that a first model proposes to the users in `rows`, with what the trees go by."""
    seen = stored_cells(model.seen.indptr, model.seen.indices, rows)
    scores = best_scores(model, rows, seen)
    standard = standard_of(scores, seen)
    scores[seen] = -np.inf
    items = top_items(scores)
    features = candidate_features(facts, model.seen, rows, items, np.take_along_axis(standard, items, axis=1))
    return Candidates(items, np.take_along_axis(scores, items, axis=1) > -np.inf, features)
