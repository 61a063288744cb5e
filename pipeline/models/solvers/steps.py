"""`Step`: one pass over all rows of one side of X; `Engine`: who carries it out, in this process or elsewhere.

A solver alternates, extrapolates, takes back and stops; it never loops over rows. It describes a pass as a `Step`, and
an engine carries it out piece by piece: `engine.LocalEngine` on the threads of this process, `block_engine.BlockEngine`
wherever something can call a function with a list of tasks. The pieces depend on X alone, each row is computed on its
own, and what the pieces sum up is added in their order: engines that are given the same pieces give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime.threads import ThreadPool

__all__ = ["Engine", "OpenEngine", "Side", "State", "Step", "StepSums"]

State = Mapping[str, Any]  # arrays, numbers and lists of numbers, by name


class Step(NamedTuple):
    """One pass of a compiled routine over all rows of a side.

    routine : its name in `routines.ROUTINES`
    shared : its arguments that are the same for all rows: numbers and arrays, in tuples of its own kind
    given : arrays (rows, …) that it reads row by row
    out : arrays (rows, …) that it writes row by row; some may be those of `given`
    sums : how many sums it adds up
    gram : width of the Gram matrix that it adds up; 0: none
    """

    routine: str
    shared: tuple[Any, ...]
    given: tuple[NDArray[Any], ...]
    out: tuple[NDArray[Any], ...]
    sums: int
    gram: int = 0

    def rows_from(self, first: int) -> Step:
        """Without the rows before `first`."""
        if not first:
            return self
        return self._replace(given=tuple(a[first:] for a in self.given), out=tuple(a[first:] for a in self.out))


class StepSums(NamedTuple):
    """What the pieces of a step add up, in their order.

    grams : (pieces, width, width) float64, upper triangles; (pieces, 0, 0) where the step asks for none
    sums : (pieces, n) float64
    """

    grams: NDArray[np.float64]
    sums: NDArray[np.float64]


class Side(Protocol):
    """The rows of X, or of Xᵀ, as an engine has them.

    counts : (rows,) int64, the cells of each row
    dense : (rows, columns) where X is dense, else None
    """

    @property
    def counts(self) -> NDArray[np.int64]: ...  # noqa: D102 - said above

    @property
    def dense(self) -> Any: ...  # noqa: D102 - said above


class OpenEngine(Protocol):
    """An engine during one fit.

    threads : for what the solver computes itself, such as the Gram matrix of a whole factor
    """

    threads: ThreadPool

    def sides(self, X: Any, k: int, *, columns: bool = True) -> tuple[Side, Side | None]:
        """X by row, and with `columns` X by column.

        X : canonical CSR (m, n), or dense, or a folder of blocks (`pipeline.data.blocks`)
        k : the components that are to come
        """
        ...

    def run(self, side: Side, step: Step) -> StepSums:
        """Carry out a step over all rows of the side: sets the arrays of `step.out`."""
        ...

    def resume(self, fit: str, start: Sequence[NDArray[Any]]) -> State | None:
        """What `keep` was given last by the same fit in a process that died; None for a fit that begins.

        fit : everything besides the sides and the start that decides the iterates
        start : the factors that the fit begins with
        """
        ...

    def keep(self, state: State) -> None:
        """At the end of an iteration: what it takes to go on from here."""
        ...


class Engine(Protocol):
    """Opens an engine for each fit."""

    def open(self, n_threads: int | None = None) -> AbstractContextManager[OpenEngine]:
        """For one fit; `n_threads` of this process: default, the cores that it may use."""
        ...
