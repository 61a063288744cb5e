"""Estimate a training's peak memory, by part, and its seconds, from the counts of its data.

Memory is the sum of the known array sizes of each phase; the peak is the largest phase. docs/data-gate.md lists them
with measured and estimated figures. This module does not look at the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.models import registry
from pipeline.models.footprint import Footprint, Plan, Size, matrix_in_files
from pipeline.models.item_features import MOST_FEATURES

__all__ = [
    "BASELINE",
    "PROGRAM",
    "Estimate",
    "Plan",
    "Size",
    "estimate",
    "has_halves",
    "in_bytes",
    "in_time",
    "most_components",
    "reading",
    "scoring",
    "what_fits",
    "within",
]

BASELINE = "item-kNN, a baseline"  # a part of the evaluation, where it is not too slow
PROGRAM = 290 << 20  # bytes of a process that has imported the modules for reading
_KERNELS, _NO_KERNELS = 180 << 20, 60 << 20  # bytes of what fit, evaluation and logging import and compile
_SCORE_BLOCKS = 100 << 20  # bytes of the blocks of scores of an evaluation, at most
_BASELINE_SECONDS, _SCORES_A_SECOND = 10.0, 1e8  # the most that item-kNN may take as a baseline, as it counts
_READ_AT_ONCE = 150 << 20  # bytes of the rows that are read onto the disk at a time, at most
_USER_EVALUATED = 900  # bytes of a user's metrics and lists, for the model and all baselines, while they are made
_USER_MEASURED = 500  # bytes of them that stay
_HELD_OUT = 4, 40  # bytes of a held-out interaction while it is evaluated: of a training, and of a search with ages
_USERS_A_BLOCK = 16384  # whose lists are made at once
_ROW_PUBLISHED = 100  # bytes of a row of the published table, without ids
_SEEN_A_BLOCK = 2**22  # pairs of what is seen that are held at once, at most
_ID_LOGGED = 120  # bytes of an id as a Python value and as JSON
_LEAST_USERS = (2, 3, 5, 10, 20, 50, 100)  # values of --min-interactions to try


@dataclass(frozen=True)
class Estimate:
    """Attributes
    ----------
    phases : phase → bytes by part, in the order of the phases
    seconds : by stage, with the stage names that a training logs
    """

    phases: Mapping[str, Mapping[str, int]]
    seconds: Mapping[str, float]

    @property
    def largest(self) -> str:
        """The phase that needs the most memory."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by part in the largest phase."""
        return self.phases[self.largest]

    @property
    def peak(self) -> int:
        """Peak bytes of the process."""
        return sum(self.parts.values())

    @property
    def seconds_in_all(self) -> float:
        """Seconds of all stages after the read."""
        return sum(self.seconds.values())


def estimate(size: Size, plan: Plan, program: int = PROGRAM, busy: float = 1.0) -> Estimate:
    """Estimate a training in a process that takes `program` bytes besides the data.

    `busy`: factor on all times for cores that are shared with other processes.
    """
    footprint = registry.find(plan.algorithm).footprint(size, plan)
    seconds = {stage: busy * seconds for stage, seconds in _seconds(size, plan, footprint).items()}
    return Estimate(_phases(size, plan, footprint, program), seconds)


def within(size: Size, plan: Plan, program: int, most: int | None, *, may_store: bool = True) -> Plan:
    """The plan where it needs at most `most` bytes; else the first way that does, else the one that needs least.

    The ways: with the transposed matrix in a temporary file, and, where it `may_store` them, with the interactions in
    such files, too.
    """
    if most is None:
        return plan
    ways = [plan]
    if has_halves(plan):
        ways.append(replace(plan, on_disk=True))
    if may_store:
        ways.append(replace(ways[-1], stored=True))
    peaks = [estimate(size, way, program).peak for way in ways]
    return next((way for way, peak in zip(ways, peaks, strict=True) if peak <= most), ways[peaks.index(min(peaks))])


def has_halves(plan: Plan) -> bool:
    """Whether the fit has a transposed matrix, which can lie on disk."""
    return registry.find(plan.algorithm).distributed and plan.solver == "fast"


