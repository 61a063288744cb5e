"""Exact lists of the k best items for rows of user factors: which way to find them, and the compiled one.

A list is the same bit for bit whichever way it was found, and for any block, BLAS or number of threads:
float32 products only find candidates, with a margin for their rounding; those are scored again by
`FactorModel.predict`'s definition and sorted by (score, item row).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crew import Crew
from pipeline.kernels import available, compiled
from pipeline.topk_numpy import Catalogue, LeftOut, TopK, cells_of, check_columns, find_in_numpy

__all__ = ["Finder", "LeftOut", "TopK", "check_columns"]

# Compiled: users a piece of work, and the longest list (longer ones are most of a catalogue: nothing to pass over).
PIECE, LONGEST = 1024, 256
# Scores that numpy is through with while numba is imported (0.5 s) and, once on a machine, compiles (5 s).
WORTH_IMPORTING = 2**28
# User rows that are looked at for what is typical of them.
SAMPLE = 4096

LANES = 64  # of the kernel's blocks


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
        self._catalogue: Catalogue | None = None

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
            # Lists do not depend on which of two threads made what they share.
            self._catalogue = self._catalogue or Catalogue.of(self.item_factors)
            find_in_numpy(self._catalogue, user_factors, rows, k, left_out, hidden, found)
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


def _span(one: LeftOut) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Where each row's cells begin and end in the columns, int32 as bytes: the matrix's own, if they are such."""
    indptr, indices = one.indptr, one.indices
    if indices.dtype != np.int32 or not indices.flags.c_contiguous:
        of, columns = cells_of(one)
        ends = np.searchsorted(of, np.arange(one.rows.size), side="right")
        starts = np.append(0, ends[:-1])
        return starts.astype(np.int64), ends.astype(np.int64), _octets(columns.astype(np.int32))
    return indptr[one.rows].astype(np.int64), indptr[one.rows + 1].astype(np.int64), _octets(indices)


def _octets(indices: NDArray[np.int32]) -> NDArray[np.uint8]:
    """As bytes that can't be written: one type, for which the kernel is compiled once, for mapped files too."""
    octets = np.asarray(indices).view(np.uint8)
    octets.flags.writeable = False
    return octets
