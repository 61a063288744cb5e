"""Models of ratings: biased factors by gradient descent or least squares (svd), and by Gibbs sampling (bpmf)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import InputError, UsageError
from pipeline.models.algorithms.sized import SizedAlgorithm
from pipeline.models.base import Fitted, Needs, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size
from pipeline.models.search_space import FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.models.factor_model import FactorModel
    from pipeline.models.fold_in.rating import RatingTerms
    from pipeline.models.rating_rows import Ratings
    from pipeline.models.solvers.iterations import Iterations

__all__ = ["BPMFAlgorithm", "SVDAlgorithm"]

_LEAST = 1e-12  # standard deviation of scores; at most its inverse
_GATHERED = 1 << 24  # factors that are fetched at once to measure errors
# Seconds on one core: of a step of SGD for each factor, of the system of a row for each cell and pair of factors, and
# of a random number.
_STEP, _PAIR, _NOISE = 4e-9, 2e-10, 1e-8


class _RatingAlgorithm(SizedAlgorithm):
    """What both share: factors with biases."""

    kind = "factors"
    needs = Needs(ratings=True)
    stepped = True
    reconstructs = True
    ranks = False

    def _ratings(self, user_items: UserItems) -> Ratings:
        """Raises InputError if all scores are the same, or too large or small for float32."""
        from pipeline.models.rating_rows import Ratings

        scores = user_items.scores.data
        if scores.min() == scores.max():
            raise InputError(
                f"{self.display_name} estimates ratings, and here every score is {scores[0]:g}: take a model that "
                "ranks, such as --algorithm ease"
            )
        ratings = Ratings.of(user_items.scores)
        if not _LEAST <= ratings.spread <= 1 / _LEAST:
            size = "small" if ratings.spread < 1 else "large"
            raise InputError(
                f"The scores are too {size} for {self.display_name} in float32: their standard deviation is "
                f"{ratings.spread:g}, and {_LEAST:g} to {1 / _LEAST:g} is what it takes: scale them"
            )
        return ratings

    def _model(
        self, user_items: UserItems, options: TrainOptions, item_factors: NDArray[np.float32], terms: RatingTerms
    ) -> FactorModel:
        """With the users' rows as they are folded in."""
        from pipeline.models.factor_model import FactorModel
        from pipeline.models.fold_in import FoldIn

        x = user_items.scores
        meta = {"model": self.name, "parameters": {"transform": options.transform}, **terms.as_meta()}
        w = FoldIn(item_factors, meta).solve(x.indptr, x.indices, x.data, options.threads)
        return FactorModel(w, item_factors, user_items.users, user_items.items, x, meta)

    def _footprint(self, size: Size, columns: int, fitting: Mapping[str, int], seconds: float) -> Footprint:
        """Of a saved model with so many columns."""
        n, both = size.n_cells, size.n_users + size.n_items
        factors = 4 * columns * both
        return Footprint(
            evaluate={"factors": factors},
            fit={"scores in both orders": 16 * n + 16 * both, "factors": 2 * factors, **fitting},
            measure={"factors": 3 * factors, "measuring": 40 * n + 8 * min(_GATHERED, columns * n)},
            log={"factors": 2 * factors},
            fit_seconds=seconds,
            measure_seconds=1.5e-7 * n + 1e-9 * n * columns + 1e-9 * columns**2 * both,
            compiles=True,
        )


