"""EASE: a linear model of items on items, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.base import Algorithm, Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import Choice, FloatRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["EASEAlgorithm"]

_REGULARIZATION = 200.0
_INVERSE = 3e-11  # seconds on one core: n³ times this (AVX-512: 2.4e-11 to 2.8e-11)
_PAIR = 3e-9  # of one pair of items in one history
_WEIGHT = 1e-9  # of one weight that is read to score


class EASEAlgorithm(Algorithm):
    """Scores are X·B, where B predicts each item from the others by ridge regression."""

    name = "ease"
    display_name = "EASE"
    kind = "item_item"
    options = frozenset({"regularization", "transform", "half_life_days"})
    own_defaults = {"regularization": _REGULARIZATION}  # noqa: RUF012 (as in the base)
    space = SearchSpace(
        dimensions=(
            FloatRange("half_life_days", 3.0, 3000.0, above=None),
            Choice("transform", ("none", "log1p", "binary")),
            FloatRange("regularization", 1.0, 1e4),
        ),
        usual=frozenset({"half_life_days", "transform", "regularization"}),
        need_times=frozenset({"half_life_days"}),
    )

    instead = ("elsa", "item-knn")

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Invert the smaller of XᵀX + λI and XXᵀ + λI; see `Algorithm.fit`."""
        from dataclasses import replace

        from pipeline.models.ease import fit_ease, is_dual, penalty_of

        penalty = penalty_of(user_items, float(self.option(options, "regularization")))
        model = fit_ease(user_items, penalty, options.threads)
        model = replace(model, meta={**model.meta, "parameters": {"transform": options.transform}})
        form = "dual" if is_dual(user_items.scores.shape) else "primal"
        return Fitted(model, facts={"regularization_used": penalty, "ease_form": form})

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """The matrix that is inverted, and the weights; blocks of scores."""
        from pipeline.models.item_item_model import BLOCK_BYTES

        m, n = size.n_users, size.n_items
        dual = m < n
        side = min(m, n)
        history = 12 * size.n_cells + 8 * m
        weights = 8 * m * m + history if dual else 4 * n * n
        scoring = min(2 * BLOCK_BYTES, 24 * m * n)
        pairs = size.n_cells**2 / max(n if dual else m, 1)
        return Footprint(
            evaluate={"weights": weights, "history": history, "scoring": scoring},
            fit={
                "inverse": 8 * side * side, "weights": 0 if dual else weights, "history": 3 * history,
                "scoring": scoring,
            },
            measure={"weights": weights, "history": history},
            log={"weights": weights, "history": history},
            fit_seconds=(_INVERSE * side**3 + _PAIR * pairs) / plan.threads
            + (_WEIGHT * size.n_cells * m if dual else 0.0),
        )  # fmt: skip
