"""A row whose cells are summed in parts: its equations in float64, and the solvers' steps on them, in numpy.

A row w minimises ½ w·A·w − b·w (see `pipeline.kernels.weighted` and `pipeline.kernels.als`), with

    A = w₀·G + Σ (c − w₀)·h·hᵀ + λ·diag(share)        b = Σ c·x·h + λ·pull        over the row's cells

One such row has millions of cells, so what is done once for it need not be compiled; the sums over the cells are
products of matrices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.arguments import AlsTerms, RowTerms

__all__ = ["Equations", "Part", "descend", "equations", "products", "solve_ridge", "solve_some", "step_along"]

Float64s = NDArray[np.float64]
AT_ONCE = 1 << 14  # cells whose rows of the other factor are fetched at a time
SMALLEST = 1e-35  # as in the kernels: a component with less curvature is left as it is
SINGULAR = 1e-6  # as in `pipeline.kernels.ridge`
FAR, PARALLEL = 3.0, 1e-4  # as in `pipeline.kernels.weighted_steps`


class Part(NamedTuple):
    """Sums over some cells of a row.

    A : (width, width) Σ (c − w₀)·h·hᵀ; (0, 0) where A is the same for all rows
    b : (width,) Σ c·x·h
    """

    A: Float64s
    b: Float64s

    def plus(self, other: Part) -> Part:
        """Over the cells of both; the order of the parts decides the last bits."""
        return Part(self.A + other.A, self.b + other.b)


def _fetched(rows: NDArray[Any], indices: NDArray[np.int32]) -> Float64s:
    """Rows of a factor, (n, width); half floats lie in uint16."""
    some = rows[indices]
    return (some.view(np.float16) if some.dtype == np.uint16 else some).astype(np.float64)


def products(indices: NDArray[np.int32], data: NDArray[Any], rows: NDArray[Any]) -> Float64s:
    """Σ x·h over cells, (width,)."""
    out = np.zeros(rows.shape[1])
    for first in range(0, indices.size, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        out += data[some].astype(np.float64) @ _fetched(rows, indices[some])
    return out


def equations(indices: NDArray[np.int32], data: NDArray[Any], rows: NDArray[Any], terms: RowTerms | AlsTerms) -> Part:
    """The cells' part of A and b."""
    width = rows.shape[1]
    A, b = np.zeros((width, width)), np.zeros(width)
    weight, confidence, zero = float(terms.weight), float(terms.confidence), float(terms.zero)
    for first in range(0, indices.size, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        h, x = _fetched(rows, indices[some]), data[some].astype(np.float64)
        c = np.where(x != 0, 1 + confidence * x, zero)
        A += (h.T * (c - weight)) @ h
        b += (c * x) @ h
    return Part(A, b)


class Equations(NamedTuple):
    """A (width, width) and b (width,) of a row."""

    A: Float64s
    b: Float64s

    @classmethod
    def of(cls, cells: Part, terms: RowTerms, lam: Any) -> Equations:
        """With what does not depend on the cells."""
        share, pull = terms.share[0].astype(np.float64), terms.pull[0].astype(np.float64)
        A = terms.gram.astype(np.float64) + cells.A + np.diag(float(lam) * share)
        return cls(A, cells.b + float(lam) * pull)

    def value(self, w: Float64s) -> float:
        """½ w·A·w − b·w."""
        return float(w @ (0.5 * (self.A @ w) - self.b))


def descend(problem: Equations, w: Float64s, free: NDArray[np.bool_], sweeps: int, tol: float) -> Float64s:
    """w ≥ 0 after coordinate descent from `w`, as `weighted.sweep_rows` and `weighted_exact.solve_rows` do it.

    free : (k,) False for a component that stays as it is
    sweeps : at most so many; less where one moves w by no more than `tol` of its length
    """
    A, b = problem
    rest = b - A @ w
    for _ in range(sweeps):
        moved = length = 0.0
        for t in np.flatnonzero(free):
            if A[t, t] <= SMALLEST:
                continue
            now = max(0.0, w[t] + rest[t] / A[t, t])
            change = now - w[t]
            if change:
                w[t] = now
                rest -= change * A[t]
                moved += A[t, t] * change * change
            length += A[t, t] * now * now
        if not moved > tol * tol * length:
            break
    return w


def step_along(problem: Equations, w: Float64s, steps: int) -> Float64s:
    """w ≥ 0 after some steps from `w`, as `weighted_steps.step_rows` takes them; no component may be fixed."""
    A, b = problem
    curves = np.where(np.diag(A) > SMALLEST, np.diag(A), np.inf)
    for _ in range(steps):
        slope = A @ w - b
        ahead = np.maximum(-FAR * slope / curves, -w)
        bent, own = A @ ahead, A @ w
        pairs = (slope, ahead), (slope, w), (ahead, bent), (w, bent), (w, own)
        gd, gw, dd, wd, ww = (float(left @ right) for left, right in pairs)
        if not (gd < 0 and dd > 0):
            break
        alpha, beta, determinant = min(-gd / dd, 1.0), 0.0, dd * ww - wd * wd
        if determinant > PARALLEL * dd * ww:
            along, scaled = (gw * wd - gd * ww) / determinant, (gd * wd - gw * dd) / determinant
            if 0 < along <= 1 + scaled:
                alpha, beta = along, scaled
            elif along > 0 and 1 + scaled > 0:
                alpha = max((ww - gw + wd - gd) / (ww + 2 * wd + dd), 0.0)
                beta = alpha - 1
        emptied = (ahead == -w) & (alpha >= 1 + beta)
        w = np.where(emptied, 0, np.maximum((1 + beta) * w + alpha * ahead, 0))
    return w


def solve_some(cells: Part, diagonal: Float64s, least: float, x: Float64s, steps: int) -> tuple[Float64s, float]:
    """Some steps of preconditioned conjugate gradients from x, as `als.step_rows`; and ½ x·A·x − b·x at the end."""
    A, b = cells.A + np.diag(diagonal), cells.b
    inverse = 1 / np.maximum(diagonal, least)
    rest = b - A @ x
    ahead = inverse * rest
    left = float(rest @ ahead)
    for _ in range(steps):
        if not left > 1e-30:
            break
        bent = A @ ahead
        curvature = float(ahead @ bent)
        if not curvature > 0:
            break
        x = x + left / curvature * ahead
        rest = rest - left / curvature * bent
        z = inverse * rest
        now = float(rest @ z)
        ahead, left = z + now / left * ahead, now
    return x, float(x @ (0.5 * (A @ x) - b))


def solve_ridge(A: Float64s, b: Float64s) -> Float64s:
    """The w with A·w = b by Cholesky; a component without a pivot is 0, as in `pipeline.kernels.ridge`."""
    least = np.maximum(SINGULAR * np.diag(A), 1e-300)
    upper, b = A.copy(), b.copy()
    for t in range(b.size):
        if not upper[t, t] > least[t]:
            upper[t] = 0
            continue
        upper[t] /= np.sqrt(upper[t, t])
        b[t] /= upper[t, t]
        b[t + 1 :] -= upper[t, t + 1 :] * b[t]
        upper[t + 1 :] -= np.outer(upper[t, t + 1 :], upper[t])
    w = np.zeros(b.size)
    for t in range(b.size - 1, -1, -1):
        if upper[t, t] > 0:
            w[t] = (b[t] - upper[t, t + 1 :] @ w[t + 1 :]) / upper[t, t]
    return w
