"""The arguments of the solvers' kernels, grouped: named tuples of arrays and numbers. Does not import numba.

numba compiles a function for the exact types of a tuple's fields, so callers give every array and number the type
that stands here. "float" is the type of the factors: float32 or float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AlsTerms",
    "CsrRows",
    "ExactRule",
    "FixedFactor",
    "FoldInTerms",
    "RatedCells",
    "RatingRows",
    "RowNoise",
    "RowTerms",
    "SolvedFactor",
    "StepOptions",
    "WeightedStep",
]

Floats = NDArray[np.floating[Any]]


class CsrRows(NamedTuple):
    """Rows lo … hi − 1 of a sparse matrix; the arrays are those of all its rows.

    indptr : (rows + 1,) int64
    indices : (nnz,) int32, columns
    data : (nnz,) float, scores
    """

    lo: int
    hi: int
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: Floats

    @classmethod
    def of(cls, lo: int, hi: int, indptr: NDArray[Any], indices: NDArray[Any], data: Floats) -> CsrRows:
        """Of the types above, and read-only: for an array that may be written numba compiles all anew."""
        arrays = (
            np.ascontiguousarray(indptr, np.int64).view(),
            np.ascontiguousarray(indices, np.int32).view(),
            np.ascontiguousarray(data).view(),
        )
        for array in arrays:
            array.flags.writeable = False
        return cls(lo, hi, *arrays)


# ---- half_step: the plain objective -------------------------------------------------------------


class FixedFactor(NamedTuple):
    """The factor that a half-step does not change.

    rows : (columns, width) the factor over `scale`: float, or half floats as uint16
    scale : float, what `rows` is multiplied by to give the factor
    gram : (width, width) float, G with l2 on its diagonal
    inverse : (width, width) float, of G: sweeps then begin at max(0, G⁻¹·b); or (0, 0): at `SolvedFactor.start`
    product : (rows, width) float, X·Hᵀ where X is dense; (0, width) where X is sparse
    """

    rows: NDArray[Any]
    scale: np.floating[Any]
    gram: Floats
    inverse: Floats
    product: Floats


class SolvedFactor(NamedTuple):
    """The factor that a half-step solves for; each array is (rows, width).

    start : where the sweeps begin, stored as `own` is
    past : float, the result of the half-step before
    own : out: max(0, new + beta·(new − past)) over `scale`, float or half floats as uint16, which the other half-step
        fetches; may be `start`
    scale : float, what `own` is multiplied by to give the factor
    new : float, out: this half-step's result; may be `past`
    """

    start: NDArray[Any]
    past: Floats
    own: NDArray[Any]
    scale: np.floating[Any]
    new: Floats


class StepOptions(NamedTuple):
    """What one half-step does to each row.

    k : components
    l1 : float, the penalty that is subtracted from b
    beta : float, length of the extrapolation
    sweeps : at most so many
    once_under : a row of fewer cells gets one sweep, unless it is watched or its product is given
    watched : whether the projected gradient is summed, and whether `tol` (float) ends a row's sweeps earlier
        (see `half_step._sweeps_of`)
    """

    k: int
    l1: np.floating[Any]
    beta: np.floating[Any]
    sweeps: int
    once_under: int
    watched: bool
    tol: np.floating[Any]


# ---- weighted, weighted_exact: the weighted objective -------------------------------------------


class RowTerms(NamedTuple):
    """What the rows' problems A and b are made of, besides their cells (see `pipeline.kernels.weighted`).

    k : components
    gram : (width, width) w₀·G
    weight, confidence : w₀, and the increase of a cell's weight for each unit of its score
    zero : the weight of a cell of score 0
    lam : (rows,) λ of each row
    share, pull : (1, width), what λ is multiplied by on A's diagonal and in b
    free : (k,) bool, False for a component that is fixed
    """

    k: int
    gram: Floats
    weight: np.floating[Any] | float
    confidence: np.floating[Any] | float
    zero: np.floating[Any] | float
    lam: Floats
    share: Floats
    pull: Floats
    free: NDArray[np.bool_]


class WeightedStep(NamedTuple):
    """A solved factor and how far it is extrapolated; each array is (rows, width) float.

    new, past : the results of this half-step and of the one before
    own : out: max(0, new + beta·(new − past)); may be `past`
    beta : float
    """

    new: Floats
    past: Floats
    own: Floats
    beta: np.floating[Any]


class ExactRule(NamedTuple):
    """When `solve_rows` has solved a row: after `sweeps`, or when one moves it by less than `tol` of its length."""

    sweeps: int
    tol: float


# ---- als ------------------------------------------------------------------------------------------


class AlsTerms(NamedTuple):
    """What the rows' equations are made of, besides their cells; all of float32.

    eigenvalues : (width,) of w₀·G
    weight, confidence : w₀, and the increase of a cell's weight for each unit of its score
    zero : the weight of a cell of score 0
    lam : (rows,) λ of each row
    least : the smallest number that the preconditioner divides by
    beyond : how far a row goes past the steps' result, as a share of the way to it
    """

    eigenvalues: NDArray[np.float32]
    weight: np.float32
    confidence: np.float32
    zero: np.float32
    lam: NDArray[np.float32]
    least: np.float32
    beyond: np.float32


# ---- fold_in --------------------------------------------------------------------------------------


class FoldInTerms(NamedTuple):
    """What the problems of n users are made of, besides their cells (see `pipeline.models.fold_in`).

    items : (n_items, width) float32, Hᵀ
    gram : (k, k) float64, H·Hᵀ
    unobserved, confidence : w₀, and the increase of a cell's weight for each unit of its score
    zero : the weight of a cell of score 0
    l1, l2, towards : (n, k) float64: subtracted from b, added to A's diagonal, added to b
    start : (k,) float64, where the sweeps begin
    free : (k,) bool, False for a component that is fixed
    """

    items: NDArray[np.float32]
    gram: NDArray[np.float64]
    unobserved: float
    confidence: float
    zero: float
    l1: NDArray[np.float64]
    l2: NDArray[np.float64]
    towards: NDArray[np.float64]
    start: NDArray[np.float64]
    free: NDArray[np.bool_]


# ---- rating_rows, rating_sgd --------------------------------------------------------------------


class RatingRows(NamedTuple):
    """The side of a rating model that is given: row j holds f_j in `width` columns from `first` on, then o_j.

    rows : (n, columns) float32
    """

    rows: NDArray[np.float32]
    first: int
    width: int


class RowNoise(NamedTuple):
    """Standard normal numbers, (n, width) and (nnz,) float32; both empty where rows are solved and not drawn."""

    rows: NDArray[np.float32]
    cells: NDArray[np.float32]


class RatedCells(NamedTuple):
    """Cells in the order in which an epoch visits them: cell order[0] first.

    order, users, items : (nnz,) int32
    scores : (nnz,) float32
    """

    order: NDArray[np.int32]
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
