"""A step as files: what a task is given, the rows that it computes, and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.blocks import Block, BlockArrays, BlockFolder
from pipeline.kernels.arguments import CsrRows
from pipeline.models.solvers.long_rows import Part
from pipeline.models.solvers.routines import ROUTINES
from pipeline.models.solvers.steps import Step

__all__ = ["FileArray", "Finished", "StepFiles", "Unit", "map_block", "run_units", "units_of"]

_INLINE = 1 << 16  # bytes; smaller arrays travel with the task
_MOST_MAPPED = 512


class Unit(NamedTuple):
    """What a task computes at a time: all rows of a block, or the cells first … end − 1 of a block's only row.

    folder : of blocks (`pipeline.data.blocks`)
    """

    folder: str
    block: Block
    first: int = 0
    end: int = -1

    @property
    def whole(self) -> bool:
        """Whether it is all of the block."""
        return self.end < 0


def units_of(folder: str, blocks: Sequence[Block], longest: int) -> list[Unit]:
    """The units of a side, in order; a block of one row with more than `longest` cells is split."""
    units = []
    for block in blocks:
        if block.n_rows > 1 or block.cells <= longest:
            units.append(Unit(folder, block))
        else:
            cuts = np.linspace(0, block.cells, -(-block.cells // longest) + 1).astype(np.int64).tolist()
            units += [Unit(folder, block, first, end) for first, end in pairwise(cuts)]
    return units


_mapped: dict[tuple[str, str, int], BlockArrays] = {}  # a process of an executor stays for many tasks


def map_block(unit: Unit) -> CsrRows:
    """The rows of the unit's block, from 0. Raises ArtifactError; the first time, digests are compared."""
    block = unit.block
    name = (unit.folder, block.side, block.number)  # a folder is named after what is in it
    if (arrays := _mapped.get(name)) is None:
        arrays = BlockFolder(Path(unit.folder), (0, 0), block.cells, (), ()).read(block, check=True)
        if len(_mapped) >= _MOST_MAPPED:
            _mapped.clear()
        _mapped[name] = arrays
    return CsrRows.of(0, block.n_rows, arrays.indptr, arrays.indices, arrays.scores())


class FileArray(NamedTuple):
    """An array in a file of its own, without a header."""

    path: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def write(cls, path: Path, array: NDArray[Any]) -> FileArray:
        """Store an array. Raises OSError."""
        with path.open("wb") as file:
            file.write(np.ascontiguousarray(array).data)
        return cls(str(path), array.shape, array.dtype.str)

    @classmethod
    def room(cls, path: Path, array: NDArray[Any]) -> FileArray:
        """Room for an array like this one, for `put`."""
        with path.open("wb") as file:
            file.truncate(array.nbytes)
        return cls(str(path), array.shape, array.dtype.str)

    def map(self) -> NDArray[Any]:
        """The array, mapped; private and writeable, as the kernels' other arrays."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        array: NDArray[Any] = np.memmap(self.path, self.dtype, "c", shape=self.shape).view(np.ndarray)
        return array

    def put(self, row: int, rows: NDArray[Any]) -> None:
        """Store rows from `row` on. Another try of the same task stores the same."""
        left = memoryview(np.ascontiguousarray(rows).data).cast("B")
        at = row * (rows.nbytes // max(len(rows), 1))
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            while left:
                written = os.pwrite(descriptor, left, at)
                left, at = left[written:], at + written
        finally:
            os.close(descriptor)

    def read(self, into: NDArray[Any]) -> None:
        """Read all of it into an array of its shape."""
        with Path(self.path).open("rb") as file:
            view, at = memoryview(into.data).cast("B"), 0
            while at < len(view):
                at += file.readinto(view[at:]) or len(view)


class Finished(NamedTuple):
    """What a task found out about a unit.

    number, first : of the block, and of its cells
    gram, sums : of a whole block
    part : of some cells of a row
    """

    number: int
    first: int
    gram: NDArray[np.float64]
    sums: NDArray[np.float64]
    part: Part | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Blocks in order, and the parts of a row in theirs."""
        return self.number, self.first


class StepFiles(NamedTuple):
    """`steps.Step` with its large arrays in files."""

    routine: str
    shared: Any
    given: tuple[FileArray, ...]
    out: tuple[FileArray, ...]
    sums: int
    gram: int

    @classmethod
    def write(cls, folder: Path, step: Step) -> StepFiles:
        """Store what the tasks read, and make room for what they write. Raises OSError."""
        stored: dict[int, FileArray] = {}

        def store(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                if value.nbytes < _INLINE:
                    return value
                if id(value) not in stored:
                    stored[id(value)] = FileArray.write(folder / str(len(stored)), value)
                return stored[id(value)]
            if isinstance(value, tuple):
                return type(value)(*map(store, value)) if hasattr(value, "_fields") else tuple(map(store, value))
            return value

        def rows(value: NDArray[Any]) -> FileArray:
            if id(value) not in stored:
                stored[id(value)] = FileArray.write(folder / str(len(stored)), value)
            return stored[id(value)]

        shared = store(step.shared)
        given = tuple(map(rows, step.given))
        out = tuple(FileArray.room(folder / f"out{i}", array) for i, array in enumerate(step.out))
        return cls(step.routine, shared, given, out, step.sums, step.gram)

    def load(self) -> Step:
        """The step, its arrays mapped."""

        def load(value: Any) -> Any:
            if isinstance(value, FileArray):
                return value.map()
            if isinstance(value, tuple):
                return type(value)(*map(load, value)) if hasattr(value, "_fields") else tuple(map(load, value))
            return value

        given = tuple(array.map() for array in self.given)
        return Step(self.routine, load(self.shared), given, (), self.sums, self.gram)

    def read_out(self, step: Step) -> None:
        """Fill the step's arrays with what the tasks have written."""
        for file, array in zip(self.out, step.out, strict=True):
            file.read(array)


def run_units(files: StepFiles, units: Sequence[Unit]) -> list[Finished]:
    """Carry out a step for some units; in whatever process. Raises OSError and ArtifactError."""
    step = files.load()
    return [_block(files, step, unit) if unit.whole else _part(step, unit) for unit in units]


def _block(files: StepFiles, step: Step, unit: Unit) -> Finished:
    cells, lo, hi = map_block(unit), unit.block.first, unit.block.last
    given = tuple(array[lo:hi] for array in step.given)
    out = tuple(np.zeros((hi - lo, *file.shape[1:]), file.dtype) for file in files.out)
    gram, sums = np.zeros((step.gram, step.gram)), np.zeros(step.sums)
    ROUTINES[step.routine].call(cells, step._replace(given=given, out=out), gram, sums)
    for file, rows in zip(files.out, out, strict=True):
        file.put(lo, rows)
    return Finished(unit.block.number, 0, gram, sums)


def _part(step: Step, unit: Unit) -> Finished:
    cells = map_block(unit)
    some = slice(unit.first, unit.end)
    part = ROUTINES[step.routine].part(cells.indices[some], cells.data[some], step)
    return Finished(unit.block.number, unit.first, np.zeros((0, 0)), np.zeros(0), part)
