"""`SideReader`: rows of one side of a folder of blocks, by range, read into buffers: memory is that of the buffers.

    with SideReader(BlockFolder.open(folder), "rows") as reader:
        buffers = Buffers()                                   # one a thread
        for first, last in reader.windows(0, reader.n_rows):
            indptr, indices, scores = reader.read(first, last, buffers)

The files are read and not mapped: mapped pages would count as memory of this process until the system takes them back.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.block_files import Block, Side, read_header
from pipeline.data.blocks import BlockFolder
from pipeline.data.stored_values import decoded
from pipeline.errors import ArtifactError

__all__ = ["Buffers", "Rows", "SideReader", "windows_of"]

WINDOW = 1 << 20  # cells of a window: some 9 MB of buffers
STEP = 256  # a window has a multiple of so many rows: as many as a kernel takes at a time


def windows_of(indptr: NDArray[np.int64], first: int, last: int, cells: int = 0) -> Iterator[tuple[int, int]]:
    """Cut the rows first … last − 1 into ranges of at most `cells` cells (default: `WINDOW`).

    Each but the last has a multiple of `STEP` rows; a range of `STEP` rows may have more cells.
    """
    while first < last:
        most = int(np.searchsorted(indptr, indptr[first] + (cells or WINDOW), side="right")) - 1
        end = min(first + max((most - first) // STEP, 1) * STEP, last)
        yield first, end
        first = end


class Rows(NamedTuple):
    """A range of rows; the arrays are views of the buffers, until the next read into them.

    indptr : (rows + 1,) int64, from 0; indices : (cells,) int32; scores : (cells,) float32
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    scores: NDArray[np.float32]


class Buffers:
    """One thread's memory for reading; it grows to the largest range that is read."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def get(self, name: str, size: int, dtype: Any) -> NDArray[Any]:
        """(size,) numbers, whatever they hold; a name has one type."""
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = self._arrays[name] = np.empty(size + size // 8, dtype)
        return array[:size]


class _Stored(NamedTuple):
    """An array of a block, open: its descriptor, the byte where its numbers begin, and their type."""

    file: int
    start: int
    dtype: np.dtype[Any]
    path: Path


class SideReader:
    """The rows of one side. Several threads may read at once, each into buffers of its own.

    Attributes
    ----------
    n_rows, n_columns : of this side; for the columns of X, `n_columns` is the number of X's rows
    indptr : (n_rows + 1,) int64, where each row's cells begin among all cells of the side
    """

    def __init__(self, folder: BlockFolder, side: Side) -> None:
        blocks = folder.side(side)
        self.n_rows = folder.n_rows(side)
        self.n_columns = folder.n_rows("columns" if side == "rows" else "rows")
        self.indptr = folder.indptr(side)
        self._begin = [int(self.indptr[block.first]) for block in blocks]
        self._end = [int(self.indptr[block.last]) for block in blocks]
        self._open: list[tuple[_Stored, _Stored, NDArray[np.float32]]] = []
        self._files: list[int] = []
        try:
            for block in blocks:
                arrays = (self._stored(folder.folder, block, "indices"), self._stored(folder.folder, block, "values"))
                self._open.append((*arrays, folder.read(block).levels.copy()))
        except BaseException:  # Ctrl-C, too: the open files are closed
            self.close()
            raise

    def _stored(self, folder: Path, block: Block, part: str) -> _Stored:
        path = folder / block.name(part)
        dtype, start = read_header(path, part, block.cells)
        try:
            self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise ArtifactError(f"{path} can't be opened ({error.strerror})") from None
        return _Stored(self._files[-1], start, dtype, path)

    def __enter__(self) -> SideReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        while self._files:
            os.close(self._files.pop())

    def windows(self, first: int, last: int, cells: int = 0) -> Iterator[tuple[int, int]]:
        """`windows_of` this side."""
        return windows_of(self.indptr, first, last, cells)

    def read(self, first: int, last: int, buffers: Buffers) -> Rows:
        """The rows first … last − 1. Raises ArtifactError where a file ends early or can't be read."""
        starts = buffers.get("indptr", last - first + 1, np.int64)
        np.subtract(self.indptr[first : last + 1], self.indptr[first], out=starts)
        begin, end = int(self.indptr[first]), int(self.indptr[last])
        indices = buffers.get("indices", end - begin, np.int32)
        for number, lo, hi in self._parts(begin, end):
            self._fill(self._open[number][0], lo - self._begin[number], indices[lo - begin : hi - begin])
        return Rows(starts, indices, self.scores(begin, end, buffers))

    def scores(self, begin: int, end: int, buffers: Buffers) -> NDArray[np.float32]:
        """The scores of the cells begin … end − 1 in the order of the side, a view of the buffers. Raises as `read`."""
        out = buffers.get("scores", end - begin, np.float32)
        for number, lo, hi in self._parts(begin, end):
            _, values, levels = self._open[number]
            part = out[lo - begin : hi - begin]
            if values.dtype == np.float32:
                self._fill(values, lo - self._begin[number], part)
                continue
            raw = buffers.get(values.dtype.name, hi - lo, values.dtype)
            self._fill(values, lo - self._begin[number], raw)
            decoded(raw, levels, part)
        return out

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The blocks that hold these cells: number of the block, first cell, last cell + 1."""
        while begin < end:
            number = bisect_right(self._begin, begin) - 1
            until = min(self._end[number], end)
            yield number, begin, until
            begin = until

    def _fill(self, stored: _Stored, skipped: int, into: NDArray[Any]) -> None:
        """Fill `into` with the numbers of a file that follow its first `skipped` ones."""
        left, place = into.view(np.uint8).data, stored.start + skipped * into.itemsize
        while left:
            try:
                n = os.preadv(stored.file, [left], place)
            except OSError as error:
                raise ArtifactError(f"{stored.path} can't be read ({error.strerror}): write the blocks again") from None
            if not n:
                raise ArtifactError(f"{stored.path} has been cut short: write the blocks again")
            left, place = left[n:], place + n
