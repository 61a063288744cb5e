"""ELSA: a linear model of items on items of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.algorithms.sized import SizedAlgorithm
from pipeline.models.base import Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import Choice, FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["ELSAAlgorithm"]

_RATE = 0.1
# Seconds on one core: 200 iterations on 610 × 9,724 with k = 256 take 10.
_CELL, _ITEM, _GRAM = 1.5e-9, 1.2e-8, 5e-11  # for each k of a cell, of an item, and k² of an item


class ELSAAlgorithm(SizedAlgorithm):
    """Scores are X(AAᵀ − I), where each item has a row of A of length 1."""

    name = "elsa"
    display_name = "ELSA"
    kind = "factors"
    auto = 256
    options = frozenset(
        {"n_components", "max_iter", "tol", "learning_rate", "transform", "half_life_days", "cold_items"}
    )
    own_defaults = {"learning_rate": _RATE}  # noqa: RUF012 (as in the base)
    space = SearchSpace(
        dimensions=(
            FloatRange("half_life_days", 3.0, 3000.0, above=None),
            Choice("transform", ("none", "log1p", "binary")),
            IntegerRange("n_components", 32, 1024),
            FloatRange("learning_rate", 0.01, 1.0),
            IntegerRange("max_iter", 20, 400),
        ),
        usual=frozenset({"half_life_days", "transform", "n_components"}),
        need_times=frozenset({"half_life_days"}),
    )
    stands_for = "ease"
    stepped = True

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Descend along the gradient, a tenth of the users at a time; see `Algorithm.fit`."""
        import numpy as np

        from pipeline.models.elsa import fit_elsa

        k = self.components(options, user_items.scores.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            fit = fit_elsa(
                user_items, k, learning_rate=float(self.option(options, "learning_rate")), max_iter=options.max_iter,
                tol=float(options.tol), seed=options.random_state, n_threads=options.threads,
                transform=options.transform, on_iteration=on_iteration,
                keep_interrupted=options.on_interrupt == "keep",
            )  # fmt: skip
        # Its rule is a number of rounds over all users: more of them lower the loss, and can rank worse.
        return Fitted(fit.model, fit.losses, True, fit.interrupted, {"n_components_used": k})

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Items' factors five times while they are fitted; the factors of both sides at the end."""
        n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        an_iteration = k * (_CELL * n / 10 * 3 + _ITEM * size.n_items + _GRAM * k * (size.n_items + size.n_users / 10))
        return Footprint(
            evaluate={"factors": 4 * k * both},
            fit={
                "history": 16 * n, "factors": 20 * k * size.n_items + 4 * k * both,
                "gradients": 16 * k * (size.n_users // 10 + 1024 * plan.threads) + 8 * k * k,
            },
            measure={"factors": 4 * k * both},
            log={"factors": 8 * k * both},
            fit_seconds=an_iteration * plan.max_iter / plan.threads,
        )  # fmt: skip
