"""Checks before a fit, for `train`, `tune` and `estimate`: whether the data fits into memory, and which way does."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, is_mapped, release_all
from pipeline.data.profile import n_duplicates
from pipeline.data.sources.blocks_builder import stored
from pipeline.data.sources.files import ReadFiles
from pipeline.data.sources.row_counts import RowCount
from pipeline.errors import DoesNotFitError
from pipeline.jobs.executors import Executors
from pipeline.jobs.inputs import LoadedInput, read_interactions
from pipeline.models import registry
from pipeline.models.footprint import Plan, Size
from pipeline.models.registry import find
from pipeline.models.saved_model import SavedModel
from pipeline.options import ReadOptions, TrainOptions, TuneOptions
from pipeline.runtime.cpus import busy, cpu_count
from pipeline.runtime.memory import MemoryLimit, give_back, memory_limit
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import run as tracking
from pipeline.training.candidates import Candidates, Room, candidates_for
from pipeline.training.estimate import (
    PROGRAM,
    Estimate,
    estimate,
    has_halves,
    in_bytes,
    in_time,
    most_components,
    reading,
    scoring,
    what_fits,
    within,
)
from pipeline.training.train import checked_algorithm
from pipeline.warehouse import Warehouse

__all__ = [
    "TrainingRequest",
    "as_size",
    "check_memory",
    "check_reading",
    "check_scoring",
    "find_candidates",
    "program_of",
    "read_source",
    "refusal",
    "sizes_of",
]

_IN_FILES = "memory is short: the interactions lie in temporary files while it trains (TMPDIR says where)"
_VARIES = 8 << 20  # bytes more or less that a program takes in another process: what is said to fit, fits
_LONG = 30.0  # seconds; a longer training is announced with its estimate


def check_reading(
    settings: Settings, wanted: TrainingRequest | None = None, say: Callable[[str], None] = lambda _: None
) -> Callable[[RowCount], Path | None]:
    """A function to call with the counts before a read. It raises DoesNotFitError where memory is too small.

    It returns a folder where `wanted` fits only if the interactions lie in files; else None.
    """

    def check(counted: RowCount) -> Path | None:
        room = memory_limit(settings.memory_limit_mb)
        if room is None:
            return None
        if wanted is not None and wanted.may_store and _stored(as_size(counted), wanted, room):
            say(_IN_FILES)
            return Path(tempfile.gettempdir())
        # Use lower bounds, so that nothing is refused that would fit: 0 for unknown counts, half of estimated ones.
        n_rows = counted.n_rows if counted.how == "counted" else counted.n_rows // 2
        size = replace(as_size(counted), n_rows=n_rows, n_cells=0, times=bool(counted.times))
        if (need := reading(size, room.used)) <= room.most:
            return None
        raise DoesNotFitError(
            f"Reading {size.n_rows:,} interactions or more needs some {in_bytes(need)} of memory, "
            f"and {_available(room)}. "
            "What would fit: fewer rows (a --query or an --input with less), or a machine with more. "
            "RANKLINE_MEMORY_LIMIT_MB says otherwise"
        )

    return check


def _stored(size: Size, wanted: TrainingRequest, room: MemoryLimit) -> bool:
    if reading(replace(size, n_cells=0), room.used, stored=True) > room.most:
        return False  # no way fits, and that is said before the read
    return within(size, wanted.plan(size), program_of(room, 0), room.most).stored


def as_size(counted: RowCount) -> Size:
    """The size of a source that was counted; 0 users and items where these were not."""
    return Size(
        counted.n_rows, counted.n_cells or counted.n_rows, counted.n_users or 0, counted.n_items or 0,
        counted.times is not False, counted.user_id_bytes, counted.item_id_bytes,
    )  # fmt: skip


def read_source(
    read_spec: ReadOptions,
    settings: Settings,
    reporter: Reporter,
    opened: Callable[[Warehouse], None] = lambda _: None,
    read_files: ReadFiles | None = None,
    wanted: TrainingRequest | None = None,
) -> LoadedInput:
    """Read the interactions and show the progress; `wanted` decides whether into memory or into files.

    Raises as `read_interactions`, and as `check_reading`.
    """
    reporter.progress("read", 0, None)
    return read_interactions(
        read_spec,
        settings,
        reporter.say,
        lambda done, total: reporter.progress("read", done, total),
        check_reading(settings, wanted, reporter.say),
        opened,
        read_files,
    )


def check_memory(
    run: tracking.Run,
    chosen: LoadedInput,
    n_repeated: int,
    wanted: TrainingRequest,
    settings: Settings,
    reporter: Reporter,
) -> LoadedInput:
    """Log the estimate to the run. Raises DoesNotFitError, with what would fit, where there is too little memory.

    Returns the input, whose interactions lie in files now if it fits only so.
    """
    release_all()
    give_back()
    room = memory_limit(settings.memory_limit_mb)
    n_texts = len({*chosen.texts.genres, *chosen.texts.tags}) if wanted.spec.cold_items and chosen.texts else 0
    size_for = sizes_of(chosen.read.interactions, n_repeated, n_texts)
    size = size_for(wanted.spec.min_interactions or 0)
    already = is_mapped(chosen.read.interactions.users)
    program = program_of(room, 0 if already else size.read)
    plan = within(size, wanted.plan(size), program, None if room is None else room.most)
    if already or (plan.stored and not wanted.may_store):
        plan = replace(plan, stored=already, on_disk=plan.on_disk or (already and has_halves(plan)))
    estimated = estimate(size, plan, program, busy())
    run.metrics_later(
        {
            "cost/estimated_peak_mb": estimated.peak / 2**20,
            "cost/estimated_fit_seconds": estimated.seconds["fit"],
            "cost/estimated_seconds": estimated.seconds_in_all,
        }
    )
    if sentence := refusal(estimated, size, plan, program, room, size_for):
        raise DoesNotFitError(sentence)
    if plan.stored and not already:
        reporter.say(_IN_FILES)
        x = stored(chosen.read.interactions, Path(tempfile.gettempdir()))
        chosen = replace(chosen, read=replace(chosen.read, interactions=x))
    elif plan.on_disk and not already:
        reporter.say("memory is short: the fit keeps its transposed matrix in a temporary file (TMPDIR says where)")
    if wanted.spec.is_auto:
        reporter.say(f"the search for a model takes {in_time(60 * wanted.spec.budget_minutes)} at most")
    elif estimated.seconds_in_all > _LONG:
        most = f" of {in_bytes(room.most)}" if room is not None else ""
        reporter.say(
            f"about {in_time(estimated.seconds_in_all)} from here, {in_bytes(estimated.peak)} of memory at most{most}"
        )
    return chosen


def check_scoring(model: SavedModel, k: int, settings: Settings) -> None:
    """Raise DoesNotFitError where the lists of a block of users, k items each, need more memory than is free."""
    room = memory_limit(settings.memory_limit_mb)
    if room is None:
        return
    id_bytes = model.users.values.dtype.itemsize + model.items.values.dtype.itemsize
    k = min(k, len(model.items))

    def peak(k: int) -> int:
        return scoring(len(model.users), k, id_bytes, model.seen.nnz, room.used)

    if peak(k) <= room.most:
        return
    fewer = most_components(peak, k - 1, room.most - _VARIES)
    fits = f"--k {fewer}, or " if fewer else ""
    raise DoesNotFitError(
        f"Scoring needs some {in_bytes(peak(k))} of memory, and {_available(room)}. "
        f"What would fit: {fits}a machine with {in_bytes(peak(k))}. RANKLINE_MEMORY_LIMIT_MB says otherwise"
    )


@dataclass(frozen=True)
class TrainingRequest:
    """A training, or with `search` a search that is followed by a training; by executors, or in this process."""

    spec: TrainOptions
    search: TuneOptions | None = None
    executors: Executors | None = None

    @property
    def may_store(self) -> bool:
        """Whether its interactions may lie in files: executors read them on their own."""
        return self.executors is None

    def plan(self, size: Size) -> Plan:
        """The plan for a matrix of this size. Raises UsageError where there is nothing to search."""
        shape = (size.n_users, size.n_items)
        if self.spec.is_auto:
            # The least that a choice needs: it leaves out every candidate that does not fit.
            popular = registry.find(registry.POPULAR)
            return replace(popular.plan(popular.own_options(self.spec), shape, cpu_count()), splits=2)
        algorithm = checked_algorithm(self.spec)
        plan = algorithm.plan(self.spec, shape, cpu_count())
        if self.search is None or not plan.splits:
            return plan
        searched = algorithm.search_space(self.spec, self.search.search, shape, times=size.times)
        return replace(algorithm.largest(plan, searched), splits=2, searches=self.search.trials)


def find_candidates(
    spec: TrainOptions, x: Interactions, settings: Settings, timeout: float | None = None
) -> Candidates:
    """The models that a choice tries on these interactions; `timeout` in seconds, beside `spec.budget_minutes`."""
    limit = memory_limit(settings.memory_limit_mb)
    size = sizes_of(x, n_duplicates(x))(spec.min_interactions or 0)
    seconds = min(60 * spec.budget_minutes, math.inf if timeout is None else timeout)
    most, stored = None if limit is None else limit.most, is_mapped(x.users)
    program = program_of(limit, 0 if stored else size.read)
    return candidates_for(spec, size, Room(seconds, most, program, cpu_count(), stored))


def program_of(room: MemoryLimit | None, already: int) -> int:
    """Memory of this process in bytes, without the `already` bytes of interactions that it has read."""
    return max((room.used if room is not None else 0) - already, PROGRAM)


def sizes_of(x: Interactions, n_repeated: int, n_texts: int = 0) -> Callable[[int], Size]:
    """A function: minimum interactions per user → size of the remaining data. Duplicates count towards the minimum.

    n_texts : items with a genre or a tag, which the model may have although nobody has them
    """
    rows = counts_of(x.users, len(x.user_ids))

    def size_for(least: int) -> Size:
        per_user = rows[rows >= least]
        n_users = int(per_user.size)
        return Size(
            len(x), max(int(per_user.sum()) - n_repeated, n_users), n_users, max(len(x.item_ids), n_texts),
            x.at is not None, x.user_ids.values.dtype.itemsize, x.item_ids.values.dtype.itemsize,
        )  # fmt: skip

    return size_for


def refusal(
    estimated: Estimate,
    size: Size,
    plan: Plan,
    program: int,
    room: MemoryLimit | None,
    size_for: Callable[[int], Size] | None,
) -> str:
    """Why it does not fit into memory, and what would, in a line; "" where it fits or the limit is unknown."""
    if room is None or estimated.peak <= room.most:
        return ""

    def peak(size: Size, plan: Plan) -> int:
        return estimate(size, plan, program).peak

    options = what_fits(size, plan, room.most - _VARIES, peak, size_for or (lambda least: size))
    larger = f"a machine with {in_bytes(estimated.peak)}"
    fits = "; or ".join([*options, larger]) if options else f"{larger}, or fewer rows; no one option would do"
    part, most = max(estimated.parts.items(), key=lambda item: item[1])
    return (
        f"{find(plan.algorithm).display_name} needs some {in_bytes(estimated.peak)} of memory "
        f"(most for the {part}: {in_bytes(most)}), and {_available(room)}. What would fit: {fits}. "
        "RANKLINE_MEMORY_LIMIT_MB says otherwise"
    )


def _available(room: MemoryLimit) -> str:
    return f"{in_bytes(room.most)} are available ({room.why})"
