"""The size of a training, its plan, and the memory and time of the model's part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.options import TrainOptions
from pipeline.runtime.memory import memory_limit

__all__ = ["Footprint", "Plan", "Size", "keeps_on_disk", "matrix_in_files", "transposed"]

_WINDOW = 12 << 20  # bytes that a thread reads of a matrix on disk at a time
_SORTING = 15 << 20  # bytes of the cells that are sorted at a time, on their way there


@dataclass(frozen=True)
class Size:
    """The size of the training data.

    Attributes
    ----------
    n_rows : interactions, including those that repeat a user and item
    n_cells : cells of the matrix
    times : whether interactions have times
    user_id_bytes, item_id_bytes : bytes of one id
    """

    n_rows: int
    n_cells: int
    n_users: int
    n_items: int
    times: bool = True
    user_id_bytes: int = 8
    item_id_bytes: int = 8

    @property
    def text(self) -> bool:
        """Whether an id is text."""
        return max(self.user_id_bytes, self.item_id_bytes) > 8

    @property
    def ids(self) -> int:
        """Bytes of all ids, kept once."""
        return self.n_users * self.user_id_bytes + self.n_items * self.item_id_bytes

    @property
    def columns(self) -> int:
        """Bytes of one interaction: two codes, a score, a time."""
        return 20 if self.times else 12

    @property
    def read(self) -> int:
        """Bytes of the interactions as they were read."""
        return self.n_rows * self.columns + self.ids


@dataclass(frozen=True)
class Plan:
    """What a training does.

    Attributes
    ----------
    n_components : largest k; 0 for a model without factors
    splits : how often the data is split: 0 without a holdout, 1 with one, 2 when tuning
    threads : that the fit may use
    searches : fits of a search, besides those of the training
    cold_items : whether items without interactions get factors
    algorithm : name of the model, as `pipeline.models.registry.find` takes it
    members : the plans of the members of an ensemble
    selects : whether an ensemble's members are fitted on a part first, to select them and their weights
    on_disk : whether the fit keeps the transposed matrix in a temporary file
    stored : whether the interactions and the matrix lie in temporary files, too
    """

    n_components: int
    splits: int = 1
    holdout: float = 0.2
    max_iter: int = 200
    tol: float = 1e-4
    threads: int = 1
    solver: str = "fast"
    weighted: bool = False
    searches: int = 0
    algorithm: str = TrainOptions.algorithm
    cold_items: bool = False
    n_neighbours: int = TrainOptions.n_neighbours
    layers: tuple[int, ...] = ()
    negatives: int = TrainOptions.negatives_per_positive
    members: tuple[Plan, ...] = ()
    selects: bool = False
    on_disk: bool = False
    stored: bool = False

    @classmethod
    def of(cls, options: TrainOptions, n_components: int, cores: int) -> Plan:
        """The plan of a training with these options and so many factors."""
        return cls(
            n_components,
            int(options.holdout > 0),
            float(options.holdout),
            options.max_iter,
            float(options.tol),
            min(options.threads or cores, cores) if options.solver != "sklearn" else 1,
            options.solver,
            not options.plain,
            algorithm=options.algorithm,
            cold_items=options.cold_items is not None,
            n_neighbours=options.n_neighbours,
            negatives=options.negatives_per_positive,
        )

    def without_holdout(self) -> Plan:
        """The same plan without a holdout."""
        return replace(self, splits=0, holdout=0.0)


@dataclass(frozen=True)
class Footprint:
    """Memory and time of a model alone, without the interactions and the evaluation.

    Attributes
    ----------
    evaluate, fit, measure, log : bytes by part in each phase of a training
    fit_seconds, measure_seconds : on the threads of the plan, on an idle machine
    compiles : whether the fit loads compiled kernels
    """

    evaluate: Mapping[str, int] = field(default_factory=dict)
    fit: Mapping[str, int] = field(default_factory=dict)
    measure: Mapping[str, int] = field(default_factory=dict)
    log: Mapping[str, int] = field(default_factory=dict)
    fit_seconds: float = 0.0
    measure_seconds: float = 0.0
    compiles: bool = False


def transposed(size: Size, plan: Plan) -> Mapping[str, int]:
    """Bytes of the transposed matrix of a fit, by part."""
    both = size.n_users + size.n_items
    in_memory = 8 * (size.n_cells + both)
    if not plan.on_disk:
        return {"transposed matrix": in_memory}
    # A 64th of the cells is sorted at a time, into a block.
    on_disk = 8 * both + _SORTING + 40 * size.n_cells // 64 + _WINDOW * plan.threads
    return {"transposed matrix, from disk": min(in_memory, on_disk)}


def matrix_in_files(size: Size, plan: Plan) -> int:
    """Bytes in memory of a matrix that lies in mapped files, while the model is fitted to it.

    A fit by half-steps has a window of it for each thread. Another one reads all of it.
    """
    return min(8 * size.n_cells, _WINDOW * plan.threads) if plan.on_disk else 8 * size.n_cells


def keeps_on_disk(footprint: Footprint, limit_mb: int | None) -> bool:
    """Whether a fit that needs so much keeps its transposed matrix in a temporary file: more than is free now.

    limit_mb : most memory of the process; None: what the machine has
    """
    room = memory_limit(limit_mb)
    return room is not None and sum(footprint.fit.values()) > room.free
