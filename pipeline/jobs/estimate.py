"""`estimate`: what a training would need, without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.data_facts import n_duplicates
from pipeline.estimate import Estimate, Plan, Size, estimate
from pipeline.free_memory import Room, memory_room
from pipeline.jobs.before_fit import Wanted, busy, check_reading, kept_by, program_of, refusal
from pipeline.jobs.reporter import Reporter
from pipeline.settings import Settings
from pipeline.sources.choice import read_interactions
from pipeline.sources.counts import Counted
from pipeline.spec import ReadSpec, TrainSpec

__all__ = ["Preview", "estimate_job"]

_STORE = 115 << 20  # bytes that MLflow's client takes once a run is open, which here it is not


@dataclass(frozen=True)
class Preview:
    """Attributes
    ----------
    exact : whether the data was read; else the warehouse counted it, to some 1 %
    refusal : why it does not fit, and what would; "" where it does
    """

    size: Size
    plan: Plan
    found: Estimate
    room: Room | None
    exact: bool
    refusal: str


class _CountsAreEnough(Exception):  # noqa: N818 - no error: what is asked for is known without a read
    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted


def estimate_job(spec: TrainSpec, read_spec: ReadSpec, settings: Settings, reporter: Reporter) -> Preview:
    """What `train` would need with these options.

    A large table of the warehouse is counted where it lies; all else is read, where reading fits (DoesNotFitError).
    No run is opened.
    """
    check = check_reading(settings)

    def before(counted: Counted) -> None:
        if counted.n_users is not None:
            raise _CountsAreEnough(counted)
        check(counted)

    reporter.progress("count", 0, None)
    kept: Callable[[int], Size] | None = None
    try:
        chosen = read_interactions(
            read_spec, settings, reporter.say, lambda done, total: reporter.progress("read", done, total), before
        )
    except _CountsAreEnough as enough:
        size, already = _as_size(enough.counted), 0
    else:
        x = chosen.read.interactions
        kept = kept_by(x, n_duplicates(x))
        size = kept(spec.min_interactions or 0)
        already = size.read
    room = memory_room(settings.memory_limit_mb)
    plan, program = Wanted(spec).plan(size), program_of(room, already) + _STORE
    found = estimate(size, plan, program, busy())
    return Preview(size, plan, found, room, kept is not None, refusal(found, size, plan, program, room, kept))


def _as_size(counted: Counted) -> Size:
    return Size(
        counted.n_rows, counted.n_cells or counted.n_rows, counted.n_users or 0, counted.n_items or 0,
        counted.times is not False, counted.user_id_bytes, counted.item_id_bytes,
    )  # fmt: skip
