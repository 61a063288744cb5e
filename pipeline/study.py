"""`Study`: the trials of a search, asked for and told one by one, in a file that outlives a kill.

The one room that imports Optuna. A trial's parameters follow from the seed, its place in the search and
what the trials before it found, so a search that was killed and goes on tries what it would have tried.
"""

from __future__ import annotations

import fcntl
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.errors import InputError, LockedError, UsageError
from pipeline.search_space import Choice, Dimension, Whole

if TYPE_CHECKING:
    import optuna

__all__ = ["Asked", "Pruned", "Study", "Trial", "open_study"]

State = Literal["complete", "pruned", "failed"]

_STARTUP = 16  # trials, those that are given included, before the sampler goes by what they found
_UNPRUNED = 8  # complete trials before the pruner goes by them
_KEEP = 75.0  # per cent of the complete trials, by their values at a mark, that a trial must be among to go on


class Pruned(Exception):  # noqa: N818 - an outcome, not an error
    """The trial is behind the others at this mark, and ends."""


@dataclass(frozen=True)
class Trial:
    """Attributes
    ----------
    number : place in the search, from 0
    options : searched option → value
    value : the metric, None where it failed; of a pruned one at its last mark
    marks : iterations → the metric after them
    reason : why it failed
    started : epoch seconds
    seconds : it took
    """

    number: int
    state: State
    options: Mapping[str, Any]
    value: float | None
    marks: Mapping[int, float]
    reason: str
    started: float
    seconds: float


class Asked:
    """A trial that is under way."""

    def __init__(self, trial: optuna.Trial, number: int, options: Mapping[str, Any]) -> None:
        self.number = number
        self.options = options
        self._trial = trial

    def report(self, iterations: int, value: float) -> None:
        """The metric after so many iterations. Raises Pruned where others were better by then."""
        self._trial.report(value, iterations)
        if self._trial.should_prune():
            raise Pruned


class Study:
    """A search's trials. Made by `open_study`."""

    def __init__(self, study: optuna.Study, space: Sequence[Dimension], first: Sequence[Mapping[str, Any]], seed: int):
        self._study = study
        self._space = {one.name: one for one in space}
        self._first = first
        self._seed = seed
        self._drop_unfinished()

    def trials(self) -> tuple[Trial, ...]:
        """Those that ended, in order; one that was cut short is as if it had never been."""
        import optuna

        states: dict[Any, State] = {
            optuna.trial.TrialState.COMPLETE: "complete",
            optuna.trial.TrialState.PRUNED: "pruned",
            optuna.trial.TrialState.FAIL: "failed",
        }
        found: list[Trial] = []
        for one in self._study.get_trials(deepcopy=False):
            reason = str(one.user_attrs.get("reason", ""))
            if one.state not in states or (states[one.state] == "failed" and not reason):
                continue
            begin, end = one.datetime_start, one.datetime_complete
            found.append(
                Trial(
                    len(found),
                    states[one.state],
                    {name: self._space[name].decode(raw) for name, raw in one.params.items()},
                    one.value,
                    dict(one.intermediate_values),
                    reason,
                    begin.timestamp() if begin else 0.0,
                    (end - begin).total_seconds() if begin and end else 0.0,
                )
            )
        return tuple(found)

    def best(self) -> Trial | None:
        """The complete trial with the highest value, of equal ones the first; None before there is one."""
        complete = [one for one in self.trials() if one.state == "complete"]
        return max(complete, key=lambda one: (one.value, -one.number), default=None)

    def _best_raw(self) -> dict[str, Any]:
        """The best trial's point, encoded; {} before there is one."""
        import optuna

        complete = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best = max(complete, key=lambda one: (one.value, -one.number), default=None)
        return {} if best is None else dict(best.params)

    def ask(self) -> Asked:
        """The next trial, with its options."""
        import optuna

        number = len(self.trials())
        if number < len(self._first) and not self._study.get_trials(states=(optuna.trial.TrialState.WAITING,)):
            self._study.enqueue_trial({**self._first[0], **self._best_raw(), **self._first[number]})
        # Anew for each trial: a sampler that went on from its seed would draw the first trials again.
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        trial = self._study.ask({name: _distribution(one) for name, one in self._space.items()})
        return Asked(trial, number, {name: self._space[name].decode(raw) for name, raw in trial.params.items()})

    def complete(self, asked: Asked, value: float) -> None:
        """It ended with this value."""
        self._study.tell(asked._trial, value)

    def prune(self, asked: Asked) -> None:
        """It ended at a mark."""
        import optuna

        self._study.tell(asked._trial, state=optuna.trial.TrialState.PRUNED)

    def fail(self, asked: Asked, reason: str) -> None:
        """It failed, and counts as a trial."""
        import optuna

        asked._trial.set_user_attr("reason", reason[:500] or "no reason was given")
        self._study.tell(asked._trial, state=optuna.trial.TrialState.FAIL)

    def drop(self, asked: Asked) -> None:
        """It was cut short: it does not count, and is tried again when the search goes on."""
        import optuna

        self._study.tell(asked._trial, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _drop_unfinished(self) -> None:
        """Trials that were under way when the process was killed."""
        import optuna

        for one in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(one.number, state=optuna.trial.TrialState.FAIL)


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
    """The study of that name, as far as it has come.

    Parameters
    ----------
    first : encoded points to try before any other; where one names some options alone, the others are those of
        the best trial so far
    path : a SQLite file, made where there is none; None: the trials are gone afterwards
    resume : go on where a search of that name stopped; False: forget its trials

    Raises
    ------
    UsageError
        Without Optuna.
    LockedError
        Where another process is at the same study.
    InputError
        For a file that is no such store.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise UsageError(
            'Tuning needs Optuna, the extra "tune": pip install "optuna>=5" (make setup installs it)'
        ) from None

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _alone(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = _storage(path)
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


def _storage(path: Path | None) -> optuna.storages.BaseStorage:
    import optuna
    import sqlalchemy

    if path is None:
        return optuna.storages.InMemoryStorage()
    url = sqlalchemy.engine.URL.create("sqlite", database=str(path)).render_as_string()
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise InputError(f"{path} can't keep the trials ({reason}): move it away, and tuning begins anew") from None


@contextmanager
def _alone(path: Path | None, name: str) -> Iterator[None]:
    """One process a study: a second one would take the trial that the first is at for a dead one's."""
    if path is None:
        yield
        return
    with path.with_name(path.name + ".lock").open("a") as lock:
        _lock_byte(lock, name)
        yield


def _lock_byte(lock: IO[str], name: str) -> None:
    """A byte of the file for each study, so that two of them may be searched at once; a kill frees it."""
    import hashlib

    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    end = time.monotonic() + 1.0  # what was killed a moment ago may still be going
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            if time.monotonic() > end:
                raise LockedError("The same search is under way in another process: wait for it, or end it") from None
            time.sleep(0.05)
        else:
            return


def _distribution(one: Dimension) -> Any:
    import optuna

    if isinstance(one, Choice):
        return optuna.distributions.CategoricalDistribution(one.values)
    if isinstance(one, Whole):
        return optuna.distributions.IntDistribution(one.low, one.high, log=True)
    low, high = one.ends
    return optuna.distributions.FloatDistribution(low, high, log=True)
