"""Exact lists of the k best items for rows of user factors, by compiled kernels or by numpy.

Lists are the same bit for bit with both, and for any block size, BLAS and number of threads. float32 products only
select candidates, with a margin for their rounding error. The candidates are scored again as `FactorModel.predict`
does, and sorted by (score, item row).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import available, compiled, is_loaded
from pipeline.kernels.list_arguments import ItemBlocks, LeftOutSpans, Lists
from pipeline.models.validation import check_columns
from pipeline.ranking.topk_numpy import Catalogue, LeftOut, ListRequest, TopK, cells_of, find_in_numpy
from pipeline.runtime.threads import ThreadPool

__all__ = ["Finder", "LeftOut", "TopK", "check_columns"]

# For the kernels: users in a piece of work, and the longest list. A longer list holds most of a catalogue, so that
# there are few items to skip, and numpy finds it.
PIECE, LONGEST = 1024, 256
# From this many scores on, the kernels are faster although numba is imported (0.5 s) and once compiles (5 s) first.
WORTH_IMPORTING = 2**28
# User rows from which the typical size of each component is estimated.
SAMPLE = 4096

LANES = 64  # of the kernel's blocks


@dataclass(frozen=True, eq=False)
class _Packed:
    """Item factors in the kernel's layout: one copy of them and 1/64 more.

    no_mask : (n_blocks,) the mask that hides no item
    """

    blocks: ItemBlocks
    no_mask: NDArray[np.uint64]

    @classmethod
    def of(cls, item_factors: NDArray[np.float32], typical: NDArray[np.float64]) -> _Packed:
        """Put items next to each other whose scores have bounds in common.

        Of non-negative factors, items with the same strongest component: a block's largest components are then close
        to those of each of its items. Of signed ones, items of the same length.

        typical : (k,) the mean size of a user's components; only speed depends on it
        """
        k, n = item_factors.shape
        nonnegative = float(item_factors.min()) >= 0
        lengths = np.sqrt(np.einsum("tn,tn->n", item_factors, item_factors, dtype=np.float64))
        if nonnegative:
            weighted = item_factors * typical.astype(np.float32)[:, None]
            order = np.lexsort((-weighted.max(axis=0), weighted.argmax(axis=0))).astype(np.int32)
            del weighted
        else:
            order = np.argsort(-lengths, kind="stable").astype(np.int32)
        position = np.empty(n, np.int32)
        position[order] = np.arange(n, dtype=np.int32)
        n_blocks = -(-n // LANES)
        packed = np.zeros((n_blocks, k, LANES), np.float32)
        tops, lows = np.zeros((2, -(-n_blocks // LANES), k, LANES), np.float32)
        norms = np.zeros(tops.shape[0] * LANES, np.float32)
        longest = 0.0
        for b in range(n_blocks):
            block = item_factors[:, order[b * LANES : (b + 1) * LANES]]
            packed[b, :, : block.shape[1]] = block
            tops[b // LANES, :, b % LANES] = block.max(axis=1)
            lows[b // LANES, :, b % LANES] = block.min(axis=1)
            norms[b] = lengths[order[b * LANES : (b + 1) * LANES]].max() * (1 + 2.0**-20)
            largest = np.abs(block).max(axis=1).astype(np.float64)
            longest = max(longest, float(np.sqrt(largest @ largest)))
        blocks = ItemBlocks(
            packed.reshape(-1, LANES), tops.reshape(-1, LANES), lows.reshape(-1, LANES), norms, order, position,
            longest, nonnegative,
        )  # fmt: skip
        return cls(blocks, _words(np.zeros(n, bool)))

    def mask(self, hidden: NDArray[np.bool_] | None) -> NDArray[np.uint64]:
        """(n_blocks,) a bit for each hidden place, and for each place past the last item."""
        return self.no_mask if hidden is None else _words(hidden[self.blocks.order])


def _words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The bits in words of 64, lowest first; places past the last bit are 1."""
    padded = np.ones(-(-bits.size // LANES) * LANES, bool)
    padded[: bits.size] = bits
    return np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64, copy=False)


class Finder:
    """Finds the k best items; may be used from several threads at once.

    Parameters
    ----------
    item_factors : (k, n_items) float32, finite; must not be changed afterwards
    user_factors : (n_users, k) float32 of the model's users: the typical size of components is estimated from them
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

    def find(self, user_factors: NDArray[np.float32], request: ListRequest) -> TopK:
        """The k best items for rows of `user_factors`, (m, k) float32, finite; may be mapped from disk."""
        lists = request.padding()
        if not self.item_factors.shape[1] or not request.rows.size:
            return lists
        if self._compiles(request.rows.size, request.k):
            self._find_with_kernels(user_factors, request, lists)
        else:
            # Two threads may both make the catalogue; both make the same one.
            self._catalogue = self._catalogue or Catalogue.of(self.item_factors)
            find_in_numpy(self._catalogue, user_factors, request, lists)
        return lists

    def prepare(self) -> None:
        """Do the work of the first call now: load the kernels, if numba is installed, and arrange the items."""
        if self._compiled is not False and available() and self.item_factors.size:
            compiled("topk")
            self.find(np.ones((1, self.item_factors.shape[0]), np.float32), ListRequest(np.zeros(1, np.intp), 1))

    def _compiles(self, n: int, k: int) -> bool:
        if self._compiled is False or k > LONGEST or not self.item_factors.shape[0]:
            return False
        if self._compiled:
            return True
        worth = is_loaded("topk") or n * self.item_factors.shape[1] >= WORTH_IMPORTING
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

    def _find_with_kernels(self, user_factors: NDArray[np.float32], request: ListRequest, lists: TopK) -> None:
        """Fill `lists`, which are padding; other arguments as `find`."""
        kernel, arranged = compiled("topk").best, self._arranged()
        mask = arranged.mask(request.hidden)
        n = request.rows.size
        size = min(PIECE, max(64, -(-n // 8)))

        def piece(i: int) -> None:
            part = slice(i * size, (i + 1) * size)
            asked = request.part(part)
            w = np.ascontiguousarray(user_factors[asked.rows])
            spans = [_span(cells) for cells in asked.left_out]
            spans += [_no_span(w.shape[0])] * 2
            kernel(w, arranged.blocks, mask, spans[0], spans[1], Lists(lists.items[part], lists.scores[part]))

        pieces = -(-n // size)
        if pieces == 1:
            piece(0)
        else:
            with ThreadPool(request.n_threads) as threads:
                threads.run(piece, pieces)


def _no_span(n: int) -> LeftOutSpans:
    """Spans of n lists without left-out items."""
    zeros = np.zeros(n, np.int64)
    return LeftOutSpans(zeros, zeros, _octets(np.zeros(0, np.int32)))


def _span(left_out: LeftOut) -> LeftOutSpans:
    """`left_out` for the kernel; its columns are the matrix's own array if that is contiguous int32, else a copy."""
    indptr, indices, rows = left_out
    if indices.dtype != np.int32 or not indices.flags.c_contiguous:
        row_of, columns = cells_of(left_out)
        ends = np.searchsorted(row_of, np.arange(rows.size), side="right")
        starts = np.append(0, ends[:-1])
        return LeftOutSpans(starts.astype(np.int64), ends.astype(np.int64), _octets(columns.astype(np.int32)))
    return LeftOutSpans(indptr[rows].astype(np.int64), indptr[rows + 1].astype(np.int64), _octets(indices))


def _octets(indices: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The same memory as read-only bytes: one type for numba, also for arrays mapped read-only, so it compiles once."""
    octets = np.asarray(indices).view(np.uint8)
    octets.flags.writeable = False
    return octets
