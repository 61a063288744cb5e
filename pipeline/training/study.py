"""`Study`: the trials of a search, in a file that survives when the process is killed.

Only this module and `study_file` import Optuna. A trial's options depend on the seed, the trial's number and the
results of the trials before it, so a search that is resumed tries the same options as one that was never interrupted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.errors import UsageError
from pipeline.models.search_space import Dimension
from pipeline.training.study_file import alone, distribution, open_storage

if TYPE_CHECKING:
    import optuna

__all__ = ["AllTried", "Pruned", "Study", "Trial", "TrialRequest", "check_optuna", "open_study"]

State = Literal["complete", "pruned", "failed"]
# By Optuna's names.
_STATES: Mapping[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

_STARTUP = 16  # trials, given ones included, before the sampler uses their results
_UNPRUNED = 8  # complete trials before the pruner uses them
_DRAWS, _DRAWS_OF_SAMPLER = 200, 10  # of a point that was not tried; after so many of the sampler, of any point
_STEP, _SKIPPED = "step", "skipped"  # attributes of a trial: which given point it was at; its point was tried before
_KEEP = 75.0  # a trial goes on if its value at a mark is among this best percentage of the complete trials


class Pruned(Exception):  # noqa: N818 - an outcome, not an error
    """The trial is behind the others at this mark and ends."""


@dataclass(frozen=True)
class Trial:
    """Attributes
    ----------
    number : position in the search, from 0
    options : searched option → value
    value : the metric; of a pruned trial at its last mark; None of a failed one
    marks : iterations → the metric after them
    reason : why the trial failed, "" otherwise
    started : epoch seconds
    seconds : how long the trial took
    share : of the users whose interactions it was fitted on
    """

    number: int
    state: State
    options: Mapping[str, Any]
    value: float | None
    marks: Mapping[int, float]
    reason: str
    started: float
    seconds: float
    share: float = 1.0


class TrialRequest:
    """A trial that is running."""

    def __init__(self, trial: optuna.Trial, number: int, options: Mapping[str, Any]) -> None:
        self.number = number
        self.options = options
        self._trial = trial

    def report(self, iterations: int, value: float) -> None:
        """Report the metric after so many iterations. Raises Pruned where other trials were better at that mark."""
        self._trial.report(value, iterations)
        if self._trial.should_prune():
            raise Pruned


class AllTried(Exception):  # noqa: N818 - an outcome, not an error
    """The space has no point that was not tried."""


class Study:
    """A search's trials. Made by `open_study`."""

    def __init__(self, study: optuna.Study, space: Sequence[Dimension], first: Sequence[Mapping[str, Any]], seed: int):
        self._study = study
        self._space = {dimension.name: dimension for dimension in space}
        self._first = first
        self._given: list[dict[str, Any]] = []
        self._seed = seed
        # This process alone writes to the study: it knows when they change.
        self._ended: tuple[Trial, ...] | None = None
        self._drop_unfinished()

    @property
    def name(self) -> str:
        """The name of the study."""
        return str(self._study.study_name)

    def trials(self) -> tuple[Trial, ...]:
        """The trials that ended, in order, without those that were interrupted."""
        if self._ended is None:
            self._ended = self._read()
        return self._ended

    def _read(self) -> tuple[Trial, ...]:
        trials: list[Trial] = []
        for stored in self._study.get_trials(deepcopy=False):
            reason = str(stored.user_attrs.get("reason", ""))
            state = _STATES.get(stored.state.name)
            if state is None or (state == "failed" and not reason):
                continue
            begin, end = stored.datetime_start, stored.datetime_complete
            trials.append(
                Trial(
                    len(trials),
                    state,
                    {name: self._space[name].decode(raw) for name, raw in stored.params.items()},
                    stored.value,
                    dict(stored.intermediate_values),
                    reason,
                    begin.timestamp() if begin else 0.0,
                    (end - begin).total_seconds() if begin and end else 0.0,
                )
            )
        return tuple(trials)

    def best(self) -> Trial | None:
        """The complete trial with the highest value, the first of equal ones; None where no trial is complete."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)

    def _best_raw(self) -> dict[str, Any]:
        """The encoded point of the best trial; {} where no trial is complete."""
        complete = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        best = max(complete, key=lambda trial: (trial.value, -trial.number), default=None)
        return {} if best is None else dict(best.params)

    def give(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Whole points, encoded, to try after the first trial and before any other."""
        self._given += [dict(point) for point in points]

    def ask(self) -> TrialRequest:
        """Start the next trial, at a point that no trial was at. Raises AllTried where there is none left."""
        ended = self.trials()
        number, tried = len(ended), {_point(trial.options) for trial in ended}
        if len(tried) >= math.prod(dimension.n_values for dimension in self._space.values()):
            raise AllTried
        for point in self._given if ended else ():
            if _point({name: self._space[name].decode(raw) for name, raw in point.items()}) not in tried:
                self._enqueue(point)
                asked = self._asked(number, 0)
                asked._trial.set_user_attr(_STEP, 0)  # it is none of the steps
                return asked
        for step in range(self._next_step(), len(self._first)):
            self._enqueue({**self._first[0], **self._best_raw(), **self._first[step]})
            asked = self._asked(number, 0)
            asked._trial.set_user_attr(_STEP, step)
            if _point(asked.options) not in tried:
                return asked
            self._skip(asked)
        for draw in range(_DRAWS):
            asked = self._asked(number, draw)
            if _point(asked.options) not in tried:
                return asked
            self._skip(asked)
        raise AllTried

    def _next_step(self) -> int:
        """The first of the given points that was not tried or skipped yet; an interrupted trial does not count."""
        stored = self._study.get_trials(deepcopy=False)
        steps = [int(trial.user_attrs[_STEP]) for trial in stored if _STEP in trial.user_attrs and not _dropped(trial)]
        # Trials of an older version of Rankline have no number of a step, and each was one.
        without = [trial for trial in stored if _STEP not in trial.user_attrs and not _dropped(trial)]
        return max([*(step + 1 for step in steps), len(without)], default=0)

    def _enqueue(self, point: Mapping[str, Any]) -> None:
        if not any(trial.state.name == "WAITING" for trial in self._study.get_trials(deepcopy=False)):
            self._study.enqueue_trial(dict(point))

    def _asked(self, number: int, draw: int) -> TrialRequest:
        import optuna

        # A new sampler for each draw: with the search's seed, a resumed search would draw the first trials again.
        seed = int(np.random.SeedSequence([self._seed, number, *([draw] if draw else [])]).generate_state(1)[0])
        # Where the sampler returns to one point again and again, points are drawn evenly.
        self._study.sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
            if draw < _DRAWS_OF_SAMPLER
            else optuna.samplers.RandomSampler(seed=seed)
        )
        trial = self._study.ask({name: distribution(dimension) for name, dimension in self._space.items()})
        return TrialRequest(trial, number, {name: self._space[name].decode(raw) for name, raw in trial.params.items()})

    def _skip(self, asked: TrialRequest) -> None:
        """Forget a trial whose point was tried before."""
        asked._trial.set_user_attr(_SKIPPED, True)
        self.drop(asked)

    def complete(self, asked: TrialRequest, value: float) -> None:
        """Store the trial as complete, with this value."""
        self._study.tell(asked._trial, value)
        self._ended = None

    def prune(self, asked: TrialRequest) -> None:
        """Store the trial as pruned at a mark."""
        import optuna

        self._study.tell(asked._trial, state=optuna.trial.TrialState.PRUNED)
        self._ended = None

    def fail(self, asked: TrialRequest, reason: str) -> None:
        """Store the trial as failed; it counts as a trial."""
        import optuna

        asked._trial.set_user_attr("reason", reason[:500] or "no reason was given")
        self._study.tell(asked._trial, state=optuna.trial.TrialState.FAIL)
        self._ended = None

    def drop(self, asked: TrialRequest) -> None:
        """Forget a trial that was interrupted; a resumed search tries it again."""
        import optuna

        self._study.tell(asked._trial, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _drop_unfinished(self) -> None:
        """Forget trials that were running when the process was killed."""
        import optuna

        for running in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(running.number, state=optuna.trial.TrialState.FAIL)


def _point(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


def _dropped(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a stored trial was interrupted, and counts for nothing."""
    ended = trial.state.name in ("COMPLETE", "PRUNED")
    return not ended and not trial.user_attrs.get("reason") and not trial.user_attrs.get(_SKIPPED)


def check_optuna() -> None:
    """Raise UsageError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401  # whether it is there
    except ModuleNotFoundError:
        raise UsageError(
            'Tuning needs Optuna, the extra "tune": pip install "optuna>=5" (make setup installs it)'
        ) from None


@contextmanager
def open_study(
    name: str,
    space: Sequence[Dimension],
    first: Sequence[Mapping[str, Any]],
    seed: int,
    path: Path | None = None,
    *,
    resume: bool = True,
) -> Iterator[Study]:
    """Open the study of that name, with the trials it has so far.

    Parameters
    ----------
    first : encoded points to try before any other; options that a point does not name have the values of the best
        trial so far
    path : a SQLite file, created where there is none; None: the trials are kept in memory only
    resume : continue a stopped search of that name; False: forget its trials

    Raises
    ------
    UsageError
        Without Optuna.
    LockedError
        Where another process runs the same study.
    InputError
        For a file that is not a store of trials.
    """
    check_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = open_storage(path)
        if not resume and name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.PercentilePruner(_KEEP, n_startup_trials=_UNPRUNED),
        )
        yield Study(study, space, first, seed)
