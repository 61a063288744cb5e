"""`LocalEngine` carries out the steps of a fit on the threads of this process, with X in its memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.models.solvers.half_steps import Cells
from pipeline.models.solvers.routines import ROUTINES
from pipeline.models.solvers.steps import Engine, OpenEngine, Side, State, Step, StepSums
from pipeline.runtime.threads import ThreadPool

__all__ = ["LOCAL", "LocalEngine"]


class _Here:
    """`LocalEngine` during a fit."""

    def __init__(self, threads: ThreadPool) -> None:
        self.threads = threads

    def sides(self, X: Any, k: int, *, columns: bool = True) -> tuple[Side, Side | None]:
        X = X.tocsr() if sparse.issparse(X) else np.ascontiguousarray(X)
        rows = Cells.of(X, k)
        if not columns:
            return rows, None
        return rows, Cells.of(X.T.tocsr() if sparse.issparse(X) else X.T, k)

    def run(self, side: Side, step: Step) -> StepSums:
        assert isinstance(side, Cells)  # noqa: S101 - `sides` gives no others
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
    """The engine of a fit that no other is named for."""

    @contextmanager
    def open(self, n_threads: int | None = None) -> Iterator[OpenEngine]:
        """See `steps.Engine.open`."""
        with ThreadPool(n_threads) as threads:
            yield _Here(threads)


LOCAL: Engine = LocalEngine()
