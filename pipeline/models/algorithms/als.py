"""ALS: implicit-feedback matrix factorisation, factors of any sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.algorithms.engines import engine_for
from pipeline.models.algorithms.sized import SizedAlgorithm
from pipeline.models.base import Fitted, OnIteration
from pipeline.models.footprint import Footprint, Plan, Size, transposed
from pipeline.models.search_space import Choice, FloatRange, IntegerRange, SearchSpace
from pipeline.options import TrainOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.data.interactions import Interactions
    from pipeline.data.matrix import UserItems

__all__ = ["ALSAlgorithm"]

_ITERATIONS = 20  # a typical fit stops after about so many, with tol = 1e-4
_REGULARIZATION = 0.01  # times the mean score
_NOTHING = 0.9999  # of the loss without a model is left where next to nothing is learned
_UNOBSERVED = 0.1  # with 1 such a penalty leaves nothing of a large sparse matrix


class ALSAlgorithm(SizedAlgorithm):
    """V ≈ W·H, where a cell without an interaction counts little."""

    name = "als"
    display_name = "ALS"
    kind = "factors"
    auto = 64
    options = frozenset(
        {
            "n_components", "max_iter", "tol", "regularization", "reg_exponent", "unobserved_weight", "confidence",
            "dislike_weight", "transform", "half_life_days", "cold_items",
        }
    )  # fmt: skip
    own_defaults = {"regularization": _REGULARIZATION, "unobserved_weight": _UNOBSERVED}  # noqa: RUF012 (as in the base)
    space = SearchSpace(
        dimensions=(
            FloatRange("half_life_days", 3.0, 3000.0, above=None),
            Choice("transform", ("none", "log1p", "binary")),
            IntegerRange("n_components", 8, 512),
            FloatRange("regularization", 1e-4, 1.0),
            FloatRange("unobserved_weight", 1e-3, 1.0, above=1.0),
            Choice("reg_exponent", (1.0, 0.5, 0.0)),
            FloatRange("confidence", 1e-2, 100.0, below=0.0),
            IntegerRange("max_iter", 5, 200),
        ),
        usual=frozenset({"half_life_days", "transform", "n_components", "regularization", "unobserved_weight"}),
        need_times=frozenset({"half_life_days"}),
        together={"regularization": "n_components"},  # more factors help only with more regularisation
    )
    stepped = True
    distributed = True

    def fit(
        self,
        user_items: UserItems,
        options: TrainOptions,
        *,
        interactions: Interactions | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Fitted:
        """Alternate between users and items; see `Algorithm.fit`."""
        import numpy as np

        from pipeline.models.als import fit_als
        from pipeline.models.objective import Objective
        from pipeline.models.solvers.stored_side import sum_over

        scores = user_items.scores
        k = self.components(options, scores.shape)
        # Scores twice as large ask for twice the penalty: so the same option suits ratings and clicks.
        mean = float(scores.data.mean(dtype=np.float64)) if scores.nnz else 0.0
        strength = float(self.option(options, "regularization")) * mean
        objective = Objective(
            unobserved_weight=float(self.option(options, "unobserved_weight")),
            confidence=float(options.confidence),
            dislike_weight=float(options.dislike_weight),
            alpha_W=strength,
            alpha_H=strength,
            reg_exponent=float(options.reg_exponent),
        )
        model, result = fit_als(
            user_items, k, objective, options.random_state,
            transform=options.transform, n_threads=options.threads, max_iter=options.max_iter, tol=float(options.tol),
            on_iteration=on_iteration, keep_interrupted=options.on_interrupt == "keep",
            engine=engine_for(self, scores, options),
        )  # fmt: skip
        facts, losses = {"n_components_used": k}, np.array(result.losses)
        square = sum_over(scores, lambda x: float(np.einsum("i,i", objective.weights(x) * x, x)))
        messages = _messages(square, losses)
        return Fitted(model, losses, result.converged, result.interrupted, facts, messages)

    def footprint(self, size: Size, plan: Plan) -> Footprint:
        """Both factors, as they begin and twice while they are rotated; the items' results, and the best of these."""
        n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
        width = -(-k // 16) * 16  # the solver's rows are padded
        # A half-step: four passes over the cells, Gram matrix and two rotations, and the eigenvalues.
        an_iteration = 1.5e-9 * n * (k + 16) + 1.5e-10 * width**2 * both + 4e-9 * k**3
        at_the_end = 2e-11 * n * width**2 + 1e-10 * width**3 * size.n_users
        iterations = min(plan.max_iter, round(_ITERATIONS * (1e-4 / max(plan.tol, 1e-9)) ** 0.25))
        return Footprint(
            evaluate={"factors": 4 * k * both},
            fit={**transposed(size, plan), "factors": width * (12 * both + 8 * size.n_items)},
            measure={"factors": 4 * k * both},
            log={"factors": 8 * k * both},
            fit_seconds=(an_iteration * iterations + at_the_end) / plan.threads,
            compiles=True,
        )


def _messages(square: float, losses: NDArray[np.float64]) -> tuple[str, ...]:
    """square : the squared loss of a model that is 0."""
    if not losses.size or losses[-1] ** 2 <= _NOTHING * square:
        return ()
    return ("the penalty leaves next to nothing of the factors: lower --regularization or --unobserved-weight",)