class SVDAlgorithm(_RatingAlgorithm):
    """Biased matrix factorisation: μ + b_u + b_i + p_u·q_i."""

    name = "svd"
    display_name = "SVD"
    options = frozenset(
        {"n_components", "max_iter", "tol", "solver", "learning_rate", "regularization", "transform", "cold_items"}
    )
    own_defaults = {"regularization": 1.2, "learning_rate": 0.01}  # noqa: RUF012 (as in the base)
    solvers = ("fast", "sgd", "als")
    auto = 32
    space = SearchSpace(
        dimensions=(IntegerRange("n_components", 4, 200), FloatRange("regularization", 0.1, 20.0)),
        usual=frozenset({"n_components", "regularization"}),
        together={"regularization": "n_components"},
    )

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """By gradient descent, or by least squares (``als``); see `Algorithm.fit`."""
        from pipeline.models import biased_mf

        k = self.components(options, user_items.scores.shape)
        strength = float(self.option(options, "regularization"))
        if strength <= 0:
            raise UsageError("SVD needs --regularization above 0: without it the row of a user with few ratings is any")
        settings = biased_mf.Settings(
            k, strength, float(self.option(options, "learning_rate")), options.random_state, _threads(options)
        )
        ratings, iterations = self._ratings(user_items), _iterations(options, on_iteration)
        by = biased_mf.fit_by_als if options.solver == "als" else biased_mf.fit_by_sgd
        item_factors, terms = biased_mf.item_rows(ratings, by(ratings, settings, iterations), settings)
        facts = {"n_components_used": k}
        model = self._model(user_items, options, item_factors, terms)
        return Fitted(model, _losses(iterations), iterations.stalled, iterations.interrupted, facts)

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Factors twice, the cells in both orders, and for gradient descent the order of its steps."""
        n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        if plan.solver == "als":
            seconds = min(plan.max_iter, 50) * _system_seconds(size, k) / plan.threads
            return self._footprint(size, k + 2, {"solving": 4 * (k + 2) * both}, seconds)
        seconds = min(plan.max_iter, 200) * _STEP * n * (k + 8)
        return self._footprint(size, k + 2, {"order of the steps": 8 * n}, seconds)


class BPMFAlgorithm(_RatingAlgorithm):
    """Bayesian matrix factorisation: the mean of what samples of the factors say."""

    name = "bpmf"
    display_name = "BPMF"
    options = frozenset({"n_components", "max_iter", "transform", "cold_items"})
    auto = 12
    space = SearchSpace(dimensions=(IntegerRange("n_components", 4, 64),), usual=frozenset({"n_components"}))

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Draw ``max_iter`` times, and keep some draws; see `Algorithm.fit`."""
        from pipeline.models.bayesian_mf import sample

        k = self.components(options, user_items.scores.shape)
        iterations = _iterations(options, on_iteration)
        item_factors, terms = sample(self._ratings(user_items), k, iterations, options.random_state, _threads(options))
        facts = {"n_components_used": k, "n_samples_used": terms.blocks}
        model = self._model(user_items, options, item_factors, terms)
        return Fitted(model, _losses(iterations), not iterations.interrupted, iterations.interrupted, facts)

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """The samples of the items, the draw of both sides and its random numbers."""
        from pipeline.models.bayesian_mf import SAMPLES

        n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        drawing = 24 * (k + 2) * both + 8 * n
        numbers = _NOISE * (2 * n + 4 * (k + 1) * both)
        seconds = plan.max_iter * (_system_seconds(size, k) / plan.threads + numbers)
        return self._footprint(size, SAMPLES * (k + 2), {"drawing": drawing}, seconds)


def _threads(options: TrainOptions) -> int:
    """Counted once, and not for every half of an iteration."""
    from pipeline.runtime.threads import thread_count

    return thread_count(options.threads)


def _iterations(options: TrainOptions, on_iteration: OnIteration | None) -> Iterations:
    from pipeline.models.solvers.iterations import Iterations

    return Iterations(options.max_iter, float(options.tol), on_iteration, options.on_interrupt == "keep")


def _losses(iterations: Iterations) -> NDArray[np.float64]:
    import numpy as np

    return np.array(iterations.losses)


def _system_seconds(size: Size, k: int) -> float:
    """One core's seconds to solve all rows once; a row's system is of its cells where these are fewer than k."""
    rows = min(size.n_users + size.n_items, 2 * size.n_cells // max(k, 1))
    return 2 * _PAIR * size.n_cells * (k + 8) ** 2 + 2e-10 * rows * (k + 8) ** 3 + 1e-7 * size.n_cells
