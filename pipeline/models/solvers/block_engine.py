"""`BlockEngine`: a fit whose rows lie in files on shared storage, and whose half-steps somebody else calls.

All that a task is given is a function of this package, the name of a step and units of blocks. It maps the blocks and
the factors, runs the compiled routine, and writes its rows into the step's files; sums and Gram parts return. So what
carries out the tasks needs one method, `Tasks.run`: threads of this process (`HereTasks`), or executors of Spark.

    FOLDER/blocks/DIGEST/ X by row and by column (`pipeline.data.blocks`); DIGEST is of its cells and cuts
    FOLDER/steps/         factors of the step at work
    FOLDER/fits/          what a fit goes on from, if its process dies
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.block_builder import rows_of, write_transposed
from pipeline.data.blocks import MANIFEST, Block, BlockFolder, finished_block, write_block, write_manifest
from pipeline.errors import UsageError
from pipeline.kernels.compile_cache import sources
from pipeline.models.solvers.block_steps import Finished, StepFiles, run_units, units_of
from pipeline.models.solvers.half_steps import cuts_of
from pipeline.models.solvers.routines import ROUTINES
from pipeline.models.solvers.steps import OpenEngine, Side, State, Step, StepSums
from pipeline.models.solvers.stored_side import counts_of_columns
from pipeline.runtime.threads import ThreadPool, thread_count

__all__ = ["BlockEngine", "BlockSide", "HereTasks", "Tasks"]

LONGEST = 1 << 21  # cells of a row that one task takes; a row with more is a block of its own, which is split
KEEPING = 0.05  # share of the time that may go into storing what a fit goes on from
SMALL = 1 << 25  # bytes of that; fewer are stored after each iteration


class Tasks(Protocol):
    """Carries out tasks, anywhere.

    slots : how many at a time
    """

    @property
    def slots(self) -> int: ...  # noqa: D102 - said above

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        """The function of each task, in order; the function is one of this package, or a `functools.partial` of one.

        Raises what a task raised; a task that died with its process is carried out again.
        """
        ...


class HereTasks:
    """The threads of this process."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.slots = thread_count(n_threads)

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        """See `Tasks.run`."""
        results: list[Any] = [None] * len(tasks)

        def one(i: int) -> None:
            results[i] = function(tasks[i])

        with ThreadPool(self.slots) as threads:
            threads.run(one, len(tasks))
        return results


@dataclass(frozen=True, eq=False)
class BlockSide:
    """As `steps.Side`, with the blocks in the order of their rows, and their folder."""

    counts: NDArray[np.int64]
    folder: str
    blocks: tuple[Block, ...]
    dense: None = None

    @property
    def digest(self) -> str:
        """Of all cells, and of how they are cut into blocks."""
        return hashlib.sha256(
            " ".join(file.sha256 for block in self.blocks for file in block.files.values()).encode()
        ).hexdigest()


