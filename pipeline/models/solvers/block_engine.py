"""`BlockEngine`: a fit whose rows lie in files on shared storage, and whose half-steps somebody else calls.

All that a task is given is a function of this package, the name of a step and units of blocks. It maps the blocks and
the factors, runs the compiled routine, and writes its rows into the step's files; sums and Gram parts return. So what
carries out the tasks needs one method, `Tasks.run`: threads of this process (`HereTasks`), or executors of Spark.

    FOLDER/blocks/        the rows of X and of Xᵀ, named after their digests
    FOLDER/blocks/*.json  which blocks are a side: their rows and digests
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

from pipeline.errors import UsageError
from pipeline.kernels.compile_cache import sources
from pipeline.models.solvers.block_steps import Finished, StepFiles, run_units
from pipeline.models.solvers.blocks import (
    LONGEST,
    Block,
    columns_of_block,
    item_block,
    units_of,
    write_block,
    write_whole,
)
from pipeline.models.solvers.half_steps import cuts_of
from pipeline.models.solvers.routines import ROUTINES
from pipeline.models.solvers.steps import OpenEngine, Side, State, Step, StepSums
from pipeline.runtime.threads import ThreadPool, thread_count

__all__ = ["BlockEngine", "BlockSide", "HereTasks", "Tasks"]

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
    """As `steps.Side`, with the blocks in the order of their rows."""

    counts: NDArray[np.int64]
    blocks: tuple[Block, ...]
    dense: None = None

    @property
    def digest(self) -> str:
        """Of all cells, and of how they are cut into blocks."""
        return hashlib.sha256(" ".join(block.sha256 for block in self.blocks).encode()).hexdigest()


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
        if not hasattr(X, "indptr") or X.dtype != np.float32:
            raise UsageError("a fit in blocks takes a sparse float32 matrix")
        X = X.tocsr()
        folder = self._engine.folder / "blocks"
        counts = np.diff(X.indptr).astype(np.int64)
        cuts = self._cuts(counts, k)
        blocks: list[Any] = [None] * (cuts.size - 1)

        def write(i: int) -> None:
            lo, hi = int(cuts[i]), int(cuts[i + 1])
            own = slice(X.indptr[lo], X.indptr[hi])
            indptr = X.indptr[lo : hi + 1].astype(np.int64) - X.indptr[lo]
            blocks[i] = write_block(folder, lo, indptr, X.indices[own].astype(np.int32, copy=False), X.data[own])

        self.threads.run(write, len(blocks))
        rows = BlockSide(counts, tuple(blocks))
        self._sides = f"{rows.digest} {X.shape} {k}"
        return rows, self._by_column(X, rows, k) if columns else None

    def _cuts(self, counts: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """As in one process; but a row that is split is a block of its own."""
        long = np.flatnonzero(counts > self._engine.longest)
        return np.union1d(cuts_of(counts, k), np.concatenate([long, long + 1]))

    def _by_column(self, X: Any, rows: BlockSide, k: int) -> BlockSide:
        """Made by tasks: each block of rows by column, then from all of these each block of columns."""
        folder = self._engine.folder / "blocks"
        counts = np.bincount(X.indices, minlength=X.shape[1]).astype(np.int64)
        cuts = self._cuts(counts, k).tolist()
        known = folder / f"items-{_digest(self._sides, str(self._engine.longest))[:32]}.json"
        if known.exists():
            blocks = [Block(*fields) for fields in json.loads(known.read_text())]
            if all(Path(block.path).exists() for block in blocks):
                return BlockSide(counts, tuple(blocks))
        paths = [f"{block.path.removesuffix('.block')}.columns" for block in rows.blocks]
        self._tasks.run(partial(_write_columns, X.shape[1]), list(zip(rows.blocks, paths, strict=True)))
        ranges = list(itertools.pairwise(cuts))
        blocks = self._tasks.run(partial(_write_items, paths, X.shape[1], str(folder)), ranges)
        write_whole(known, [json.dumps(blocks).encode()])
        for path in paths:
            Path(path).unlink(missing_ok=True)
        return BlockSide(counts, tuple(blocks))

    # ---- steps ------------------------------------------------------------------------------

    def run(self, side: Side, step: Step) -> StepSums:
        assert isinstance(side, BlockSide)  # noqa: S101 - `sides` gives no others
        units = units_of(side.blocks, self._engine.longest)
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
        rows = {number: slice(side.blocks[number].lo, side.blocks[number].hi) for number in totals}
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


def _write_columns(columns: int, task: tuple[Block, str]) -> None:
    columns_of_block(task[0], columns, task[1])


def _write_items(paths: list[str], columns: int, folder: str, task: tuple[int, int]) -> Block:
    return item_block(paths, columns, *task, folder)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digest_of(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
