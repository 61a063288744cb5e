"""Exact lists of the k best items for rows of user factors: which way to find them, and the way in numpy.

A list is the same bit for bit whichever way it was found, and for any block, BLAS or number of threads:
float32 products only find candidates, with a margin for their rounding; those are scored again by
`FactorModel.predict`'s definition and sorted by (score, item row).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.crew import Crew
from pipeline.kernels import available, compiled

__all__ = ["Finder", "LeftOut", "TopK", "exact_scores"]

# numpy: a block's score matrix; small enough to stay near the cache, large enough for the BLAS.
BLOCK_BYTES = 32 * 2**20
# Compiled: users a piece of work, and the longest list (longer ones are most of a catalogue: nothing to pass over).
PIECE, LONGEST = 1024, 256
# Scores that numpy is through with while numba is imported (0.5 s) and, once on a machine, compiles (5 s).
WORTH_IMPORTING = 2**28
# User rows that are looked at for what is typical of them.
SAMPLE = 4096

LANES = 64  # of the kernel's blocks


class TopK(NamedTuple):
    """Ranked items of a block of users, padded at the end where fewer than k are left.

    items : (n, k) int32 item rows, -1 where padded
    scores : (n, k) float32, 0 where padded
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class LeftOut(NamedTuple):
    """Items that lists may not hold, as a CSR matrix (…, n_items) has them: those of its row rows[i] for list i."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    rows: NDArray[np.intp]


def exact_scores(
    user_factors: NDArray[np.float32],
    rows: NDArray[np.intp],
    item_factors: NDArray[np.float32],
    items: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Score of each pair (rows[i], items[i]), (n,): as `FactorModel.predict` has it, for any user factors (m, k)."""
    total = np.zeros(rows.size, np.float64)
    for t in range(item_factors.shape[0]):
        total += user_factors[rows, t].astype(np.float64) * item_factors[t, items]
    with np.errstate(over="ignore"):
        return total.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Packed:
    """Item factors as the kernel takes them (its docstring says what each is): one copy of them, and 1/64 more.

    everything : the mask that hides nothing
    """

    packed: NDArray[np.float32]
    tops: NDArray[np.float32]
    order: NDArray[np.int32]
    position: NDArray[np.int32]
    longest: float
    nonnegative: bool
    everything: NDArray[np.uint64]

    @classmethod
    def of(cls, item_factors: NDArray[np.float32], typical: NDArray[np.float64]) -> _Packed:
        """Items of one strongest component side by side, so that a block's largest components are near all of its own.

        typical : (k,) how large a component of a user is; nothing but speed depends on it
        """
        k, n = item_factors.shape
        weighted = np.abs(item_factors) * typical.astype(np.float32)[:, None]
        order = np.lexsort((-weighted.max(axis=0), weighted.argmax(axis=0))).astype(np.int32)
        del weighted
        position = np.empty(n, np.int32)
        position[order] = np.arange(n, dtype=np.int32)
        blocks = -(-n // LANES)
        packed = np.zeros((blocks, k, LANES), np.float32)
        tops = np.zeros((-(-blocks // LANES), k, LANES), np.float32)
        longest = 0.0
        for b in range(blocks):
            mine = item_factors[:, order[b * LANES : (b + 1) * LANES]]
            packed[b, :, : mine.shape[1]] = mine
            tops[b // LANES, :, b % LANES] = mine.max(axis=1)
            largest = np.abs(mine).max(axis=1).astype(np.float64)
            longest = max(longest, float(np.sqrt(largest @ largest)))
        lowest = float(item_factors.min())
        return cls(
            packed.reshape(-1, LANES), tops.reshape(-1, LANES), order, position, longest, lowest >= 0,
            _words(np.zeros(n, bool)),
        )  # fmt: skip

    def mask(self, hidden: NDArray[np.bool_] | None) -> NDArray[np.uint64]:
        """(n_blocks,) the bits of places that are hidden, and of those past the last item."""
        return self.everything if hidden is None else _words(hidden[self.order])


def _words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """64 bits a word, the lowest first; 1 past the last."""
    padded = np.ones(-(-bits.size // LANES) * LANES, bool)
    padded[: bits.size] = bits
    return np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64, copy=False)


class Finder:
    """Finds the k best items; may be used from several threads at once.

    Parameters
    ----------
    item_factors : (k, n_items) float32, finite; not to be altered afterwards
    user_factors : (n_users, k) float32 of the model's own users: what other rows are like too
    compiled : use the compiled kernels (True), numpy (False), or what is faster (None): the kernels where numba is
        installed and either loaded already or the work is worth loading it. Lists are the same.
    """

    def __init__(
        self, item_factors: NDArray[np.float32], user_factors: NDArray[np.float32], compiled: bool | None = None
    ) -> None:
        self.item_factors = item_factors
        self._user_factors = user_factors
        self._compiled = compiled
        self._lock = threading.Lock()
        self._packed: _Packed | None = None
        self._longest_item: float | None = None
        self._nonnegative = False

    def find(
        self,
        user_factors: NDArray[np.float32],
        rows: NDArray[np.intp],
        k: int,
        left_out: Sequence[LeftOut] = (),
        hidden: NDArray[np.bool_] | None = None,
        n_threads: int | None = None,
    ) -> TopK:
        """The k best items for each of `rows` of `user_factors`.

        Parameters
        ----------
        user_factors : (m, k) float32, finite; may be mapped from disk
        left_out : two at most: items that single rows may not have
        hidden : (n_items,) items that nobody may have
        n_threads : of the compiled way; default, the cores this process may use
        """
        found = TopK(np.full((rows.size, k), -1, np.int32), np.zeros((rows.size, k), np.float32))
        if not self.item_factors.shape[1] or not rows.size:
            return found
        if self._compiles(rows.size, k):
            self._find_with_kernels(user_factors, rows, left_out, hidden, n_threads, found)
        else:
            self._find_in_numpy(user_factors, rows, k, left_out, hidden, found)
        return found

    def prepare(self) -> None:
        """Do now what the first call would do: load the kernels, where there are any, and arrange the items."""
        if self._compiled is not False and available() and self.item_factors.size:
            compiled("topk")
            self.find(np.ones((1, self.item_factors.shape[0]), np.float32), np.zeros(1, np.intp), 1)

    def _compiles(self, n: int, k: int) -> bool:
        if self._compiled is False or k > LONGEST or not self.item_factors.shape[0]:
            return False
        if self._compiled:
            return True
        worth = "pipeline.kernels.topk" in sys.modules or n * self.item_factors.shape[1] >= WORTH_IMPORTING
        return worth and available()

    # ---- compiled ---------------------------------------------------------------------------

    def _arranged(self) -> _Packed:
        with self._lock:
            if self._packed is None:
                step = max(1, self._user_factors.shape[0] // SAMPLE)
                sample = np.abs(self._user_factors[::step]).astype(np.float64)
                typical = sample.mean(axis=0) if sample.size else np.ones(self.item_factors.shape[0])
                self._packed = _Packed.of(self.item_factors, typical)
            return self._packed

    def _find_with_kernels(
        self,
        user_factors: NDArray[np.float32],
        rows: NDArray[np.intp],
        left_out: Sequence[LeftOut],
        hidden: NDArray[np.bool_] | None,
        n_threads: int | None,
        found: TopK,
    ) -> None:
        kernel, mask = compiled("topk"), self._arranged().mask(hidden)
        size = min(PIECE, max(64, -(-rows.size // 8)))

        def piece(i: int) -> None:
            some = slice(i * size, (i + 1) * size)
            w = np.ascontiguousarray(user_factors[rows[some]])
            mine = [one._replace(rows=one.rows[some]) for one in left_out]
            self._run(kernel, w, mine, mask, TopK(found.items[some], found.scores[some]))

        pieces = -(-rows.size // size)
        if pieces == 1:
            piece(0)
        else:
            with Crew(n_threads) as crew:
                crew.run(piece, pieces)

    def _run(
        self,
        kernel: Any,
        w: NDArray[np.float32],
        left_out: Sequence[LeftOut],
        mask: NDArray[np.uint64],
        found: TopK,
    ) -> None:
        p = self._arranged()
        nothing = np.zeros(w.shape[0], np.int64)
        spans = [_span(one) for one in left_out] + [(nothing, nothing, _octets(np.zeros(0, np.int32)))] * 2
        kernel.best(
            w, p.packed, p.tops, p.order, p.position, p.longest, p.nonnegative,
            mask, *spans[0], *spans[1], found.items, found.scores,
        )  # fmt: skip

    # ---- numpy ------------------------------------------------------------------------------

    def _find_in_numpy(
        self,
        user_factors: NDArray[np.float32],
        rows: NDArray[np.intp],
        k: int,
        left_out: Sequence[LeftOut],
        hidden: NDArray[np.bool_] | None,
        found: TopK,
    ) -> None:
        step = max(1, BLOCK_BYTES // (4 * self.item_factors.shape[1]))
        if self._longest_item is None:
            h = self.item_factors
            self._nonnegative = bool(h.min(initial=0) >= 0)
            self._longest_item = float(np.sqrt(np.einsum("tn,tn->n", h, h, dtype=np.float64).max(initial=0.0)))
        for start in range(0, rows.size, step):
            some = slice(start, start + step)
            w = np.ascontiguousarray(user_factors[rows[some]])
            cells = [_cells(one._replace(rows=one.rows[some])) for one in left_out]
            found.items[some], found.scores[some] = self._block(w, k, cells, hidden)

    def _block(
        self,
        w: NDArray[np.float32],
        k: int,
        left_out: Sequence[tuple[NDArray[np.intp], NDArray[np.int32]]],
        hidden: NDArray[np.bool_] | None,
    ) -> TopK:
        """One block: float32 scores → candidates → exact scores → the k best.

        Items are dealt into `n_groups` groups (item i to group i mod n_groups); the k-th largest
        of the groups' maxima is a lower bound on the k-th best score, so only groups that reach it
        are looked into. A pass of maxima costs a fraction of a partition of every row.
        """
        n_users, (n_components, n_items) = w.shape[0], self.item_factors.shape
        n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
        depth = -(-n_items // n_groups)
        norms = np.sqrt(np.einsum("ut,ut->u", w, w, dtype=np.float64))
        # No partial sum passes |w|·|h|; where that passes float32, an infinite or NaN product would
        # be taken for a hidden item, so these rows are scored item by item.
        overflows = norms * self._longest_item >= 2.0**126
        safe = w.copy()
        safe[overflows] = 0
        scores = np.empty((n_users, depth * n_groups), np.float32)
        np.matmul(safe, self.item_factors, out=scores[:, :n_items])
        scores[:, n_items:] = -np.inf
        for of, item in left_out:
            scores[of, item] = -np.inf
        if hidden is not None:
            scores[:, :n_items][:, hidden] = -np.inf

        grouped = scores.reshape(n_users, depth, n_groups)
        best = grouped.max(axis=1)
        bound = (
            np.partition(best, n_groups - k, axis=1)[:, n_groups - k]
            if k <= n_groups
            else np.full(n_users, -np.inf, np.float32)
        )
        # |fl(w·h) - w·h| ≤ k·2⁻²⁴·Σ|w_t·h_t| to first order (Higham 2002, §3.1), for the bound and for the
        # candidate, and 2⁻²⁴ for each rounding of a bound and a score; the rest of the factor 4 covers the higher
        # orders. Where nothing is negative the sum is the score itself, else it is under |w|·|h|. Below 2⁻¹²⁶ a
        # product loses up to 2⁻¹⁵⁰ however small it is: the last term.
        rounding = 4 * (n_components + 2) * 2.0**-24
        size = norms * self._longest_item
        if self._nonnegative:
            size = np.where(w.min(axis=1, initial=0) >= 0, np.maximum(bound, 0), size)
        margin = rounding * size + 4 * (n_components + 2) * 2.0**-149
        with np.errstate(over="ignore"):
            threshold = np.where(np.isneginf(bound), bound, bound - margin).astype(np.float32)

        reached = (best >= threshold[:, None]) & (best > -np.inf)
        # Rows of ties (all-zero factors, say) would make every item a candidate at once.
        tied = overflows | (np.count_nonzero(reached, axis=1) > 4 * k + 64)
        reached[tied] = False
        of, group = np.nonzero(reached)
        values = grouped[of, :, group]
        pick, layer = np.nonzero((values >= threshold[of, None]) & (values > -np.inf))
        of, item = of[pick], layer * n_groups + group[pick]

        found = TopK(np.full((n_users, k), -1, np.int32), np.zeros((n_users, k), np.float32))
        exact = exact_scores(w, of, self.item_factors, item)
        order = np.lexsort((item, -exact, of))
        of, item, exact = of[order], item[order], exact[order]
        rank = np.arange(of.size) - np.searchsorted(of, of)
        keep = rank < k
        found.items[of[keep], rank[keep]] = item[keep]
        found.scores[of[keep], rank[keep]] = exact[keep]
        for u in np.flatnonzero(tied):
            left = np.flatnonzero(scores[u, :n_items] > -np.inf)
            exact = exact_scores(w, np.full(left.size, u), self.item_factors, left)
            top = np.argsort(-exact, kind="stable")[:k]
            found.items[u, : top.size] = left[top]
            found.scores[u, : top.size] = exact[top]
        return found


def _cells(one: LeftOut) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The stored cells, as positions in `rows` and columns.

    scipy's own row indexing copies all of a matrix whose indices are mapped from disk, for each block.
    """
    start = one.indptr[one.rows].astype(np.intp)
    count = one.indptr[one.rows + 1].astype(np.intp) - start
    of = np.repeat(np.arange(one.rows.size), count)
    position = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
    return of, one.indices[np.repeat(start, count) + position]


def _span(one: LeftOut) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Where each row's cells begin and end in the columns, int32 as bytes: the matrix's own, if they are such."""
    indptr, indices = one.indptr, one.indices
    if indices.dtype != np.int32 or not indices.flags.c_contiguous:
        of, columns = _cells(one)
        ends = np.searchsorted(of, np.arange(one.rows.size), side="right")
        starts = np.append(0, ends[:-1])
        return starts.astype(np.int64), ends.astype(np.int64), _octets(columns.astype(np.int32))
    return indptr[one.rows].astype(np.int64), indptr[one.rows + 1].astype(np.int64), _octets(indices)


def _octets(indices: NDArray[np.int32]) -> NDArray[np.uint8]:
    """As bytes that can't be written: one type, for which the kernel is compiled once, for mapped files too."""
    octets = np.asarray(indices).view(np.uint8)
    octets.flags.writeable = False
    return octets
