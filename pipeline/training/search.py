"""A search's parts of the data, and its trials: each is fitted on one part and measured on the other.

all ──split──→ training side ──the same split again──→ fit side · validation part
     └───────→ test part
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import Split
from pipeline.errors import InputError, LeakageError, TooLittleDataError, UsageError
from pipeline.evaluation.evaluate import FoldIn, evaluate, ranking_per_user
from pipeline.evaluation.holdout import folding
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.search_space import Dimension
from pipeline.options import TrainOptions
from pipeline.ranking.protocols import Ranker
from pipeline.runtime.progress import Progress, silent
from pipeline.training.ages import user_weights
from pipeline.training.study import AllTried, Pruned, Study, Trial, TrialRequest
from pipeline.training.train import candidate, split_interactions

__all__ = [
    "Ended",
    "Measured",
    "OnTrial",
    "Parts",
    "Task",
    "best_trial",
    "check_holdout",
    "fitted_on",
    "mean_of",
    "measure",
    "parts_of",
    "run_trials",
    "study_name",
    "values_of",
]

Ended = Literal["trials", "timeout", "all tried", "interrupted"]

# A trial is also evaluated after these shares of its iterations, and is pruned there if it is behind. Each mark is
# a separate fit from the start, so the solver needs no pauses, and a complete trial costs 10 % more. Earlier marks
# would prune models with many regularised factors, which start slowly and end best.
_MARKS = (0.1,)

# Options that change no trial.
_LEFT_OUT = frozenset({"threads", "memory_limit", "on_interrupt", "min_data", "algorithm", "budget_minutes"})


class _TimeIsUp(Exception):  # noqa: N818 - not an error: the time budget ended during a trial
    pass


class Parts(NamedTuple):
    """The outer split holds the test part; the inner one splits the outer training side for the search."""

    outer: Split
    inner: Split
    data_digest: str


class Fit(NamedTuple):
    """A model fitted on a split's training side, and how it folds in held-out users."""

    ranker: Ranker
    fold_in: FoldIn
    converged: bool
    facts: Mapping[str, Any]


class Measured(NamedTuple):
    """What a trial measured: the metric of each validation user times the user's weight, (n_users,), NaN without one;
    seconds of the fit; users in each stretch of time; facts of the fit."""

    values: NDArray[np.float64]
    fit_seconds: float
    sizes: tuple[int, ...] = ()
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def mean(self) -> float:
        """Of the users who have a value."""
        return mean_of(self.values)


OnTrial = Callable[[Trial, Measured | None], None]


