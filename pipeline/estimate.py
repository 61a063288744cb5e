"""What a training will need, from its counts: the peak of its memory by part, and its seconds.

Memory is that of arrays whose sizes are known, phase by phase (docs/data-gate.md has the list and the measured
figures beside the estimated ones); the peak is the largest phase. Nothing here looks at the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.spec import TrainSpec

__all__ = [
    "PROGRAM",
    "Estimate",
    "Plan",
    "Size",
    "estimate",
    "in_bytes",
    "in_time",
    "most_components",
    "reading",
    "what_fits",
]

PROGRAM = 290 << 20  # of a process that has imported what it reads with
_KERNELS, _NO_KERNELS = 150 << 20, 60 << 20  # what a fit, its judges and its logging import and compile
_JUDGES = 400 << 20  # blocks of scores, at most
_GATHERED = 1 << 18  # cells whose factors are fetched at once to measure errors
_USER_JUDGED = 900  # bytes of a user's metrics and lists, by all who rank
_ID_LOGGED = 120  # bytes of an id as a Python value and as JSON
_ITERATIONS = 30  # what a fit takes until tol = 1e-4, mostly
_LEAST_USERS = (2, 3, 5, 10, 20, 50, 100)  # of --min-interactions, to try


@dataclass(frozen=True)
class Size:
    """What there is to train on.

    Attributes
    ----------
    n_rows : interactions, those that repeat a user and item too
    n_cells : cells of the matrix
    times : whether interactions have times
    user_id_bytes, item_id_bytes : of one id
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
    """What is to be done with it.

    Attributes
    ----------
    n_components : k, at most
    splits : how often the data is parted: 1 with a holdout, 2 when tuning, 0 without
    threads : that the fit may use
    searches : fits of a search besides those of a training
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

    @classmethod
    def of(cls, spec: TrainSpec, shape: tuple[int, int], cores: int) -> Plan:
        """Of a training of a matrix of this shape (n_users, n_items)."""
        return cls(
            spec.components_for((max(shape[0], 2), max(shape[1], 2))),
            int(spec.holdout > 0),
            float(spec.holdout),
            spec.max_iter,
            float(spec.tol),
            min(spec.threads or cores, cores) if spec.solver == "fast" else 1,
            spec.solver,
            not spec.plain,
        )

    def without_holdout(self) -> Plan:
        """The same with nothing held out."""
        return replace(self, splits=0, holdout=0.0)


@dataclass(frozen=True)
class Estimate:
    """Attributes
    ----------
    phases : bytes by part, of each phase, in their order
    seconds : by stage, as a training logs them
    """

    phases: Mapping[str, Mapping[str, int]]
    seconds: Mapping[str, float]

    @property
    def largest(self) -> str:
        """The phase with the peak."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by part, at the peak."""
        return self.phases[self.largest]

    @property
    def peak(self) -> int:
        """Bytes of the process at its largest."""
        return sum(self.parts.values())

    @property
    def seconds_in_all(self) -> float:
        """After the read."""
        return sum(self.seconds.values())


def estimate(size: Size, plan: Plan, program: int = PROGRAM, busy: float = 1.0) -> Estimate:
    """The phases of a training, by a process that takes `program` bytes besides what it has read.

    `busy`: how many times longer everything takes than with the cores to itself.
    """
    seconds = {stage: busy * seconds for stage, seconds in _seconds(size, plan).items()}
    return Estimate(_phases(size, plan, program), seconds)


def reading(size: Size, program: int = PROGRAM) -> int:
    """Bytes of the process while it reads and puts in order what it has read, before any factor is made."""
    phases = _phases(size, Plan(1, 0), program)
    return max(sum(phases[phase].values()) for phase in ("read", "matrix"))


