"""NMF: non-negative factors of users and items, over all cells or weighted, by the estimators of `pipeline.models`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError, RanklineError, UsageError
from pipeline.models.algorithms.engines import engine_for
from pipeline.models.base import Algorithm, EstimatorFacts, Fitted, Needs, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size, transposed
from pipeline.models.search_space import Choice, FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse

    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems
    from pipeline.models.objective import Objective

__all__ = ["NMFAlgorithm", "estimator_for", "fit_estimator", "objective_of", "sklearn_estimator"]

_GATHERED = 1 << 18, 1 << 22  # cells, and numbers of their factors, that are fetched at once to measure errors
_ITERATIONS = 30  # a typical fit stops after about so many, with tol = 1e-4
_UNOBSERVED = 1.0
# Options that scikit-learn's solver lacks.
_WEIGHTED = frozenset({"unobserved_weight", "confidence", "dislike_weight", "reg_exponent"})

_SPACE = SearchSpace(
    dimensions=(
        FloatRange("half_life_days", 3.0, 3000.0, above=None),
        Choice("transform", ("none", "log1p", "binary")),
        IntegerRange("n_components", 3, 200),
        FloatRange("alpha_W", 1e-4, 10.0, below=0.0),
        Choice("reg_exponent", (1.0, 0.5, 0.0)),
        FloatRange("unobserved_weight", 1e-3, 1.0, above=1.0),
        # The other options change the lists little, and each searched option leaves fewer trials for the rest.
        FloatRange("confidence", 1e-2, 100.0, below=0.0),
        FloatRange("alpha_H", 1e-4, 10.0, below=0.0),
        FloatRange("l1_ratio", 1e-2, 1.0, below=0.0),
        IntegerRange("max_iter", 10, 400),
    ),
    usual=frozenset({"half_life_days", "transform", "n_components", "alpha_W", "reg_exponent", "unobserved_weight"}),
    need_times=frozenset({"half_life_days"}),
    idle=frozenset({"reg_exponent", "l1_ratio"}),  # no effect without regularisation
    together={"alpha_W": "n_components"},  # more factors help only with more regularisation
    without_solver={"sklearn": _WEIGHTED},
)


class NMFAlgorithm(Algorithm):
    """Non-negative matrix factorisation: V ≈ W·H."""

    name = "nmf"
    display_name = "NMF"
    kind = "factors"
    options = frozenset(
        {
            "n_components", "init", "max_iter", "tol", "solver", "alpha_W", "alpha_H", "l1_ratio",
            "unobserved_weight", "confidence", "dislike_weight", "reg_exponent", "biases",
            "transform", "half_life_days", "cold_items",
        }
    )  # fmt: skip
    own_defaults = {"unobserved_weight": _UNOBSERVED}  # noqa: RUF012 (as in the base)
    solvers = ("fast", "sklearn")
    needs = Needs(ratings=True)
    space = _SPACE
    stepped = True
    distributed = True
    reconstructs = True

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Fit the estimator that the objective asks for; see `Algorithm.fit`."""
        import numpy as np

        from pipeline.models.factor_model import FactorModel

        x = user_items.scores
        k = options.components_for(x.shape)
        estimator = estimator_for(options, k, on_iteration)
        if options.solver != "sklearn":  # that one begins as scikit-learn does
            estimator.drawing(partial(_draws, user_items, options.random_state))
        if (engine := engine_for(self, x, options)) is not None:
            estimator.on(engine)
        w = fit_estimator(estimator, x)
        h = np.ascontiguousarray(estimator.components_)
        meta = {
            "parameters": {"transform": options.transform},
            "objective": objective_of(x, options).as_json(),
        }
        model = FactorModel(w, h, user_items.users, user_items.items, x, meta)
        error = float(estimator.reconstruction_err_)
        facts = EstimatorFacts(options.estimator_params(k), estimator.converged_, error) if options.plain else None
        return Fitted(
            model,
            np.array(estimator.loss_curve_),
            estimator.converged_,
            estimator.interrupted_,
            {"n_components_used": k},
            _messages(k, x.shape),
            facts,
        )

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Memory of both factors in each phase, counted as often as they are held, and times."""
        n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        width = -(-k // 16) * 16  # the solver's rows are padded
        if plan.solver == "sklearn":
            an_iteration, iterations = 1.2e-9 * n * (k + 16) + 3e-10 * k**2 * both, plan.max_iter
        else:
            sweeps = 6.0 if plan.weighted else 1.0
            an_iteration = sweeps * (1.7e-10 * n * (k + 32) + (1.8e-10 * width**2 + 2e-9 * width) * both)
            iterations = min(plan.max_iter, round(_ITERATIONS * (1e-4 / max(plan.tol, 1e-9)) ** 0.25))
        # Per factor: start, result, the copy that is fetched, and a spare; in all 2.5 times both factors.
        fitting = 20 * k * both if plan.solver == "sklearn" else 10 * width * both
        return Footprint(
            evaluate={"factors": 4 * k * both},
            fit=max(
                {**transposed(size, plan), "factors": fitting},
                _sampled(size, plan),
                key=lambda parts: sum(parts.values()),
            ),
            # The items' factors a second time; predictions and residuals of some cells, and the factors of these.
            measure={
                "factors": 4 * k * (both + size.n_items),
                "measuring": (40 + 8 * k) * min(_GATHERED[0], max(1, _GATHERED[1] // k), n),
            },
            log={"factors": 8 * k * both},
            fit_seconds=an_iteration * iterations / plan.threads,
            measure_seconds=1.5e-7 * n + 1e-9 * n * k + 1e-9 * k**2 * both,
            compiles=plan.solver == "fast",
        )

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``NMF k=10 log1p``."""
        k = (facts or {}).get("n_components_used", options.n_components)
        transform = "" if options.transform == "none" or facts is None else f" {options.transform}"
        return f"{self.display_name} k={k}{transform}"

    def components(self, options: TrainOptions, shape: tuple[int, int]) -> int:
        """k, ``auto`` resolved."""
        return options.components_for(shape)

    def resolved(self, options: TrainOptions, shape: tuple[int, int]) -> TrainOptions:
        """With the number of factors."""
        return replace(options, n_components=options.components_for(shape))

    def unfit(self, options: TrainOptions, shape: tuple[int, int], which: str) -> str:
        """scikit-learn's starts other than random need k ≤ both sides."""
        k, least = options.components_for(shape), min(shape)
        if options.init == "random" or k <= least:
            return ""
        return f"init = {options.init} starts at most {least} factors on {which}, and {k} are asked for"

    def standing(self, options: TrainOptions, shape: tuple[int, int]) -> dict[str, Any]:
        """The values of ``auto`` and ``same`` as numbers."""
        return {
            **super().standing(options, shape),
            "n_components": options.components_for(shape),
            "alpha_H": options.alpha_W if options.alpha_H == "same" else options.alpha_H,
        }

    def untunable(self, options: TrainOptions) -> str:
        """Biases estimate ratings."""
        if options.biases == "no":
            return ""
        return "Tuning searches what ranks best, and --biases yes estimates ratings: take --biases no"


