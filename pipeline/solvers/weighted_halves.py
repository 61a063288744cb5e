"""The two halves of the weighted alternation as values: what stays, a factor by row, a half-step over all rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crew import Crew
from pipeline.kernels import compiled
from pipeline.objective import Objective
from pipeline.solvers.halves import Cells, Floats, padded

__all__ = ["WeightedFactor", "WeightedHalf"]

PIECE = 250_000  # numbers of a factor that are worth a piece of their own
POLISH, POLISH_TOL = 2000, 1e-10  # sweeps at the end, and the relative move they stop at: in float64, whatever X is


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
        crew: Crew,
        past: Floats,
        into: Floats,
        beta: float,
        lam: NDArray[np.float64],
        share: NDArray[np.float64],
        pull: NDArray[np.float64],
    ) -> None:
        """`own` = max(0, new + beta·(new − past)), in `into`; the pieces of `gram` depend on its shape alone, so that
        whoever has H has the same bits."""
        kind, (rows, width) = self.new.dtype.type, self.new.shape
        pieces = int(np.clip(rows * width // PIECE, 1, 16))
        cuts = np.linspace(0, rows, pieces + 1).astype(np.int64)
        grams, sums = np.zeros((pieces, width, width)), np.zeros((pieces, 1))
        keep = compiled("weighted").keep_rows
        numbers = [a.astype(kind) for a in (lam, share, pull)]

        def piece(i: int) -> None:
            keep(cuts[i], cuts[i + 1], self.new, past, into, kind(beta), *numbers, grams[i], sums[i])

        crew.run(piece, pieces)
        upper = np.triu(grams.sum(axis=0))
        self.own, self.gram, self.penalty = into, upper + np.triu(upper, 1).T, float(sums.sum())


@dataclass(eq=False)
class WeightedHalf:
    """Everything about one half that stays while the factors change.

    lam : (rows,) λ of each row; share, pull, begin : (1, width), free : (k,), as in the kernels
    """

    cells: Cells
    objective: Objective
    k: int
    lam: NDArray[np.float64]
    share: NDArray[np.float64]
    pull: NDArray[np.float64]
    begin: NDArray[np.float64]
    free: NDArray[np.bool_]
    longest: int
    room: threading.local = field(default_factory=threading.local)

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
        return cls(
            Cells.of(X, k), objective, k, alpha * (counts + unobserved) ** objective.reg_exponent,
            share, pull, begin, free, int(counts.max(initial=0)),
        )  # fmt: skip

    @property
    def constant(self) -> float:
        """What the biases' penalties hold besides what the kernels add up: Σ ½λ·prior²."""
        return 0.5 * self.objective.bias_prior**2 * float(self.lam.sum()) if self.objective.biases else 0.0

    def keep(self, crew: Crew, factor: WeightedFactor, past: Floats, into: Floats, beta: float) -> None:
        """Make `own`, in `into`, from `new` and the `new` of before, with its `gram` and `penalty`."""
        factor.keep(crew, past, into, beta, self.lam, self.share, self.pull)

    def sweep(self, crew: Crew, other: WeightedFactor, start: Floats, into: Floats, sweeps: int) -> float:
        """Some sweeps from `start`; returns Σ over rows ½ w·A·w − b·w of the result."""
        kind = into.dtype.type
        o = self.objective
        gram = (o.unobserved_weight * other.gram).astype(kind)
        pieces = len(self.cells.cuts) - 1
        sums = np.zeros((pieces, 1))
        step = compiled("weighted").sweep_rows
        lam, share, pull = (a.astype(kind) for a in (self.lam, self.share, self.pull))
        c = self.cells

        def piece(i: int) -> None:
            step(
                c.cuts[i], c.cuts[i + 1], c.indptr, c.indices, c.data, other.own, gram,
                kind(o.unobserved_weight), kind(o.confidence), lam, share, pull, self.free,
                start, into, self.k, sweeps, *self._room(kind), sums[i],
            )  # fmt: skip

        crew.run(piece, pieces)
        return float(sums.sum())

    def _room(self, kind: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]:
        """This thread's working memory: the longest row's cells by component."""
        if not hasattr(self.room, "arrays"):
            n = self.longest
            sizes = (-(-self.k // 8) * 8 * (n + 32), 3 * (n + 16), n + 16)
            tile, line, index = (
                np.zeros(size, type_) for size, type_ in zip(sizes, (kind, kind, np.int32), strict=True)
            )
            self.room.arrays = tile[None], line.reshape(3, -1), index[None]
        arrays: tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]] = self.room.arrays
        return arrays

    def solve(self, crew: Crew, other: WeightedFactor, into: Floats) -> float:
        """To tolerance, from X and `other` alone: a row depends on its own cells only; returns as `sweep`."""
        o, c = self.objective, self.cells
        pieces = len(c.cuts) - 1
        sums = np.zeros((pieces, 1))
        solve = compiled("exact").solve_rows

        def piece(i: int) -> None:
            solve(
                c.cuts[i], c.cuts[i + 1], c.indptr, c.indices, c.data, other.own, o.unobserved_weight * other.gram,
                float(o.unobserved_weight), float(o.confidence), self.lam, self.share, self.pull, self.free,
                self.begin, into, self.k, POLISH, POLISH_TOL, sums[i],
            )  # fmt: skip

        crew.run(piece, pieces)
        return float(sums.sum())
