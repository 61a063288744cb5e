"""`LocalEngine` carries out the steps of a fit on the threads of this process, with X in its memory or on its disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.blocks import BlockFolder
from pipeline.models.solvers.half_steps import Cells
from pipeline.models.solvers.routines import ROUTINES
from pipeline.models.solvers.steps import Engine, OpenEngine, Side, State, Step, StepSums
from pipeline.models.solvers.stored_side import StoredSide, transposed_on_disk
from pipeline.runtime.threads import ThreadPool

__all__ = ["LOCAL", "LocalEngine"]


class _Here:
    """`LocalEngine` during a fit."""

    def __init__(self, threads: ThreadPool, files: ExitStack, on_disk: bool, scratch: Path | None) -> None:
        self.threads = threads
        self._files, self._on_disk, self._scratch = files, on_disk, scratch

    def sides(self, X: Any, k: int, *, columns: bool = True) -> tuple[Side, Side | None]:
        if isinstance(X, BlockFolder):
            stored = self._open(StoredSide(X, "rows", k))
            return stored, self._stored_columns(X, k) if columns else None
        X = X.tocsr() if sparse.issparse(X) else np.ascontiguousarray(X)
        rows = Cells.of(X, k)
        if not columns:
            return rows, None
        if self._on_disk and sparse.issparse(X):
            return rows, self._open(transposed_on_disk(X, k, self._scratch))
        return rows, rows.transposed(X.shape[1], k, self.threads) if sparse.issparse(X) else Cells.of(X.T, k)

    def _stored_columns(self, X: BlockFolder, k: int) -> StoredSide:
        return self._open(StoredSide(X, "columns", k) if X.columns else transposed_on_disk(X, k, self._scratch))

    def _open(self, side: StoredSide) -> StoredSide:
        return self._files.enter_context(closing(side))

    def run(self, side: Side, step: Step) -> StepSums:
        assert isinstance(side, Cells | StoredSide)  # noqa: S101 - `sides` gives no others
        pieces = len(side.cuts) - 1
        grams, sums = np.zeros((pieces, step.gram, step.gram)), np.zeros((pieces, step.sums))
        call = ROUTINES[step.routine].call

        def piece(i: int) -> None:
            for first, rows in side.windows(i):
                call(rows, step.rows_from(first), grams[i], sums[i])

        self.threads.run(piece, pieces)
        return StepSums(grams, sums)

    def resume(self, fit: str, start: Sequence[NDArray[Any]]) -> State | None:
        """Nothing is kept: a fit in one process begins anew."""
        return None

    def keep(self, state: State) -> None:
        """Nothing is kept."""


class LocalEngine:
    """The engine of a fit that no other is named for.

    on_disk : keep the transpose of a sparse X of float32 in a temporary file: less memory, and the same bits
    scratch : the folder of that file; default, the one that TMPDIR names
    """

    def __init__(self, *, on_disk: bool = False, scratch: Path | None = None) -> None:
        self.on_disk, self.scratch = on_disk, scratch

    @contextmanager
    def open(self, n_threads: int | None = None) -> Iterator[OpenEngine]:
        """See `steps.Engine.open`."""
        with ExitStack() as files, ThreadPool(n_threads) as threads:
            yield _Here(threads, files, self.on_disk, self.scratch)


LOCAL: Engine = LocalEngine()
