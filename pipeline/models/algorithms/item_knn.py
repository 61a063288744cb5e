"""Item-kNN: recommends items similar to those that a user has interacted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.base import Algorithm, Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["ItemKNNAlgorithm"]

# Measured, fit and lists: 4.3e8 steps in 2 s (6,000 users of 100 items on average), 3.6e8 in 5 s (3,000 of 400),
# 1.1e9 in 7 s (50,000 users, 20,000 items).
_STEPS_A_SECOND = 100_000_000
_STEPS_AN_ITEM = 4000  # steps to choose the neighbours of one item, besides finding them


class ItemKNNAlgorithm(Algorithm):
    """Cosine similarity of items by their users; an item is scored by those most similar to it."""

    name = "item-knn"
    display_name = "item-kNN"
    kind = "item_item"
    options = frozenset({"n_neighbours", "shrinkage"})
    space = SearchSpace(
        dimensions=(IntegerRange("n_neighbours", 5, 1000), FloatRange("shrinkage", 1.0, 1000.0, below=0.0)),
        usual=frozenset({"n_neighbours", "shrinkage"}),
    )
    baseline = True

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """The neighbours of each item; see `Algorithm.fit`."""
        from pipeline.models.item_knn import fit_item_knn

        return Fitted(fit_item_knn(user_items, options.n_neighbours, float(options.shrinkage)))

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """The neighbours, held twice while the matrix is built, and the histories."""
        from pipeline.models.item_item_model import BLOCK_BYTES

        neighbours = 12 * size.n_items * min(plan.n_neighbours, size.n_items)
        history = 12 * size.n_cells + 8 * size.n_users
        steps = size.n_cells**2 / max(size.n_users, 1) + _STEPS_AN_ITEM * size.n_items
        return Footprint(
            evaluate={"neighbours": neighbours, "history": history},
            fit={"neighbours": 2 * neighbours + BLOCK_BYTES, "history": 2 * history},
            measure={"neighbours": neighbours, "history": history},
            log={"neighbours": 2 * neighbours, "history": history},
            fit_seconds=steps / _STEPS_A_SECOND,
        )

    def seconds_as_baseline(self, user_items: UserItems, n_evaluated: int) -> float:
        """By pairs of items in one history, Σ_u n_u², scores, n_evaluated·n_items, and choosing neighbours."""
        import numpy as np

        n = np.diff(user_items.scores.indptr).astype(np.int64)
        return (int((n**2).sum()) + len(user_items.items) * (n_evaluated + _STEPS_AN_ITEM)) / _STEPS_A_SECOND
