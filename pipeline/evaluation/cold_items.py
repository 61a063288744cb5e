"""What lists of held-out items alone are compared with: a random order, and the order that nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from pipeline.data.matrix import UserItems
from pipeline.data.splits import Split
from pipeline.evaluation.metric_names import REFERENCES
from pipeline.models.factor_model import FactorModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.starts import uniform_rows
from pipeline.ranking.scorer import Scorer

__all__ = ["HELD_OUT_POPULAR", "RANDOM", "references"]

RANDOM, HELD_OUT_POPULAR = REFERENCES
_COMPONENTS = 32  # of random factors, whose products put the items in another order for each user
_SEED = 42


def references(matrix: UserItems, split: Split) -> Iterator[tuple[str, Scorer]]:
    """Rankers of the held-out items of a split by whole items, by name.

    In the random order every user has another one. The other goes by the number of held-out interactions of each item:
    what a list for everybody could reach at most.

    matrix : of `split.train`, in order
    """
    items, users, x = split.items, matrix.users, matrix.scores
    cols = items.rows(matrix.items.values)[x.indices]
    seen = sparse.csr_matrix((x.data, cols, x.indptr), shape=(x.shape[0], len(items)))
    half = np.float32(0.5)
    w = uniform_rows(users, _COMPONENTS, _SEED, "users") - half
    h = uniform_rows(items, _COMPONENTS, _SEED, "items") - half
    of_chance = FactorModel(w, np.ascontiguousarray(h.T), users, items, seen, {"fold_in": "linear"})
    yield RANDOM, Scorer(of_chance, RANDOM)
    count = np.zeros(len(items), np.float32)
    rows, of_each = np.unique(items.rows(split.test.item_ids.values)[split.test.items], return_counts=True)
    count[rows] = of_each
    yield HELD_OUT_POPULAR, Scorer(PopularityModel(count, users, items, seen), HELD_OUT_POPULAR)
