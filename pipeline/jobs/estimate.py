"""`estimate`: the memory and time that a training would need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.data.profile import n_duplicates
from pipeline.data.sources.row_counts import RowCount
from pipeline.errors import UsageError
from pipeline.jobs.inputs import read_interactions
from pipeline.jobs.item_texts import texts_of_files
from pipeline.jobs.preflight import TrainingRequest, as_size, check_reading, program_of, refusal, sizes_of
from pipeline.models.footprint import Plan, Size
from pipeline.options import ReadOptions, TrainOptions
from pipeline.runtime.cpus import busy
from pipeline.runtime.memory import MemoryLimit, memory_limit
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.training.estimate import Estimate, estimate, within
from pipeline.training.train import checked_algorithm

__all__ = ["EstimateResult", "estimate_job"]

_STORE = 115 << 20  # bytes of MLflow's client in a training; `estimate` itself opens no run


@dataclass(frozen=True)
class EstimateResult:
    """Attributes
    ----------
    exact : whether the data was read; else the warehouse counted it, with an error of about 1 %
    refusal : why it does not fit into memory, and what would; "" where it fits
    """

    size: Size
    plan: Plan
    estimate: Estimate
    room: MemoryLimit | None
    exact: bool
    refusal: str


class _CountsAreEnough(Exception):  # noqa: N818 - no error: it ends the read, since the counts suffice
    def __init__(self, counted: RowCount) -> None:
        super().__init__()
        self.counted = counted


def estimate_job(spec: TrainOptions, read_spec: ReadOptions, settings: Settings, reporter: Reporter) -> EstimateResult:
    """Estimate what `train` would need with these options.

    A large table is counted in the warehouse; all other data is read. Raises DoesNotFitError where reading alone
    needs too much memory. No run is opened.
    """
    if spec.is_auto:
        raise UsageError(
            "estimate is for one model: name it with --algorithm. (train --algorithm auto leaves out what does not fit "
            "into memory, and takes --budget-minutes to choose among the others.)"
        )
    checked_algorithm(spec)
    spec, settings = settings.limited(spec)
    check = check_reading(settings)

    def before(counted: RowCount) -> None:
        if counted.n_users is not None:
            raise _CountsAreEnough(counted)
        check(counted)

    reporter.progress("count", 0, None)
    size_for: Callable[[int], Size] | None = None
    try:
        chosen = read_interactions(
            read_spec, settings, reporter.say, lambda done, total: reporter.progress("read", done, total), before
        )
    except _CountsAreEnough as enough:
        size, already = as_size(enough.counted), 0
    else:
        x = chosen.read.interactions
        texts = texts_of_files(read_spec) if spec.cold_items is not None else None
        n_texts = 0 if texts is None else len({*texts.genres, *texts.tags})
        size_for = sizes_of(x, n_duplicates(x), n_texts)
        size = size_for(spec.min_interactions or 0)
        already = size.read
    room = memory_limit(settings.memory_limit_mb)
    program = program_of(room, already) + _STORE
    plan = within(size, TrainingRequest(spec).plan(size), program, None if room is None else room.most)
    estimated = estimate(size, plan, program, busy())
    sentence = refusal(estimated, size, plan, program, room, size_for)
    return EstimateResult(size, plan, estimated, room, size_for is not None, sentence)
