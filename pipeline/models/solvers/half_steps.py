"""The two halves of the alternation as values: cells by row, a factor by row, one half-step over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.block_reader import windows_of
from pipeline.data.mapped import is_mapped, release
from pipeline.kernels import compiled
from pipeline.kernels.arguments import CsrRows, FixedFactor, StepOptions
from pipeline.models.solvers.steps import OpenEngine, Side, State, Step
from pipeline.runtime.threads import ThreadPool

__all__ = [
    "Arrays",
    "Cells",
    "HalfStepResult",
    "PaddedFactor",
    "Penalty",
    "Sweeps",
    "at_line",
    "cuts_of",
    "half_step",
    "padded",
]

Floats = NDArray[np.floating[Any]]
Arrays = tuple[NDArray[Any], Floats]  # for `PaddedFactor.own` and `new`
GROUP = 16  # a factor's width is a multiple of it
LINE = 64  # bytes of a cache line
PIECE = 1_000_000  # multiply-adds of a half-step that are worth a piece of their own
EVEN = 8  # where there are as many pieces, or more, a multiple of them: two, four or eight cores have equal work
AMPLE = 32  # and each is worth so many of `PIECE`: one costs some 50 µs besides its rows
MOST_PIECES = 64
MOST_SORTING = 8  # threads that transpose X; each counts all columns
BLOCK = 256  # rows that the kernel takes at a time


def padded(columns: Floats) -> Floats:
    """(rows, k) → a C-ordered copy with zeros up to a multiple of `GROUP` columns."""
    rows, k = columns.shape
    out = at_line((rows, -(-k // GROUP) * GROUP), columns.dtype)
    out[:, :k] = columns
    return out


def at_line(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros (rows, width) that begin at a cache line, where NumPy's begin 16 bytes past one.

    A row of 16 numbers is then one line, and 64 bytes are loaded from one line: half the work for the caches.
    """
    (rows, width), kind = shape, np.dtype(dtype)
    memory = np.zeros(rows * width + LINE // kind.itemsize, kind)
    first = -memory.ctypes.data % LINE // kind.itemsize
    return memory[first : first + rows * width].reshape(rows, width)


def cuts_of(counts: NDArray[np.integer[Any]], k: int) -> NDArray[np.int64]:
    """Rows where the pieces begin, of about equal work, and the number of rows; from the cells of each row (rows,)."""
    rows = counts.size
    work = np.cumsum(counts + 2.0 * k)  # a cell costs k, a row's sweeps some 2k²
    wanted = work[-1] * k / PIECE
    if wanted > EVEN:
        wanted = max(wanted / AMPLE // EVEN, 1) * EVEN
    pieces = int(np.clip(wanted, 1, np.clip(2**22 // k**2, 8, MOST_PIECES)))
    inner = np.searchsorted(work, work[-1] * np.arange(1, pieces) / pieces)
    if rows > 4 * BLOCK * pieces:
        inner = inner // BLOCK * BLOCK  # a piece's last block is then no short one
    return np.unique(np.concatenate([[0], inner, [rows]])).astype(np.int64)


@dataclass(frozen=True)
class Penalty:
    """l1 and l2 of both factors, scaled already (see the objective of `pipeline.models.solvers.nmf`)."""

    l1_w: float = 0.0
    l2_w: float = 0.0
    l1_h: float = 0.0
    l2_h: float = 0.0

    def of_sample(self, every: int) -> Penalty:
        """For one row of X in so many: H's part shrinks as the sum over the rows does."""
        return Penalty(self.l1_w, self.l2_w, self.l1_h / every, self.l2_h / every)


@dataclass(frozen=True, eq=False)
class Cells:
    """X (or Xᵀ) by row, and the pieces its rows are cut into: about equal work, whatever the number of threads.

    Attributes
    ----------
    indptr : (rows + 1,) int64; indices : (nnz,) int32; data : (nnz,): CSR, empty for a dense X
    dense : (rows, columns), or None
    cuts : (pieces + 1,) rows where pieces begin
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: Floats
    dense: Floats | None
    cuts: NDArray[np.int64]

    @classmethod
    def of(cls, X: Any, k: int) -> Cells:
        """From a CSR matrix or a dense array (rows, columns); k components are to come."""
        rows = X.shape[0]
        dense = None if sparse.issparse(X) else X
        if dense is None:
            indptr = X.indptr.astype(np.int64, copy=False)
            indices, data = X.indices.astype(np.int32, copy=False), X.data
        else:
            indptr, indices, data = np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, X.dtype)
        return cls(indptr, indices, data, dense, cuts_of(np.diff(indptr), k))

    def transposed(self, columns: int, k: int, threads: ThreadPool) -> Cells:
        """The same cells by column; each thread sorts those of as many rows as hold its share of them."""
        counts, parts = np.zeros((min(threads.n_threads, MOST_SORTING), columns), np.int64), []
        last, cells = len(self.indptr) - 1, self.indptr[-1]
        cuts = np.searchsorted(self.indptr, cells * np.arange(len(counts) + 1) // len(counts))
        cuts[-1] = last
        for lo, hi in pairwise(cuts):
            parts.append(CsrRows.of(int(lo), int(hi), self.indptr, self.indices, self.data))
        kernels = compiled("transpose")
        threads.run(lambda i: kernels.count_columns(parts[i], counts[i]), len(parts))
        of_columns = counts.sum(axis=0)
        indptr = np.append(0, np.cumsum(of_columns))
        places = indptr[:-1] + np.cumsum(counts, axis=0) - counts
        rows, data = np.empty(cells, np.int32), np.empty(cells, self.data.dtype)
        threads.run(lambda i: kernels.place_columns(parts[i], places[i], rows, data), len(parts))
        return Cells(indptr, rows, data, None, cuts_of(of_columns, k))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Stored cells of each row, (rows,)."""
        counts: NDArray[np.int64] = np.diff(self.indptr)
        return counts

    def windows(self, number: int) -> Iterator[tuple[int, CsrRows]]:
        """The rows of one piece: a row, and cells that go with a factor's arrays from it on.

        In memory, all at once. Of mapped files some at a time, whose pages are then no memory of this process any more.
        """
        first, last = self.cuts[number : number + 2]
        if not is_mapped(self.indices):
            yield 0, CsrRows.of(first, last, self.indptr, self.indices, self.data)
            return
        for lo, hi in windows_of(self.indptr, int(first), int(last)):
            yield 0, CsrRows.of(lo, hi, self.indptr, self.indices, self.data)
            cells = slice(self.indptr[lo], self.indptr[hi])
            release(self.indices[cells], self.data[cells])


@dataclass(eq=False)
class PaddedFactor:
    """One factor by row: what the last half-step found, and the copy the other half fetches from.

    Attributes
    ----------
    new : (rows, width) the last half-step's result
    own : (rows, width) the extrapolated rows over `scale`; as half floats (in uint16) where memory is what
        decides; `new` itself where nothing is extrapolated
    gram : (width, width) float64, ownᵀ·own with the scale put back
    """

    new: Floats
    k: int
    own: NDArray[Any] = field(init=False)
    scale: float = 1.0
    gram: NDArray[np.float64] = field(init=False)

    def keep(self, threads: ThreadPool, *, narrow: bool, apart: bool = True) -> None:
        """Make `own` and `gram` from `new`; `apart` says whether own may be another array."""
        # Halves reach from 6e-8 to 65504: the largest at about 4 leaves room to grow by 16,000.
        top = float(self.new.max(initial=0.0)) if narrow else 0.0
        self.scale = float(2.0 ** (np.ceil(np.log2(top)) - 2)) if top > 0 else 1.0
        self.own = at_line(self.new.shape, np.uint16 if narrow else self.new.dtype) if apart else self.new
        self.gram = self._stored(threads)

    def widen(self) -> None:
        """Have `own` at full width, with its scale put back."""
        wide = at_line(self.own.shape, np.float32)
        np.multiply(self.own.view(np.float16), np.float32(self.scale), out=wide, dtype=np.float32)
        self.own = wide
        self.scale = 1.0

    def as_state(self, name: str) -> dict[str, Any]:
        """What `put_back` takes: the arrays and the scale, named after the factor."""
        return {
            f"{name}.new": self.new,
            f"{name}.own": self.own,
            f"{name}.gram": self.gram,
            f"{name}.scale": self.scale,
        }

    def put_back(self, state: State, name: str) -> None:
        """Be as it was when `as_state` told."""
        self.new, self.own, self.gram = (state[f"{name}.{part}"] for part in ("new", "own", "gram"))
        self.scale = float(state[f"{name}.scale"])

    def _stored(self, threads: ThreadPool) -> NDArray[np.float64]:
        rows, width = self.new.shape
        pieces = int(np.clip(rows * width // PIECE, 1, 8))
        cuts = np.linspace(0, rows, pieces + 1).astype(np.int64)
        grams = np.zeros((pieces, width, width))
        keep_rows, scale = compiled().keep_rows, self.new.dtype.type(self.scale)

        def piece(i: int) -> None:
            keep_rows(cuts[i], cuts[i + 1], self.new, self.own, scale, grams[i])

        threads.run(piece, pieces)
        return _symmetric(grams)


@dataclass(frozen=True)
class Sweeps:
    """The sweeps of a half-step over each row.

    Attributes
    ----------
    most : of each row
    once_under : a row of fewer cells gets one, unless it is watched or X is dense
    watched : the violation is asked for, and a row is done when a sweep moves it by less than `tol` of its length
    beta : how far `PaddedFactor.own` goes past `new`
    fresh : begin at max(0, G⁻¹·b) and not at `own`: the result depends on nothing but X and the other factor
    """

    most: int = 1
    once_under: int = 0
    watched: bool = False
    tol: float = 0.0
    beta: float = 0.0
    fresh: bool = False


@dataclass(frozen=True, eq=False)
class HalfStepResult:
    """What a half-step tells besides its rows.

    violation : Σ |projected gradient| at its start, where it was watched; else 0
    cross : ⟨X·H', new⟩
    quadratic : ⟨H'ᵀH', newᵀnew⟩
    total_own, total_new, square_new : Σ of all entries, and of their squares
    """

    violation: float
    cross: float
    quadratic: float
    total_own: float
    total_new: float
    square_new: float


def _symmetric(grams: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over pieces of upper triangles, in order, with the lower one filled in."""
    upper = np.triu(grams.sum(axis=0))
    out: NDArray[np.float64] = upper + np.triu(upper, 1).T
    return out


def half_step(
    engine: OpenEngine,
    side: Side,
    other: PaddedFactor,
    factor: PaddedFactor,
    sweeps: Sweeps,
    penalty: tuple[float, float] = (0.0, 0.0),
    into: Arrays | None = None,
) -> HalfStepResult:
    """Solve for `factor` given `other`.own: sets its `new`, `own` and `gram`.

    Parameters
    ----------
    penalty : l1 and l2 of this factor, as in the gradient: b − l1, G + l2·I
    into : arrays for `own` and `new`, if the present ones must not be overwritten
    """
    l1, l2 = penalty
    dtype, width, k = factor.new.dtype, factor.new.shape[1], factor.k
    kind = dtype.type
    gram = other.gram.copy()
    gram[np.arange(k), np.arange(k)] += l2
    inverse = np.zeros((width, width) if sweeps.fresh else (0, 0), dtype)
    if sweeps.fresh:
        ridge = 1e-7 * float(np.trace(gram)) / k or 1.0
        inverse[:k, :k] = np.linalg.inv(gram[:k, :k] + ridge * np.eye(k))
    product = np.zeros((0, width), dtype) if side.dense is None else side.dense @ other.own
    own, new = into or (factor.own, factor.new)
    start, past = factor.own, factor.new
    gram_start = None if own is new else factor.gram
    fixed = FixedFactor(other.own, kind(other.scale), gram.astype(dtype), inverse, product)
    how_often = sweeps.most, sweeps.once_under, sweeps.watched
    options = StepOptions(k, kind(l1), kind(sweeps.beta), *how_often, kind(sweeps.tol))
    step = Step("plain", (fixed, kind(factor.scale), options), (start, past), (own, new), sums=7, gram=width)
    grams, sums = engine.run(side, step)
    factor.own, factor.new, factor.gram = own, new, _symmetric(grams)
    violation, fallen, from_start, cross, total_own, total_new, square_new = (float(s) for s in sums.sum(axis=0))
    if gram_start is None:
        quadratic = float(np.vdot(other.gram, factor.gram))
    else:
        # Σ ½ w·G·w − b·w is known at the start from its Gram matrix, and how far it has fallen: a second
        # Gram matrix, of `new`, is not needed. G has l2 and b has −l1 in it.
        at_end = 0.5 * float(np.vdot(gram, gram_start)) - from_start - fallen
        quadratic = 2 * (at_end + cross - l1 * total_new) - l2 * square_new
    return HalfStepResult(violation, cross, quadratic, total_own, total_new, square_new)