def reading(size: Size, program: int = PROGRAM, *, stored: bool = False) -> int:
    """Peak bytes of the process while it reads and sorts the interactions, before the fit; `stored`: in files."""
    phases = _phases(size, Plan(1, 0, stored=stored), Footprint(), program)
    return max(sum(phases[phase].values()) for phase in ("read", "matrix"))


def scoring(n_users: int, k: int, id_bytes: int, n_seen: int, program: int = PROGRAM) -> int:
    """Peak bytes of a process that ranks items for all users in blocks, and publishes them.

    Parameters
    ----------
    id_bytes : bytes of a user's and an item's id
    n_seen : cells of what is seen
    """
    rows = min(n_users, _USERS_A_BLOCK) * k
    # The lists, the columns of the table made of them, and their copy on the way to the warehouse.
    lists = rows * (8 + 2 * id_bytes + 3 * _ROW_PUBLISHED)
    return program + _KERNELS + lists + min(n_seen, _SEEN_A_BLOCK) * (id_bytes + 16)


def _phases(size: Size, plan: Plan, footprint: Footprint, program: int) -> dict[str, dict[str, int]]:
    if plan.stored:
        return _phases_from_disk(size, plan, footprint, program)
    both = size.n_users + size.n_items
    held = {
        "program": program,
        "interactions": size.read + size.n_cells * size.columns,  # as read, and in order
    }
    parted = {"holdout": plan.splits * (size.n_cells * size.columns + size.ids)}
    evaluated, measured = _of_users(size, plan)
    kernels = _KERNELS if footprint.compiles or plan.splits else _NO_KERNELS
    later = {**held, "program": program + kernels, **parted}
    return {
        "read": {"program": program, "interactions": size.read, "reading": size.n_rows * (40 if size.text else 24)},
        "matrix": {
            "program": program,
            "interactions": size.read + size.n_rows * size.columns,
            "sorting": 40 * size.n_rows,
        },
        "holdout": {**held, **parted, "parting": 25 * size.n_cells if plan.splits else 0},
        "evaluate": {**later, **footprint.evaluate, **evaluated, **_evaluating(size, plan)},
        "fit": {**later, **footprint.fit, **_predicting(size, plan), **measured},
        "measure": {**later, **footprint.measure, **measured},
        "log": {**later, **footprint.log, **measured, "logging": _ID_LOGGED * both},
    }