@dataclass(frozen=True)
class Task:
    """What the trials of a search are fitted and measured on.

    Attributes
    ----------
    base : options that are not searched
    deadline : of `time.monotonic`; None: no end
    at_least_one : whether the deadline counts only after the first complete trial
    weights : of the validation users, as of `ages.user_weights`
    earlier : splits at earlier moments, whose users count too (`stretches`)
    longest : seconds after which a trial is pruned, where one is complete; None: no end
    """

    inner: Split
    base: TrainOptions
    metric: str
    deadline: float | None = None
    at_least_one: bool = True
    weights: NDArray[np.float64] | None = None
    earlier: tuple[Split, ...] = ()
    longest: float | None = None

    @classmethod
    def until(cls, timeout: float | None, parts: Parts, base: TrainOptions, metric: str) -> Task:
        """The task with a deadline in so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return cls(parts.inner, base, metric, deadline, weights=user_weights(parts.inner, parts.outer))


def parts_of(x: Interactions, base: TrainOptions) -> Parts:
    """Prepare and split twice. Raises TooLittleDataError, and LeakageError where a side knows of the test part."""
    prepared = prepare_interactions(x, base.duplicates, base.min_interactions, base.max_interactions, base.min_data)
    # Data that would be refused when the winner is trained is refused before the search.
    to_matrix(prepared.interactions, base.transform, base.min_data)
    outer = split_interactions(prepared.interactions, base)
    # With a given date the test part is everything after it: the validation part is a share before it.
    inner = split_interactions(outer.train, replace(base, split_cutoff=None))
    _check_unseen(inner, outer)
    return Parts(outer, inner, prepared.data_digest)


def _check_unseen(inner: Split, outer: Split) -> None:
    """Raise LeakageError where a side of the inner split holds a pair of the test part, or one of its users."""
    for side in (inner.train, inner.test, inner.fold_in):
        if side is not None:
            Split(side, outer.test, outer.cutoff, outer.name, outer.params, outer.fold_in)


def study_name(
    algorithm: Algorithm,
    base: TrainOptions,
    metric: str,
    space: Sequence[Dimension],
    parts: Parts,
    more: Mapping[str, Any] | None = None,
) -> str:
    """The study's name: a hash of everything that a trial's value depends on, so that no two searches share trials."""
    # The base's values of searched options count too: they are the first trial.
    # Options that the default model does not have are not part of the names of its searches, so that those that began
    # in earlier versions go on.
    others = set[str]().union(*(known.options for known in registry.algorithms())) - registry.DEFAULT.options
    fixed = {key: value for key, value in asdict(base).items() if key not in _LEFT_OUT | others}
    if algorithm is not registry.DEFAULT:
        fixed["algorithm"] = algorithm.name
        fixed |= {key: getattr(base, key) for key in algorithm.options}
    facts = {
        "version": __version__,
        "data": parts.data_digest,
        "splits": [parts.outer.digest, parts.inner.digest],
        "base": fixed,
        "space": [repr(dimension) for dimension in space],
        "metric": metric,
        "marks": _MARKS,
        **({} if user_weights(parts.inner, parts.outer) is None else {"weights": "ages"}),
        **(more or {}),
    }
    return "rankline-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def run_trials(study: Study, task: Task, n_trials: int, on_trial: OnTrial, progress: Progress = silent) -> Ended:
    """Run trials until the study has so many or the time is up. On Ctrl-C the trial that runs is forgotten."""
    asked: TrialRequest | None = None
    try:
        while (done := len(study.trials())) < n_trials:
            best = study.best()
            note = "" if best is None else f"best {task.metric} {best.value:.4f} (trial {best.number})"
            progress("tune", done, n_trials, note)
            # Without a complete trial there is nothing to train.
            limit = None if best is None and task.at_least_one else task.deadline
            if limit is not None and time.monotonic() >= limit:
                return "timeout"
            measured = None
            try:
                asked = study.ask()
            except AllTried:
                return "all tried"
            try:
                measured = _objective(asked, task, limit, None if best is None else task.longest)
                study.complete(asked, measured.mean)
            except Pruned:
                study.prune(asked)
            except LeakageError:
                raise
            except _TimeIsUp:
                study.drop(asked)
                return "timeout"
            except Exception as error:  # noqa: BLE001 - one point may fail in any way, others may do well
                measured = None
                study.fail(asked, f"{type(error).__name__}: {error}")
            asked = None
            on_trial(study.trials()[-1], measured)
        progress("tune", n_trials, n_trials)
    except KeyboardInterrupt:
        if asked is not None:
            study.drop(asked)
        raise
    return "trials"


def best_trial(study: Study) -> Trial:
    """The best trial. Raises InputError, with the first reason, where no trial is complete."""
    best = study.best()
    if best is None:
        trials = study.trials()
        reason = next((trial.reason for trial in trials if trial.reason), "none came to its end")
        raise InputError(f"None of {len(trials)} trial(s) succeeded; the first: {reason}")
    return best


def _objective(asked: TrialRequest, task: Task, limit: float | None, longest: float | None) -> Measured:
    """Validation values of a trial's options. Raises Pruned at a mark or after so long, _TimeIsUp past `limit`."""
    start = time.monotonic()

    def watch(stage: str, done: int, total: int | None, note: str = "") -> None:
        if limit is not None and time.monotonic() >= limit:
            raise _TimeIsUp
        if longest is not None and time.monotonic() - start > longest:
            raise Pruned

    # The search handles Ctrl-C: a fit that kept what it had by then would be evaluated as a complete one.
    spec = replace(task.base, **{**asked.options, "on_interrupt": "stop"})
    marks = _MARKS if registry.find(spec.algorithm).stepped else ()
    for mark in sorted({max(1, round(share * spec.max_iter)) for share in marks} - {spec.max_iter}):
        measured, converged = measure(task, replace(spec, max_iter=mark), watch)
        if converged:
            return measured
        asked.report(mark, measured.mean)
    return measure(task, spec, watch)[0]


def measure(task: Task, spec: TrainOptions, progress: Progress = silent) -> tuple[Measured, bool]:
    """Fit these options on the inner training side and measure them; whether the fit has converged."""
    start = time.perf_counter()
    fitted = fitted_on(task.inner, spec, progress)
    seconds = time.perf_counter() - start
    values = values_of(fitted.ranker, task.inner, task.metric, fitted.fold_in)
    parts = [values if task.weights is None else values * task.weights]
    for split in task.earlier:
        before = fitted_on(split, spec, progress)
        parts.append(values_of(before.ranker, split, task.metric, before.fold_in))
    sizes = tuple(part.size for part in parts)
    return Measured(np.concatenate(parts), seconds, sizes, fitted.facts), fitted.converged


def fitted_on(split: Split, spec: TrainOptions, progress: Progress = silent) -> Fit:
    """Fit the options on the split's training side."""
    scorer, fitted = candidate(split.train, spec, progress)
    fold_in = folding(scorer, split, spec.transform, spec.half_life_days)
    return Fit(scorer, fold_in, fitted.converged, fitted.facts)


def values_of(ranker: Ranker, split: Split, metric: str, fold_in: FoldIn) -> NDArray[np.float64]:
    """The metric of each user of the split's held-out side; NaN for a user without a value."""
    # For known users, NDCG and recall alone are several times as fast as all metrics.
    if split.fold_in is None and metric in ("ndcg_at_10", "recall_at_10"):
        return ranking_per_user(ranker, split, 10)[metric]
    return evaluate(ranker, split, (10,), fold_in=fold_in).per_user[metric]


def mean_of(values: NDArray[np.float64]) -> float:
    """Mean over the users who have a value. Raises TooLittleDataError where no user has one."""
    values = values[~np.isnan(values)]
    if not values.size:
        raise TooLittleDataError("Too little data to tune on: no user has interactions on both sides of the split")
    return float(values.mean())


def check_holdout(base: TrainOptions) -> None:
    """Raise UsageError where nothing is held out to search on."""
    if not base.holdout:
        raise UsageError("Tuning needs held-out interactions: --holdout must be above 0")
    if base.cold_items is not None:
        raise UsageError(
            "A search ranks known items: leave out --cold-items, and give it to rankline train with the options found"
        )
