"""The two halves of the weighted alternation as values: what stays, a factor by row, a half-step over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import compiled
from pipeline.kernels.arguments import ExactRule, RowTerms, WeightedStep
from pipeline.models.objective import Objective
from pipeline.models.solvers.half_steps import Cells, Floats, padded
from pipeline.models.solvers.steps import OpenEngine, Side, State, Step
from pipeline.runtime.threads import ThreadPool

__all__ = ["Penalties", "WeightedFactor", "WeightedHalf"]


PIECE = 250_000  # numbers of a factor that are worth a piece of their own
POLISH, POLISH_TOL = 2000, 1e-10  # sweeps at the end, and the relative move they stop at: in float64, whatever X is


class Penalties(NamedTuple):
    """lam : (rows,) λ of each row; share, pull : (1, width), as in `pipeline.kernels.arguments.RowTerms`."""

    lam: NDArray[np.float64]
    share: NDArray[np.float64]
    pull: NDArray[np.float64]


@dataclass(eq=False)
class WeightedFactor:
    """One factor by row.

    Attributes
    ----------
    new : (rows, width) the last half-step's result
    own : (rows, width) what the other half fetches: `new`, extrapolated
    gram, penalty : of `own`; ownᵀ·own (width, width) float64, and Σ λ·(½ share·w² − pull·w)
    """

    new: Floats
    own: Floats
    gram: NDArray[np.float64]
    penalty: float = 0.0

    def as_state(self, name: str) -> dict[str, Any]:
        """What `put_back` takes, named after the factor."""
        parts = {"new": self.new, "own": self.own, "gram": self.gram, "penalty": self.penalty}
        return {f"{name}.{part}": value for part, value in parts.items()}

    def put_back(self, state: State, name: str) -> None:
        """Be as it was when `as_state` told."""
        self.new, self.own, self.gram = (state[f"{name}.{part}"] for part in ("new", "own", "gram"))
        self.penalty = float(state[f"{name}.penalty"])

    @classmethod
    def of(cls, rows: Floats) -> WeightedFactor:
        """From (rows, k), copied; `keep` makes its `gram`."""
        new = padded(rows)
        return cls(new, padded(rows), np.zeros((0, 0)))

    def keep(
        self,
        threads: ThreadPool,
        past: Floats,
        into: Floats,
        beta: float,
        penalties: Penalties,
    ) -> None:
        """Set `own` to max(0, new + beta·(new − past)), written to `into`, and `gram` and `penalty` of it.

        `gram` is summed in pieces that depend on the factor's shape alone, so that a fit and a later fold-in against
        the same H compute the same bits.
        """
        kind, (rows, width) = self.new.dtype.type, self.new.shape
        pieces = int(np.clip(rows * width // PIECE, 1, 16))
        cuts = np.linspace(0, rows, pieces + 1).astype(np.int64)
        grams, sums = np.zeros((pieces, width, width)), np.zeros((pieces, 1))
        kernel, step = compiled("weighted").keep_rows, WeightedStep(self.new, past, into, kind(beta))
        lam, share, pull = (a.astype(kind) for a in penalties)

        def piece(i: int) -> None:
            kernel(cuts[i], cuts[i + 1], step, lam, share, pull, grams[i], sums[i])

        threads.run(piece, pieces)
        upper = np.triu(grams.sum(axis=0))
        self.own, self.gram, self.penalty = into, upper + np.triu(upper, 1).T, float(sums.sum())


@dataclass(eq=False)
class WeightedHalf:
    """Everything about one half-step that stays while the factors change.

    Attributes
    ----------
    side : rows of X (users), or of Xᵀ (items)
    k : components
    penalties : of these rows
    begin : (1, width), where the exact solution's sweeps begin: 1 for a fixed component, the prior for a bias, else 0
    free : (k,) False for a component that is fixed
    """

    side: Side
    objective: Objective
    k: int
    penalties: Penalties
    begin: NDArray[np.float64]
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, X: Any, k: int, objective: Objective, *, items: bool) -> WeightedHalf:
        """Of the rows of X: users, or with `items` the items (X is the transpose then); k components."""
        return cls.on(Cells.of(X, k), X.shape[1], k, objective, items=items)

    @classmethod
    def on(cls, side: Side, columns: int, k: int, objective: Objective, *, items: bool) -> WeightedHalf:
        """Of a side that an engine has, whose rows are of so many columns."""
        width = -(-k // 16) * 16
        alpha = objective.alpha_H if items else objective.alpha_W
        counts = side.counts.astype(np.float64)
        unobserved = objective.unobserved_weight * (columns - counts)
        share, pull, begin = np.zeros((3, 1, width))
        free = np.ones(k, np.bool_)
        share[0, :k], pull[0, :k] = 1 - objective.l1_ratio, -objective.l1_ratio
        if objective.biases:
            fixed, bias = (k - 1, k - 2) if items else (k - 2, k - 1)
            free[fixed], share[0, fixed], pull[0, fixed], begin[0, fixed] = False, 0, 0, 1
            share[0, bias], pull[0, bias], begin[0, bias] = 1, objective.bias_prior, objective.bias_prior
        lam = alpha * (counts + unobserved) ** objective.reg_exponent
        penalties = Penalties(lam, share, pull)
        return cls(side, objective, k, penalties, begin, free)

    @property
    def constant(self) -> float:
        """The part of the biases' penalties that the kernels leave out: Σ ½λ·prior²."""
        return 0.5 * self.objective.bias_prior**2 * float(self.penalties.lam.sum()) if self.objective.biases else 0.0

    def keep(self, threads: ThreadPool, factor: WeightedFactor, past: Floats, into: Floats, beta: float) -> None:
        """`WeightedFactor.keep` with the penalties of these rows."""
        factor.keep(threads, past, into, beta, self.penalties)

    def sweep(self, engine: OpenEngine, other: WeightedFactor, start: Floats, into: Floats, sweeps: int) -> float:
        """Some sweeps from `start`; returns Σ over rows ½ w·A·w − b·w of the result."""
        return self._improve("sweep", engine, other, start, into, sweeps)

    def step(self, engine: OpenEngine, other: WeightedFactor, start: Floats, into: Floats, steps: int) -> float:
        """Some cheaper steps from `start`, where no component is fixed; returns as `sweep`."""
        return self._improve("steps", engine, other, start, into, steps)

    def _improve(
        self, routine: str, engine: OpenEngine, other: WeightedFactor, start: Floats, into: Floats, times: int
    ) -> float:
        terms, lam = self._terms(other.gram, into.dtype.type)
        step = Step(routine, (other.own, terms, times), (start, lam), (into,), 1)
        return float(engine.run(self.side, step).sums.sum())

    def solve(self, engine: OpenEngine, other: WeightedFactor, into: Floats) -> float:
        """To tolerance, from X and `other` alone: a row depends on its own cells only; returns as `sweep`."""
        (terms, lam), rule = self._terms(other.gram, np.float64), ExactRule(POLISH, POLISH_TOL)
        step = Step("exact", (other.own, terms, self.begin, rule), (lam,), (into,), 1)
        return float(engine.run(self.side, step).sums.sum())

    def _terms(self, gram: NDArray[np.float64], kind: Any) -> tuple[RowTerms, Floats]:
        """What the kernels take besides cells, in one type of float, and the λ of the rows."""
        weight = self.objective.unobserved_weight
        lam, share, pull = (a.astype(kind, copy=False) for a in self.penalties)
        terms = RowTerms(
            self.k, (weight * gram).astype(kind, copy=False), kind(weight), kind(self.objective.confidence),
            kind(self.objective.dislike_weight), lam[:0], share, pull, self.free,
        )  # fmt: skip
        return terms, lam
