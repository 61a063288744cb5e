"""The iterations of a fit: when they end, whom they tell, how far they extrapolate, and what they result in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.models.solvers.half_steps import Floats

__all__ = ["Extrapolation", "Factorization", "Iterations", "OnIteration"]

OnIteration = Callable[[int, float], None]

_WINDOW = 10  # iterations over which the loss must fall by more than tol
_GROW, _GROW_MOST, _SHRINK = 1.02, 1.005, 1.5  # of the extrapolation (Ang & Gillis 2019, algorithm 2)


@dataclass(frozen=True, eq=False)
class Factorization:
    """W (m, k), H (k, n); `losses[i]` after iteration i + 1; `loss` and `error` = ‖X − WH‖ of these W and H.

    `interrupted`: a KeyboardInterrupt ended the fit, and the caller had asked for the factors so far.
    """

    W: Floats
    H: Floats
    n_iter: int
    converged: bool
    loss: float
    error: float
    losses: list[float]
    interrupted: bool = False


@dataclass(eq=False)
class Iterations:
    """The iterations of one fit.

    Attributes
    ----------
    max_iter : most iterations, each a half-step for W and one for H
    tol : of the solver's stopping rule
    on_iteration : called with the iteration, from 1, and the loss after it; an exception that it raises ends the fit
    keep_interrupted : a KeyboardInterrupt ends the fit with the best factors so far instead of losing them; the next
        KeyboardInterrupt is raised
    losses : the loss after each iteration
    interrupted : whether a KeyboardInterrupt ended the fit
    """

    max_iter: int = 200
    tol: float = 1e-4
    on_iteration: OnIteration | None = None
    keep_interrupted: bool = False
    losses: list[float] = field(default_factory=list)
    interrupted: bool = False

    @property
    def left(self) -> bool:
        """Whether there may be another iteration."""
        return len(self.losses) < self.max_iter

    def add(self, loss: float) -> None:
        """End an iteration: note its loss, and tell it."""
        self.losses.append(loss)
        if self.on_iteration is not None:
            self.on_iteration(len(self.losses), loss)

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Have the losses of a fit that goes on."""
        self.losses[:] = map(float, state["losses"])

    @property
    def stalled(self) -> bool:
        """Whether the loss has fallen by no more than tol times itself in ten iterations."""
        losses = self.losses
        return len(losses) > _WINDOW and losses[-1 - _WINDOW] - losses[-1] <= self.tol * losses[-1]

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that a KeyboardInterrupt ends quietly, where `keep_interrupted` asks for that."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.keep_interrupted:
                raise
            self.interrupted = True


@dataclass
class Extrapolation:
    """How far an iterate goes past its half-step's result; after a step that raised the loss, not at all."""

    beta: float
    most: float = 1.0
    plain: bool = True

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Be as far as in a fit that goes on: `vars` of it."""
        self.beta, self.most, self.plain = float(state["beta"]), float(state["most"]), bool(state["plain"])

    def lengthen(self) -> None:
        """After an iteration that lowered the loss."""
        self.beta, self.most = min(self.beta * _GROW, self.most), min(self.most * _GROW_MOST, 1.0)
        self.plain = False

    def shorten(self) -> None:
        """After an iteration that raised the loss and was undone: the next one is plain."""
        self.beta, self.most, self.plain = self.beta / _SHRINK, self.beta, True
