"""Before a fit: is this data to be trained on, and will it fit into memory? For `train`, `tune` and `estimate`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline import tracking
from pipeline.champion_data import champion_data
from pipeline.data_facts import Source
from pipeline.data_gate import Limits, Outcome, examine
from pipeline.errors import ArtifactError, DoesNotFitError, InputError
from pipeline.estimate import PROGRAM, Estimate, Plan, Size, estimate, in_bytes, in_time, reading, what_fits
from pipeline.free_memory import Room, memory_room
from pipeline.interactions import Interactions
from pipeline.jobs.reporter import Reporter
from pipeline.search_space import Whole, search_space
from pipeline.settings import Settings
from pipeline.sources.choice import Chosen
from pipeline.sources.counts import Counted
from pipeline.spec import TrainSpec, TuneSpec

__all__ = ["Wanted", "busy", "check_data", "check_memory", "check_reading", "kept_by", "program_of", "refusal"]

_LONG = 30.0  # seconds that a person may want to know of beforehand


def check_reading(settings: Settings) -> Callable[[Counted], None]:
    """What to call with the counts before a read; it raises DoesNotFitError where the rows alone need too much."""

    def check(counted: Counted) -> None:
        room = memory_room(settings.memory_limit_mb)
        # Of what is not known the least, of what is guessed half: nothing is to be refused that would fit.
        n_rows = counted.n_rows if counted.how == "counted" else counted.n_rows // 2
        size = Size(
            n_rows, 0, counted.n_users or 0, counted.n_items or 0, bool(counted.times),
            counted.user_id_bytes, counted.item_id_bytes,
        )  # fmt: skip
        if room is None or (need := reading(size, room.used)) <= room.most:
            return
        raise DoesNotFitError(
            f"Reading {size.n_rows:,} interactions or more needs some {in_bytes(need)} of memory, and {_there(room)}. "
            "What would fit: fewer rows (a --query or an --input with less), or a machine with more. "
            "RANKLINE_MEMORY_LIMIT_MB says otherwise"
        )

    return check


def check_data(
    run: tracking.Run, chosen: Chosen, limits: Limits, reporter: Reporter, now: np.datetime64 | None = None
) -> Outcome:
    """The data gate, on the run: ``data_gate.json`` and tags. Raises DataGateError where a limit is passed."""
    reporter.progress("data gate", 0, None)
    unread = ""
    try:
        before = champion_data()
    except (ArtifactError, InputError) as error:
        before, unread = None, f"the champion's data is not known ({error}): gained and lost are not judged"
    outcome = examine(
        chosen.read.interactions,
        limits,
        n_rows=chosen.read.n_rows,
        n_bad=chosen.read.n_bad,
        now=np.datetime64("now", "ms") if now is None else now,
        source=Source(chosen.source, chosen.where, chosen.query.digest if chosen.query else None),
        before=before,
        old_is_usual=chosen.source == "file" or chosen.where.startswith("chdb://"),
    )
    if unread:
        outcome = replace(outcome, notes=(unread,))
    run.text("data_gate.json", json.dumps(outcome.as_json(), indent=1, ensure_ascii=False, allow_nan=False))
    run.tags({"data_gate": outcome.verdict, "data_gate_findings": outcome.words or None})
    for finding in outcome.findings:
        if not finding.breach:
            reporter.say(f"data gate: {finding.sentence}")
    # The first training has no champion; that is no news.
    if before is not None or unread:
        for note in outcome.notes:
            reporter.say(f"data gate: {note}")
    outcome.check()
    return outcome


def check_memory(
    run: tracking.Run, x: Interactions, n_duplicates: int, wanted: Wanted, settings: Settings, reporter: Reporter
) -> Estimate:
    """The estimate, on the run. Raises DoesNotFitError where it needs more than there is, saying what would fit."""
    room = memory_room(settings.memory_limit_mb)
    kept = kept_by(x, n_duplicates)
    size = kept(wanted.spec.min_interactions or 0)
    plan, program = wanted.plan(size), program_of(room, size.read)
    found = estimate(size, plan, program, busy())
    run.metrics(
        {
            "estimated_peak_mb": found.peak / 2**20,
            "estimated_fit_seconds": found.seconds["fit"],
            "estimated_seconds": found.seconds_in_all,
        }
    )
    if sentence := refusal(found, size, plan, program, room, kept):
        raise DoesNotFitError(sentence)
    if found.seconds_in_all > _LONG:
        most = f" of {in_bytes(room.most)}" if room is not None else ""
        reporter.say(f"about {in_time(found.seconds_in_all)} from here, {in_bytes(found.peak)} of memory at most{most}")
    return found


@dataclass(frozen=True)
class Wanted:
    """What is to be done: a training, or with `search` a search and then a training."""

    spec: TrainSpec
    search: TuneSpec | None = None

    def plan(self, size: Size) -> Plan:
        """For a matrix of this size. Raises UsageError where there is nothing to search."""
        shape = (size.n_users, size.n_items)
        plan = Plan.of(self.spec, shape, len(os.sched_getaffinity(0)))
        if self.search is None or not plan.splits:
            return plan
        searched = search_space(self.spec, self.search.search, shape, times=size.times)
        most = [one.high for one in searched if isinstance(one, Whole) and one.name == "n_components"]
        return replace(plan, n_components=max([plan.n_components, *most]), splits=2, searches=self.search.trials)


def program_of(room: Room | None, already: int) -> int:
    """Bytes of this process besides the interactions, of which `already` bytes are read."""
    return max((room.used if room is not None else 0) - already, PROGRAM)


def busy() -> float:
    """How many times longer work takes than on an idle machine: processes that want a core, for each core there is."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def kept_by(x: Interactions, n_duplicates: int) -> Callable[[int], Size]:
    """The size without users who have fewer than so many interactions; what repeats others is counted with the rest."""
    rows = np.bincount(x.users, minlength=len(x.user_ids))

    def kept(least: int) -> Size:
        mine = rows[rows >= least]
        n_users = int(mine.size)
        return Size(
            len(x), max(int(mine.sum()) - n_duplicates, n_users), n_users, len(x.item_ids), x.at is not None,
            x.user_ids.values.dtype.itemsize, x.item_ids.values.dtype.itemsize,
        )  # fmt: skip

    return kept


def refusal(
    found: Estimate, size: Size, plan: Plan, program: int, room: Room | None, kept: Callable[[int], Size] | None
) -> str:
    """Why it does not fit, and what would, in a line; "" where it fits, or nobody knows how much there is."""
    if room is None or found.peak <= room.most:
        return ""

    def peak(size: Size, plan: Plan) -> int:
        return estimate(size, plan, program).peak

    options = what_fits(size, plan, room.most, peak, kept or (lambda least: size))
    larger = f"a machine with {in_bytes(found.peak)}"
    fits = "; or ".join([*options, larger]) if options else f"{larger}, or fewer rows; no one option would do"
    part, most = max(found.parts.items(), key=lambda item: item[1])
    return (
        f"This needs some {in_bytes(found.peak)} of memory (most for the {part}: {in_bytes(most)}), "
        f"and {_there(room)}. What would fit: {fits}. RANKLINE_MEMORY_LIMIT_MB says otherwise"
    )


def _there(room: Room) -> str:
    return f"{in_bytes(room.most)} are there ({room.why})"