def _phases(size: Size, plan: Plan, program: int) -> dict[str, dict[str, int]]:
    k, both = plan.n_components, size.n_users + size.n_items
    width = -(-k // 16) * 16  # the solver's rows are padded
    held = {
        "program": program,
        "interactions": size.read + size.n_cells * size.columns,  # as read, and in order
    }
    parted = {"holdout": plan.splits * (size.n_cells * size.columns + size.ids)}
    judged = {"metrics of users": _USER_JUDGED * size.n_users if plan.splits else 0}
    model = {"factors": 4 * k * both}
    kernels = _KERNELS if plan.solver == "fast" or plan.splits else _NO_KERNELS
    later = {**held, "program": program + kernels, **parted}
    # Start, result, what is fetched from, and a spare of each: two and a half times both factors.
    fitting = {"transposed matrix": 8 * (size.n_cells + both), "factors": 10 * width * both}
    if plan.solver == "sklearn":
        fitting["factors"] = 20 * k * both
    blocks = min(_JUDGES, 16 * size.n_users * size.n_items)
    return {
        "read": {"program": program, "interactions": size.read, "reading": size.n_rows * (40 if size.text else 24)},
        "matrix": {
            "program": program,
            "interactions": size.read + size.n_rows * size.columns,
            "sorting": 40 * size.n_rows,
        },
        "holdout": {**held, **parted, "parting": 25 * size.n_cells if plan.splits else 0},
        "judge": {**later, **model, **judged, "judging": blocks if plan.splits else 0},
        "fit": {**later, **fitting, **judged},
        # Predictions and residuals of all cells, and both factors once more in float64.
        "measure": {
            **later,
            "factors": 12 * k * both,
            **judged,
            "measuring": 40 * size.n_cells + 8 * k * min(_GATHERED, size.n_cells),
        },
        "log": {**later, "factors": 8 * k * both, **judged, "logging": _ID_LOGGED * both},
    }


def _seconds(size: Size, plan: Plan) -> dict[str, float]:
    """By stage, on a core of a server of these years with nothing else to do: right to a factor of two or three."""
    n, k, both = size.n_cells, plan.n_components, size.n_users + size.n_items
    width = -(-k // 16) * 16
    if plan.solver == "sklearn":
        an_iteration, iterations = 1.2e-9 * n * (k + 16) + 3e-10 * k**2 * both, plan.max_iter
    else:
        sweeps = 6.0 if plan.weighted else 1.0
        an_iteration = sweeps * (1.7e-10 * n * (k + 32) + (1.8e-10 * width**2 + 2e-9 * width) * both)
        iterations = min(plan.max_iter, round(_ITERATIONS * (1e-4 / max(plan.tol, 1e-9)) ** 0.25))
    fit = an_iteration * iterations / plan.threads
    a_search = {"tune": plan.searches * fit * (1 - plan.holdout)} if plan.searches else {}
    held_out = 1.8e-7 * n * plan.splits + fit * (1 - plan.holdout) if plan.splits else 0.0
    # Item-kNN's work is bounded, and so is what it takes.
    judge = 0.5 + 2e-4 * size.n_users + 10 * min(1.0, 5e-9 * size.n_users * size.n_items) if plan.splits else 0.0
    return {
        "matrix": 1.7e-7 * size.n_rows,
        **a_search,
        "holdout": held_out,
        "judge": judge,
        "fit": fit,
        "measure": 1.5e-7 * n + 1e-9 * n * k + 1e-9 * k**2 * both,
        "log": 6.0 + 1e-6 * both,  # with the report, and what is imported and compiled on the way
    }


def most_components(peak_of: Callable[[int], int], at_most: int, room: int) -> int:
    """The largest k from 1 to `at_most` with ``peak_of(k) <= room``; 0 where there is none. `peak_of` never falls."""
    low, high = 0, at_most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak_of(middle) <= room else (low, middle - 1)
    return low


def what_fits(
    size: Size, plan: Plan, room: int, peak_of: Callable[[Size, Plan], int], kept: Callable[[int], Size]
) -> list[str]:
    """Options that would make the training fit, each alone; none where no one option would.

    Parameters
    ----------
    room : bytes
    peak_of : bytes of the process at its largest
    kept : the size without users who have fewer than so many interactions
    """
    found = []
    if k := most_components(lambda k: peak_of(size, replace(plan, n_components=k)), plan.n_components - 1, room):
        found.append(f"--n-components {k}")
    if plan.splits == 1 and peak_of(size, plan.without_holdout()) <= room:
        found.append("--holdout 0")
    for least in _LEAST_USERS:
        if peak_of(kept(least), plan) <= room:
            found.append(f"--min-interactions {least}")
            break
    return found


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
