"""NeuMF: a network that orders what a factor model proposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline.models.algorithms.sized import SizedAlgorithm
from pipeline.models.base import Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import Choice, FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["NeuMFAlgorithm"]

_RATE = 0.001
_REGULARIZATION = 0.01  # of the factor model, as als has it
# Seconds on one core: what starting JAX and compiling a step take; of a multiply-add of a sample, forward and back; of
# a number of the items' tables in a step.
_START, _PRODUCT, _NUMBER = 3.0, 5e-11, 2.5e-9


class NeuMFAlgorithm(SizedAlgorithm):
    """A product of embeddings and layers over them, trained on interactions and drawn items."""

    name = "neumf"
    display_name = "NeuMF"
    kind = "neural"
    auto = 32  # numbers in an embedding
    options = frozenset(
        {
            "n_components", "layers", "dropout", "negatives_per_positive", "learning_rate", "max_iter",
            "regularization", "transform", "half_life_days",
        }
    )  # fmt: skip
    own_defaults = {"learning_rate": _RATE, "regularization": _REGULARIZATION}  # noqa: RUF012 (as in the base)
    space = SearchSpace(
        dimensions=(
            FloatRange("half_life_days", 3.0, 3000.0, above=None),
            Choice("transform", ("none", "log1p", "binary")),
            IntegerRange("n_components", 8, 128),
            FloatRange("regularization", 1e-4, 1.0),
            FloatRange("learning_rate", 1e-4, 1e-2),
            IntegerRange("max_iter", 20, 400),
            FloatRange("dropout", 0.05, 0.6, below=0.0),
            IntegerRange("negatives_per_positive", 1, 16),
        ),
        usual=frozenset({"half_life_days", "transform", "n_components", "learning_rate"}),
        need_times=frozenset({"half_life_days"}),
    )
    stepped = True
    searched_by_auto = False

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Fit the factor model, then the network; see `Algorithm.fit`. Raises UsageError where JAX is missing."""
        from pipeline.models.neumf import Settings, fit_neumf
        from pipeline.models.solvers.iterations import Iterations

        settings = Settings(
            embedding=self.components(options, user_items.scores.shape),
            layers=options.layer_units,
            dropout=float(options.dropout),
            negatives=options.negatives_per_positive,
            learning_rate=float(self.option(options, "learning_rate")),
            regularization=float(self.option(options, "regularization")),
            seed=options.random_state,
            n_threads=options.threads,
        )
        iterations = Iterations(options.max_iter, 0.0, on_iteration, options.on_interrupt == "keep")
        model = fit_neumf(user_items, settings, iterations, options.transform)
        import numpy as np

        k = int(model.item_factors.shape[0])
        facts = {"n_components_used": settings.embedding, "factor_model": f"als k={k}", "candidates": model.candidates}
        proposes = (
            f"NeuMF orders the {model.candidates} unseen items that its factor model (als, k = {k}) puts first; other "
            "items are in no list of up to that length"
        )
        # Its rule is a number of rounds over all interactions: more of them lower the loss, and can rank worse.
        return Fitted(model, np.array(iterations.losses), True, iterations.interrupted, facts, (proposes,))

    def plan(self, options: TrainOptions, shape: tuple[int, int], cores: int) -> Plan:
        """With the units of the layers."""
        return replace(super().plan(options, shape, cores), layers=options.layer_units)

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """The factor model; the network's weights with gradient and moments; pairs of a part."""
        n, e, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        widths = [2 * e, *plan.layers]
        products = sum(a * b for a, b in pairwise(widths)) + e + widths[-1]
        table = 2 * e * max(256, 1 << max(size.n_items - 1, 0).bit_length())
        samples = (1 + plan.negatives) * n / 100
        an_iteration = 6 * _PRODUCT * products * samples + _NUMBER * table * (samples / 4096 + 1)
        # ALS stops after some 25 iterations.
        factors = 25 * (1.5e-9 * n * (e + 16) + 1.5e-10 * e * e * both) / plan.threads
        return Footprint(
            evaluate={"factors": 4 * e * both, "network": 4 * (2 * e + widths[1]) * size.n_items + 4 * products},
            fit={
                "factors": 16 * e * both, "embeddings": 4 * e * size.n_users, "network": 24 * (table + products),
                "pairs": 32 * n + round(60 * samples), "batch": 4096 * 20 * sum(widths),
            },
            measure={"factors": 4 * e * both, "network": 4 * (2 * e + widths[1]) * size.n_items},
            log={"factors": 8 * e * both, "network": 8 * (2 * e + widths[1]) * size.n_items},
            fit_seconds=_START + factors + an_iteration * plan.max_iter,
            compiles=True,
        )  # fmt: skip

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``NeuMF 32, 64-32-16``."""
        e = (facts or {}).get("n_components_used", options.n_components)
        return f"{self.display_name} {e}, {'-'.join(map(str, options.layer_units))}"

    def components(self, options: TrainOptions, shape: tuple[int, int]) -> int:
        """Numbers in an embedding, ``auto`` resolved: 32, whatever the matrix."""
        return self.auto if options.n_components == "auto" else options.n_components
