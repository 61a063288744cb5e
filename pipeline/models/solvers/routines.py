"""The compiled routines that steps name, and the same for a row whose cells are summed in parts.

A row's problem is ½ w·A·w − b·w, whose A and b are sums over its cells. A row with so many cells that one task should
not have them all is summed in parts, in float64, and then solved from A and b: `Routine.part` and `Routine.finish`.
The plain objective has the same A for all rows, so that only b is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, FixedFactor, SolvedFactor
from pipeline.models.solvers.long_rows import (
    Equations,
    Part,
    descend,
    equations,
    products,
    solve_ridge,
    solve_some,
    step_along,
)
from pipeline.models.solvers.steps import Step

__all__ = ["ALS", "EXACT", "PLAIN", "RIDGE", "ROUTINES", "STEPS", "SWEEP", "Routine"]

Floats = NDArray[Any]

PLAIN, STEPS, SWEEP, EXACT, ALS, RIDGE = "plain", "steps", "sweep", "exact", "als", "ridge"


class Routine(NamedTuple):
    """call : computes the rows lo … hi − 1 of `cells`, and adds to gram (width, width) and sums (n,)
    part : sums over some of a row's cells, from their columns, their scores and the step
    finish : computes a row of one cell piece from the sums over all of its cells, as `call` does
    """

    call: Callable[[CsrRows, Step, Floats, Floats], None]
    part: Callable[[NDArray[np.int32], Floats, Step], Part]
    finish: Callable[[Part, Step, Floats, Floats], None]


# ---- plain: shared = (FixedFactor, scale of own, StepOptions); given = (start, past); out = (own, new) ----------


def _plain(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    fixed, scale, options = step.shared
    start, past = step.given
    own, new = step.out
    compiled().half_step(cells, fixed, SolvedFactor(start, past, own, scale, new), options, gram, sums)


def _plain_part(indices: NDArray[np.int32], data: Floats, step: Step) -> Part:
    fixed: FixedFactor = step.shared[0]
    return Part(np.zeros((0, 0)), float(fixed.scale) * products(indices, data, fixed.rows))


def _plain_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    fixed, scale, options = step.shared
    kind = step.out[1].dtype
    fixed = fixed._replace(product=total.b[None].astype(kind))
    empty = CsrRows.of(0, 1, np.zeros(2, np.int64), np.zeros(1, np.int32), np.zeros(1, kind))
    _plain(empty, step._replace(shared=(fixed, scale, options)), gram, sums)


# ---- sweep: shared = (other, RowTerms, sweeps); given = (start, lam); out = (new,) -------------------------------


def _sweep(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    other, terms, sweeps = step.shared
    start, lam = step.given
    (new,) = step.out
    compiled("weighted").sweep_rows(cells, other, terms._replace(lam=lam), start, new, sweeps, sums)


def _weighted_part(indices: NDArray[np.int32], data: Floats, step: Step) -> Part:
    other, terms = step.shared[:2]
    return equations(indices, data, other, terms)


def _sweep_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    terms, sweeps = step.shared[1:]
    start, lam = step.given
    problem = Equations.of(total, terms, lam[0])
    w, k = start[0].astype(np.float64), terms.k
    grows = (problem.b - problem.A @ w)[:k] > 0
    active = terms.free & ((w[:k] > 0) | grows | (terms.pull[0, :k] > 0))
    w = descend(problem, w, active, sweeps, 0.0)
    step.out[0][0] = w
    sums[0] += problem.value(w)


# ---- steps: shared = (other, RowTerms, steps); given = (start, lam); out = (new,) --------------------------------


def _steps(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    other, terms, steps = step.shared
    start, lam = step.given
    (new,) = step.out
    compiled("weighted_steps").step_rows(cells, other, terms._replace(lam=lam), start, new, steps, sums)


def _steps_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    terms, steps = step.shared[1:]
    start, lam = step.given
    problem = Equations.of(total, terms, lam[0])
    w = step_along(problem, start[0].astype(np.float64), steps)
    step.out[0][0] = w
    sums[0] += problem.value(w)


# ---- exact: shared = (other, RowTerms in float64, begin, ExactRule); given = (lam,); out = (new,) ----------------


def _exact(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    other, terms, begin, rule = step.shared
    (lam,) = step.given
    compiled("weighted_exact").solve_rows(cells, other, terms._replace(lam=lam), begin, rule, step.out[0], sums)


def _exact_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    terms, begin, rule = step.shared[1:]
    problem = Equations.of(total, terms, step.given[0][0])
    w = descend(problem, begin[0].copy(), terms.free, rule.sweeps, rule.tol)
    w[terms.k :] = 0
    step.out[0][0] = w
    sums[0] += problem.value(w)


# ---- als: shared = (other, AlsTerms, steps); given = (rows, lam); out = (rows, results), or (rows,) --------------


def _als(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    other, terms, steps = step.shared
    given, lam = step.given
    rows, results = step.out[0], step.out[-1]
    if rows is not given:  # it takes its steps in place
        rows[cells.lo : cells.hi] = given[cells.lo : cells.hi]
    compiled("als").step_rows(cells, other, terms._replace(lam=lam), steps, rows, results, sums)


def _als_part(indices: NDArray[np.int32], data: Floats, step: Step) -> Part:
    other, terms = step.shared[:2]
    return equations(indices, data, other, terms)


def _als_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    terms, steps = step.shared[1:]
    given, lam = step.given
    diagonal = terms.eigenvalues.astype(np.float64) + float(lam[0])
    x, value = solve_some(total, diagonal, float(terms.least), given[0].astype(np.float64), steps)
    step.out[-1][0] = x
    x = x + float(terms.beyond) * (x - given[0])
    step.out[0][0] = x
    sums[0] += value
    sums[1] += 0.5 * float(lam[0]) * float(x @ x)


# ---- ridge: shared = (other, RowTerms in float64); given = (lam,); out = (new,) ----------------------------------


def _ridge(cells: CsrRows, step: Step, gram: Floats, sums: Floats) -> None:
    other, terms = step.shared
    (lam,) = step.given
    compiled("ridge").solve_rows(cells, other, terms._replace(lam=lam), step.out[0])


def _ridge_finish(total: Part, step: Step, gram: Floats, sums: Floats) -> None:
    terms = step.shared[1]
    problem = Equations.of(total, terms, step.given[0][0])
    step.out[0][0] = solve_ridge(problem.A[: terms.k, : terms.k], problem.b[: terms.k])


ROUTINES = {
    PLAIN: Routine(_plain, _plain_part, _plain_finish),
    STEPS: Routine(_steps, _weighted_part, _steps_finish),
    SWEEP: Routine(_sweep, _weighted_part, _sweep_finish),
    EXACT: Routine(_exact, _weighted_part, _exact_finish),
    ALS: Routine(_als, _als_part, _als_finish),
    RIDGE: Routine(_ridge, _weighted_part, _ridge_finish),
}
