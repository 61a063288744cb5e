"""Which engine carries out the half-steps of a fit: the one that was named, else one of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.models.base import Algorithm
from pipeline.models.footprint import Size, keeps_on_disk
from pipeline.options import TrainOptions
from pipeline.runtime.cpus import cpu_count

if TYPE_CHECKING:
    from pipeline.models.solvers.steps import Engine

__all__ = ["engine_for"]


def engine_for(algorithm: Algorithm, x: Any, options: TrainOptions) -> Engine | None:
    """The engine that the algorithm was put on (`Algorithm.on`); None: this process, with all in its memory.

    Where less memory is free than a fit of the matrix `x` takes, or `x` lies on disk, its transpose is kept there: the
    same bits.
    """
    if algorithm._engine is not None:
        return algorithm._engine
    from pipeline.data.mapped import is_mapped

    size, plan = Size(x.nnz, x.nnz, *x.shape), algorithm.plan(options, x.shape, cpu_count())
    if plan.solver != "fast":
        return None
    if not (is_mapped(x.data) or keeps_on_disk(algorithm.footprint(size, plan), options.memory_limit)):
        return None
    from pipeline.models.solvers.engine import LocalEngine

    return LocalEngine(on_disk=True)