def _of_users(size: Size, plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """The metrics of users while they are made, and afterwards."""
    n = size.n_users if plan.splits else 0
    return {"metrics of users": _USER_EVALUATED * n}, {"metrics of users": _USER_MEASURED * n}


def _evaluating(size: Size, plan: Plan) -> dict[str, int]:
    """Blocks of scores; and item-kNN, the largest of the baselines, where it is fitted in the time that they have."""
    if not plan.splits:
        return {"scores": 0}
    scores = {"scores": min(_SCORE_BLOCKS, 8 * size.n_users * size.n_items)}
    knn = registry.NEIGHBOURS
    own = knn.footprint(size, knn.plan(knn.default_options(), (size.n_users, size.n_items), 1))
    seconds = own.fit_seconds + size.n_users * size.n_items / _SCORES_A_SECOND
    return scores | ({BASELINE: sum(own.fit.values())} if seconds <= _BASELINE_SECONDS else {})


def _predicting(size: Size, plan: Plan) -> dict[str, int]:
    """The regression's system and its eigenvectors; both factors and the seen items a second time; indicators."""
    if not plan.cold_items:
        return {}
    factors = 8 * plan.n_components * (size.n_users + size.n_items)
    return {"cold items": 4 * 8 * MOST_FEATURES**2 + factors + 8 * size.n_cells + 100 * size.n_items}


def _phases_from_disk(size: Size, plan: Plan, footprint: Footprint, program: int) -> dict[str, dict[str, int]]:
    """As `_phases`, of interactions in mapped files: the pages in use count, of which each pass gives back its own."""
    n, both = size.n_cells, size.n_users + size.n_items
    held_out = round(plan.holdout * n) if plan.splits else 0
    kernels = _KERNELS if footprint.compiles or plan.splits else _NO_KERNELS
    held = {"program": program, "ids": 2 * size.ids, "rows of users": 24 * size.n_users}
    later = {**held, "program": program + kernels}
    evaluated, measured = _of_users(size, plan)
    # A million rows, as they come and while they are encoded, or a 64th of all while they are sorted.
    at_once = max(min(_READ_AT_ONCE, 200 * size.n_rows), 80 * min(size.n_rows, max(size.n_rows // 64, 1 << 19)))
    return {
        "read": {**held, "sorting": at_once},
        "matrix": {**held, "sorting": at_once, "marks": 2 * size.n_rows},
        "holdout": {**held, "parting": 2 * n + 10 * held_out, "sorting": at_once},
        "evaluate": {
            **later, **footprint.evaluate, **evaluated, "held-out part": _HELD_OUT[plan.splits > 1] * held_out,
            **_evaluating(size, plan),
        },
        "fit": {
            **later, "matrix": matrix_in_files(size, plan), **footprint.fit, **_predicting(size, plan), **measured,
        },
        "measure": {**later, **footprint.measure, **measured},
        "log": {**later, **footprint.log, **measured, "logging": _ID_LOGGED * both},
    }  # fmt: skip


def _seconds(size: Size, plan: Plan, footprint: Footprint) -> dict[str, float]:
    """Seconds by stage on an idle core of a current server, accurate to a factor of two or three."""
    n, fit, both = size.n_cells, footprint.fit_seconds, size.n_users + size.n_items
    a_search = {"tune": plan.searches * fit * (1 - plan.holdout)} if plan.searches else {}
    held_out = 1.8e-7 * n * plan.splits + fit * (1 - plan.holdout) if plan.splits else 0.0
    # The time of a baseline is bounded (`BASELINE_SECONDS`).
    evaluate = 0.5 + 2e-4 * size.n_users + 10 * min(1.0, 5e-9 * size.n_users * size.n_items) if plan.splits else 0.0
    return {
        "matrix": 1.7e-7 * size.n_rows,
        **a_search,
        "holdout": held_out,
        "evaluate": evaluate,
        "fit": fit,
        "measure": footprint.measure_seconds,
        "log": 6.0 + 1e-6 * both,  # with the report, and the imports and compilation it needs
    }


def most_components(peak_of: Callable[[int], int], at_most: int, room: int) -> int:
    """Largest k from 1 to `at_most` with ``peak_of(k) <= room``; 0 where there is none. `peak_of` never decreases."""
    low, high = 0, at_most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak_of(middle) <= room else (low, middle - 1)
    return low


def what_fits(
    size: Size, plan: Plan, room: int, peak_of: Callable[[Size, Plan], int], size_for: Callable[[int], Size]
) -> list[str]:
    """Options each of which alone would make the training fit; empty where none would.

    Parameters
    ----------
    room : bytes
    peak_of : peak bytes of the process
    kept : the size without users who have fewer than so many interactions
    """
    options = []
    if k := most_components(lambda k: peak_of(size, replace(plan, n_components=k)), plan.n_components - 1, room):
        options.append(f"--n-components {k}")
    if plan.splits == 1 and peak_of(size, plan.without_holdout()) <= room:
        options.append("--holdout 0")
    for least in _LEAST_USERS:
        if peak_of(size_for(least), plan) <= room:
            options.append(f"--min-interactions {least}")
            break
    for name in registry.find(plan.algorithm).instead:
        other = registry.find(name)
        k = other.components(other.default_options(), (size.n_users, size.n_items))
        if peak_of(size, replace(plan, algorithm=name, n_components=k)) <= room:
            options.append(f"--algorithm {name}")
            break
    return options


def in_bytes(n: float) -> str:
    """``812 MB``, ``3.1 GB``, ``20 GB`` (of 2²⁰ and 2³⁰ bytes)."""
    if n < 2**30:
        return f"{n / 2**20:,.0f} MB"
    return f"{n / 2**30:,.1f} GB" if n < 10 * 2**30 else f"{n / 2**30:,.0f} GB"


def in_time(seconds: float) -> str:
    """``40 seconds``, ``4 minutes``, ``3 hours``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} second" + ("" if round(seconds) <= 1 else "s")
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{round(seconds / 3600)} hours"
