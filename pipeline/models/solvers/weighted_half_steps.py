"""The two halves of the weighted alternation as values: what stays, a factor by row, a half-step over all rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import compiled
from pipeline.kernels.arguments import ExactRule, RowTerms, WeightedStep, Workspace
from pipeline.models.objective import Objective
from pipeline.models.solvers.half_steps import Cells, Floats, padded
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

    @classmethod
    def of(cls, rows: Floats) -> WeightedFactor:
        """From (rows, k), copied; `keep` makes its `gram`."""
        new = padded(rows)
        return cls(new, new.copy(), np.zeros((0, 0)))

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
    cells : rows of X (users), or of Xᵀ (items)
    k : components
    penalties : of these rows
    begin : (1, width), where the exact solution's sweeps begin: 1 for a fixed component, the prior for a bias, else 0
    free : (k,) False for a component that is fixed
    longest : most cells of a row
    """

    cells: Cells
    objective: Objective
    k: int
    penalties: Penalties
    begin: NDArray[np.float64]
    free: NDArray[np.bool_]
    longest: int
    memory: threading.local = field(default_factory=threading.local)

    @classmethod
    def of(cls, X: Any, k: int, objective: Objective, *, items: bool) -> WeightedHalf:
        """Of the rows of X: users, or with `items` the items (X is the transpose then); k components."""
        width = -(-k // 16) * 16
        alpha = objective.alpha_H if items else objective.alpha_W
        counts = np.diff(X.indptr).astype(np.float64)
        unobserved = objective.unobserved_weight * (X.shape[1] - counts)
        share, pull, begin = np.zeros((3, 1, width))
        free = np.ones(k, np.bool_)
        share[0, :k], pull[0, :k] = 1 - objective.l1_ratio, -objective.l1_ratio
        if objective.biases:
            fixed, bias = (k - 1, k - 2) if items else (k - 2, k - 1)
            free[fixed], share[0, fixed], pull[0, fixed], begin[0, fixed] = False, 0, 0, 1
            share[0, bias], pull[0, bias], begin[0, bias] = 1, objective.bias_prior, objective.bias_prior
        lam = alpha * (counts + unobserved) ** objective.reg_exponent
        penalties = Penalties(lam, share, pull)
        return cls(Cells.of(X, k), objective, k, penalties, begin, free, int(counts.max(initial=0)))

    @property
    def constant(self) -> float:
        """The part of the biases' penalties that the kernels leave out: Σ ½λ·prior²."""
        return 0.5 * self.objective.bias_prior**2 * float(self.penalties.lam.sum()) if self.objective.biases else 0.0

    def keep(self, threads: ThreadPool, factor: WeightedFactor, past: Floats, into: Floats, beta: float) -> None:
        """`WeightedFactor.keep` with the penalties of these rows."""
        factor.keep(threads, past, into, beta, self.penalties)

    def sweep(self, threads: ThreadPool, other: WeightedFactor, start: Floats, into: Floats, sweeps: int) -> float:
        """Some sweeps from `start`; returns Σ over rows ½ w·A·w − b·w of the result."""
        kind = into.dtype.type
        terms = self._terms(other.gram, kind)
        sums = np.zeros((len(self.cells.cuts) - 1, 1))
        kernel = compiled("weighted").sweep_rows

        def piece(i: int) -> None:
            kernel(self.cells.piece(i), other.own, terms, start, into, sweeps, self._workspace(kind), sums[i])

        threads.run(piece, len(sums))
        return float(sums.sum())

    def solve(self, threads: ThreadPool, other: WeightedFactor, into: Floats) -> float:
        """To tolerance, from X and `other` alone: a row depends on its own cells only; returns as `sweep`."""
        terms, rule = self._terms(other.gram, np.float64), ExactRule(POLISH, POLISH_TOL)
        sums = np.zeros((len(self.cells.cuts) - 1, 1))
        kernel = compiled("weighted_exact").solve_rows

        def piece(i: int) -> None:
            kernel(self.cells.piece(i), other.own, terms, self.begin, rule, into, sums[i])

        threads.run(piece, len(sums))
        return float(sums.sum())

    def _terms(self, gram: NDArray[np.float64], kind: Any) -> RowTerms:
        """What the kernels take besides cells, in one type of float."""
        weight = self.objective.unobserved_weight
        lam, share, pull = (a.astype(kind, copy=False) for a in self.penalties)
        return RowTerms(
            self.k, (weight * gram).astype(kind, copy=False), kind(weight), kind(self.objective.confidence),
            kind(self.objective.dislike_weight), lam, share, pull, self.free,
        )  # fmt: skip

    def _workspace(self, kind: Any) -> Workspace:
        """The calling thread's memory, made once: room for the longest row's cells by component."""
        if not hasattr(self.memory, "workspace"):
            n = self.longest
            self.memory.workspace = Workspace(
                tile=np.zeros((1, -(-self.k // 8) * 8 * (n + 32)), kind),
                line=np.zeros((3, n + 16), kind),
                columns=np.zeros((1, n + 16), np.int32),
            )
        workspace: Workspace = self.memory.workspace
        return workspace