def _sampled(size: Size, plan: Plan) -> Mapping[str, int]:
    """Bytes by part of a fit's first iterations, on a sample and with more components, beside the start."""
    from pipeline.models.solvers.sample import begun_with, distance_of

    every = distance_of(size.n_cells, size.n_users, size.n_items, plan.n_components)
    if not every or plan.weighted or plan.solver == "sklearn":
        return {}
    k, n = (-(-components // 16) * 16 for components in (plan.n_components, begun_with(plan.n_components)))
    sample = replace(size, n_cells=size.n_cells // every, n_users=-(-size.n_users // every))
    both = sample.n_users + sample.n_items
    factors = 4 * k * (size.n_users + size.n_items) + 10 * n * both
    return {"sample": 8 * (sample.n_cells + both), **transposed(sample, plan), "factors": factors}


def _draws(user_items: UserItems, seed: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Numbers of a start by id: a user or an item more leaves those of the others as they were."""
    from pipeline.models.starts import half_normal_rows

    users = half_normal_rows(user_items.users, k, seed, "users")
    return users, half_normal_rows(user_items.items, k, seed, "items").T


def estimator_for(options: TrainOptions, n_components: int, on_iteration: OnIteration | None = None) -> Any:
    """The estimator with these options: `pipeline.models.nmf.NMF`, or `WeightedNMF` where the objective is weighted."""
    how: dict[str, Any] = {
        **options.estimator_params(n_components),
        "n_threads": options.threads,
        "callback": on_iteration,
        "keep_interrupted": options.on_interrupt == "keep",
    }
    if options.plain:
        from pipeline.models.nmf import NMF

        return NMF(**how, solver="sklearn" if options.solver == "sklearn" else "fast")
    from pipeline.models.weighted_nmf import WeightedNMF

    return WeightedNMF(
        **how,
        unobserved_weight=_unobserved(options),
        confidence=float(options.confidence),
        dislike_weight=float(options.dislike_weight),
        reg_exponent=float(options.reg_exponent),
        biases=options.biases == "yes",
    )


def fit_estimator(estimator: Any, x: sparse.csr_matrix) -> NDArray[np.float32]:
    """Fit it; returns W (n_users, k).

    Raises
    ------
    UsageError
        In scikit-learn's words, for parameters that do not fit the matrix.
    InputError
        For scores whose products pass the largest float32.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning

    try:
        with warnings.catch_warnings():
            # `Fitted` reports convergence, in Rankline's own message.
            warnings.simplefilter("ignore", ConvergenceWarning)
            w: NDArray[np.float32] = estimator.fit_transform(x)
    except RanklineError:
        raise
    except ValueError as error:
        if "infs or NaNs" in str(error) or "too large" in str(error):
            raise _too_large(x) from None
        if str(error).startswith("init = "):
            raise UsageError(str(error)) from None
        raise
    if not np.isfinite(estimator.reconstruction_err_):
        raise _too_large(x)
    return w


def _unobserved(options: TrainOptions) -> float:
    value = options.unobserved_weight
    return _UNOBSERVED if value is None else float(value)


def objective_of(x: sparse.csr_matrix, options: TrainOptions) -> Objective:
    """The objective that is fitted to this matrix."""
    from pipeline.models.objective import Objective
    from pipeline.models.weighted_nmf import with_prior

    objective = Objective(
        unobserved_weight=_unobserved(options),
        confidence=float(options.confidence),
        dislike_weight=float(options.dislike_weight),
        alpha_W=float(options.alpha_W),
        alpha_H=float(options.alpha_W if options.alpha_H == "same" else options.alpha_H),
        l1_ratio=float(options.l1_ratio),
        reg_exponent=float(options.reg_exponent),
        biases=options.biases == "yes",
    )
    return with_prior(objective, x)


def sklearn_estimator(params: Mapping[str, Any], item_factors: NDArray[np.float32], n_iter: int, error: float) -> Any:
    """A fitted `sklearn.decomposition.NMF` with the item factors, for users who load it."""
    from sklearn.decomposition import NMF

    estimator = NMF(**params)
    estimator.components_ = item_factors
    estimator.n_components_, estimator.n_features_in_ = item_factors.shape
    estimator.n_iter_ = n_iter
    estimator.reconstruction_err_ = error
    return estimator


def _messages(k: int, shape: tuple[int, int]) -> tuple[str, ...]:
    if k <= (least := min(shape)):
        return ()
    return (f"n_components = {k} is more than the smaller side of the matrix, {least}: it learns it by heart",)


def _too_large(x: sparse.csr_matrix) -> InputError:
    return InputError(
        f"The scores are too large to be factorised in float32 (the largest is {x.data.max():g}): "
        "scale them down, or take --transform log1p"
    )