class BlockEngine:
    """As `steps.Engine`.

    folder : on storage that all tasks share, under the same path
    tasks : who carries them out
    longest : cells of a row that one task takes
    keeping : share of the time that may go into storing what a fit goes on from
    say : told when a fit goes on
    """

    def __init__(
        self,
        folder: Path,
        tasks: Tasks,
        *,
        longest: int = LONGEST,
        keeping: float | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder, self.tasks, self.longest, self.say = folder, tasks, longest, say
        self.keeping = KEEPING if keeping is None else keeping
        for part in ("blocks", "steps", "fits"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def open(self, n_threads: int | None = None) -> Iterator[OpenEngine]:
        """See `steps.Engine.open`."""
        with ThreadPool(n_threads) as threads:
            yield _AtWork(self, threads)

    def clear(self) -> None:
        """Delete all files: what they were for is done."""
        for part in ("blocks", "steps", "fits"):
            shutil.rmtree(self.folder / part, ignore_errors=True)


class _AtWork:
    """`BlockEngine` during a fit."""

    def __init__(self, engine: BlockEngine, threads: ThreadPool) -> None:
        self.threads = threads
        self._engine, self._tasks = engine, engine.tasks
        # No name comes twice: a task whose process was thought dead may still write into its old files.
        self._names = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count())
        self._sides = ""
        self._fit: Path | None = None
        self._kept_at, self._kept_in = time.monotonic(), 0.0

    # ---- blocks -----------------------------------------------------------------------------

    def sides(self, X: Any, k: int, *, columns: bool = True) -> tuple[Side, Side | None]:
        if not sparse.issparse(X) or X.dtype != np.float32:
            raise UsageError("a fit in blocks takes a sparse float32 matrix")
        X = X.tocsr()
        counts = np.diff(X.indptr).astype(np.int64)
        cuts, of_columns = self._cuts(counts, k), counts_of_columns(X)
        column_cuts = self._cuts(of_columns, k)
        key = _digest(str(X.shape), *(_digest_of(a) for a in (X.indptr, X.indices, X.data, cuts, column_cuts)))
        folder = self._engine.folder / "blocks" / key[:32]
        matrix = self._written(folder, X, cuts, column_cuts if columns else None)
        rows = BlockSide(counts, str(folder), matrix.rows)
        self._sides = f"{rows.digest} {X.shape} {k}"
        return rows, BlockSide(of_columns, str(folder), matrix.columns) if columns else None

    def _cuts(self, counts: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """As in one process; but a row that is split is a block of its own."""
        long = np.flatnonzero(counts > self._engine.longest)
        return np.union1d(cuts_of(counts, k), np.concatenate([long, long + 1]))

    def _written(
        self, folder: Path, X: sparse.csr_matrix, cuts: NDArray[np.int64], column_cuts: NDArray[np.int64] | None
    ) -> BlockFolder:
        """The folder of blocks of X, whose name stands for what is in it: what an earlier run has written stays."""
        if (folder / MANIFEST).exists() and ((matrix := BlockFolder.open(folder)).columns or column_cuts is None):
            return matrix
        folder.mkdir(exist_ok=True)
        blocks: list[Any] = [None] * (cuts.size - 1)

        def write(i: int) -> None:
            lo, hi = int(cuts[i]), int(cuts[i + 1])
            own = slice(X.indptr[lo], X.indptr[hi])
            blocks[i] = finished_block(folder, "rows", i) or write_block(
                folder, "rows", i, lo, X.indptr[lo : hi + 1] - X.indptr[lo], X.indices[own], X.data[own]
            )

        self.threads.run(write, len(blocks))
        by_column = [] if column_cuts is None else write_transposed(folder, "columns", rows_of(X), column_cuts, folder)
        return write_manifest(folder, X.shape, blocks, by_column)

    # ---- steps ------------------------------------------------------------------------------

    def run(self, side: Side, step: Step) -> StepSums:
        assert isinstance(side, BlockSide)  # noqa: S101 - `sides` gives no others
        units = units_of(side.folder, side.blocks, self._engine.longest)
        n = min(len(units), 2 * self._tasks.slots)
        folder = self._engine.folder / "steps" / next(self._names)
        folder.mkdir(parents=True)
        files = StepFiles.write(folder, step)
        # Dealt out like cards: neighbouring blocks are often alike.
        done = self._tasks.run(partial(run_units, files), [units[i::n] for i in range(n)])
        finished = sorted((result for results in done for result in results), key=lambda result: result.order)
        sums = self._gathered(side, step, files, finished)
        shutil.rmtree(folder, ignore_errors=True)
        return sums

    def _gathered(self, side: BlockSide, step: Step, files: StepFiles, finished: list[Finished]) -> StepSums:
        """Read the rows, solve the rows that were split, and put what the blocks summed up in order."""
        grams, sums = np.zeros((len(side.blocks), step.gram, step.gram)), np.zeros((len(side.blocks), step.sums))
        totals: dict[int, Any] = {}
        for result in finished:
            if result.part is None:
                grams[result.number], sums[result.number] = result.gram, result.sums
            elif result.number in totals:
                totals[result.number] = totals[result.number].plus(result.part)
            else:
                totals[result.number] = result.part
        rows = {number: slice(side.blocks[number].first, side.blocks[number].last) for number in totals}
        given = {number: tuple(array[rows[number]].copy() for array in step.given) for number in totals}
        files.read_out(step)
        for number, total in totals.items():
            out = tuple(array[rows[number]] for array in step.out)
            row = step._replace(given=given[number], out=out)
            ROUTINES[step.routine].finish(total, row, grams[number], sums[number])
        return StepSums(grams, sums)

    # ---- going on ---------------------------------------------------------------------------

    def resume(self, fit: str, start: Sequence[NDArray[Any]]) -> State | None:
        key = _digest(fit, self._sides, str(self._engine.longest), sources(), *(_digest_of(array) for array in start))
        self._fit = self._engine.folder / "fits" / f"{key[:32]}.npz"
        self._kept_at = time.monotonic()
        try:
            with np.load(self._fit, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
        except (OSError, ValueError, zipfile.BadZipFile):  # none, or one that a power failure cut: it begins anew
            return None
        state = {**json.loads(arrays.pop("numbers").tobytes()), **arrays}
        self._engine.say(f"the fit goes on after iteration {len(state['losses'])}, to which an earlier one came")
        return state

    def keep(self, state: State) -> None:
        """Stored where that is little, or takes little time; under another name first, since half a file is none."""
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        began = time.monotonic()
        cheap = self._kept_in <= self._engine.keeping * (began - self._kept_at)
        if self._fit is None or not (cheap or sum(array.nbytes for array in arrays.values()) < SMALL):
            return
        numbers = json.dumps({name: value for name, value in state.items() if name not in arrays}, default=float)
        part = self._fit.with_suffix(".part.npz")
        try:
            arrays["numbers"] = np.frombuffer(numbers.encode(), np.uint8)
            np.savez(part, allow_pickle=False, **arrays)
            part.replace(self._fit)
        except BaseException:  # Ctrl-C, too: nothing half written stays
            part.unlink(missing_ok=True)
            raise
        self._kept_at = time.monotonic()
        self._kept_in = self._kept_at - began


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digest_of(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
