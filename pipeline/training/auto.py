"""`choose(parts, base, candidates, search) → Choice`: which model ranks best on a validation part, with its options.

Successive halving (Jamieson & Talwalkar 2016) over models and their options together:

1. Every candidate is tried at its defaults, the fastest first, and then at the other first points of its space. They
   share the time alike, by the estimates.
2. The better half of the candidates gets more trials by the sampler, then the better half of these, until one is left.
3. Where the first two steps would take too long, they are made on a sample of the users. The best few models are then
   tried on all users, at their best points first.

The search is deterministic for a seed as long as the time budget does not end it: which fits are made depends on the
data, the candidates and the estimates of their time, and never on how long a fit took.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.splits import Split
from pipeline.errors import InputError
from pipeline.models import registry
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.progress import Progress, silent
from pipeline.training.candidate_search import CandidateSearch, ranked, score_of
from pipeline.training.candidates import Candidate, Candidates
from pipeline.training.choice import CandidateScore, Choice
from pipeline.training.search import Measured, Parts, Task, run_trials, study_name
from pipeline.training.study import Trial, open_study

__all__ = ["choose", "shares_of"]

_MORE = 8  # further trials of a candidate in each round
_FINALISTS = 3  # models of a sample of users that are tried on all users, and points of each that are tried first
_FEWEST_USERS = 500  # validation users that a sample has at least
_SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
_FIRST_STEPS = 1 / 2  # of the budget, for the first two steps on a sample
_ALWAYS = ("popular", "recent")  # candidates that are also tried on all users, whatever they reached on a sample


class _TimeIsUp(Exception):  # noqa: N818 - no error: the rounds end
    pass


class _Chooser:
    """The search under way."""

    def __init__(
        self,
        parts: Parts,
        base: TrainOptions,
        search: TuneOptions,
        path: Path | None,
        on_trial: Callable[[Trial], None],
        progress: Progress,
    ) -> None:
        self.parts, self.base, self.search, self.path = parts, base, search, path
        self.on_trial, self.progress = on_trial, progress
        self.trials: list[Trial] = []
        self.n_before = 0

    def open(
        self, stack: ExitStack, candidates: Sequence[Candidate], share: float, deadline: float
    ) -> list[CandidateSearch]:
        """Open a study for each candidate, with the trials that earlier runs left."""
        inner = self.parts.inner if share == 1 else _sampled(self.parts.inner, share, self.base.random_state)
        more = {} if share == 1 else {"share": share}
        entries = []
        for candidate in candidates:
            given = [dict(point) for point in candidate.first]
            name = study_name(
                candidate.algorithm, candidate.options, self.search.metric, candidate.space, self.parts,
                {**more, "first": [sorted(point.items()) for point in given]},
            )  # fmt: skip
            study = stack.enter_context(
                open_study(
                    name, candidate.space, given, self.base.random_state, self.path, resume=self.search.resume == "yes"
                )
            )
            # There is always a result: most popular is measured whatever the time.
            at_least_one = candidate.algorithm.name == registry.POPULAR
            task = Task(inner, candidate.options, self.search.metric, deadline, at_least_one)
            entries.append(CandidateSearch(candidate, study, task, share))
        earlier = sorted(
            (self._named(entry, trial) for entry in entries for trial in entry.study.trials()),
            key=lambda trial: trial.started,
        )
        for trial in earlier:
            self.trials.append(replace(trial, number=len(self.trials)))
        self.n_before += len(earlier)
        return entries

    def first_steps(self, entries: list[CandidateSearch], seconds: Callable[[Candidate], Sequence[float]]) -> None:
        """Try every candidate at its defaults, and then at its other first points.

        Candidates share the time alike, by the estimates: the next point is that of the candidate that has used the
        least, so a search that is ended early has not spent its time on the slowest model.
        """
        order = [
            (n_trials > 1, float(used), place, n_trials)
            for place, entry in enumerate(entries)
            for n_trials, used in enumerate(np.cumsum(seconds(entry.candidate)), start=1)
            if n_trials <= self.search.trials
        ]
        for _, _, place, n_trials in sorted(order):
            self._until(entries[place], n_trials)

    def halve(self, entries: list[CandidateSearch]) -> None:
        """Give the better half of the candidates more trials, until one is left, and that one all trials."""
        field = ranked(entries)
        while len(field) > 1:
            field = field[: (len(field) + 1) // 2]
            for entry in field:
                self._until(entry, min(self.search.trials, entry.quota + _MORE))
            field = ranked(field) if len(field) > 1 else field
        for entry in field:
            self._until(entry, self.search.trials)

    def _until(self, entry: CandidateSearch, n_trials: int) -> None:
        """Run trials of a candidate until it has so many. Raises _TimeIsUp."""
        entry.quota = max(entry.quota, n_trials)

        def ended(trial: Trial, measured: Measured | None) -> None:
            if measured is not None and trial.state == "complete":
                entry.keep(trial, measured)
            self.trials.append(replace(self._named(entry, trial), number=len(self.trials)))
            self.on_trial(self.trials[-1])

        def show(stage: str, done: int, total: int | None, note: str = "") -> None:
            self.progress(f"{stage} {entry.name}", done, total, note)

        if run_trials(entry.study, entry.task, entry.quota, ended, show) == "timeout":
            raise _TimeIsUp

    def trial_of(self, score: CandidateScore) -> Trial:
        """The trial of a score."""
        options = {"algorithm": score.algorithm.name, **score.options}
        return next(
            trial
            for trial in self.trials
            if (trial.state, trial.share, dict(trial.options)) == ("complete", score.share, options)
        )

    def _named(self, entry: CandidateSearch, trial: Trial) -> Trial:
        return replace(trial, options={"algorithm": entry.name, **trial.options}, share=entry.share)


def choose(
    parts: Parts,
    base: TrainOptions,
    candidates: Candidates,
    search: TuneOptions,
    *,
    path: Path | None = None,
    on_start: Callable[[str, tuple[Trial, ...]], None] = lambda study, trials: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Choice:
    """Search the model and the options that rank best on the validation part.

    Parameters
    ----------
    base : with `base.on_interrupt` "keep", Ctrl-C ends it, and the best so
        far is the choice
    candidates : their `room` bounds the time of the search
    search : its trials are the most that one candidate gets
    path, on_start, on_trial : as of `tune`; the options of these trials have the name of the model

    Raises
    ------
    InputError, TooLittleDataError
        Where no candidate could be fitted, or no user can be evaluated.
    """
    chooser = _Chooser(parts, base, search, path, on_trial, progress)
    start = time.monotonic()
    budget = candidates.room.seconds
    shares = shares_of(candidates, parts)
    ended: Literal["trials", "timeout", "interrupted"] = "trials"
    rungs: list[list[CandidateSearch]] = []
    able: Sequence[Candidate] = candidates.able
    with ExitStack() as stack:
        try:
            for share in shares:
                deadline = start + (budget if share == 1 else _FIRST_STEPS * budget)
                entries = chooser.open(stack, able, share, deadline)
                rungs.append(entries)
                if len(rungs) == 1:
                    on_start(_name(entries), tuple(chooser.trials))
                try:
                    chooser.first_steps(entries, partial(_seconds, candidates, parts, share))
                    if share == 1:
                        chooser.halve(entries)
                except _TimeIsUp:
                    ended = "timeout" if share == 1 else ended
                able = _finalists(entries)
        except KeyboardInterrupt:
            if base.on_interrupt != "keep" or not any(entry.complete for entries in rungs for entry in entries):
                raise
            ended = "interrupted"
        scores, failed = _scores(rungs, progress)
        return Choice(
            study=_name(rungs[0]),
            metric=search.metric,
            scores=scores,
            left_out={**candidates.left_out, **failed},
            trials=tuple(chooser.trials),
            n_before=chooser.n_before,
            best=chooser.trial_of(scores[0]),
            ended=ended,
        )


def shares_of(candidates: Candidates, parts: Parts) -> tuple[float, ...]:
    """The shares of users that the candidates are tried on, one after another; the last is 1.

    All users alone, where the first points of all candidates are fitted in half the budget, by the estimates; else a
    sample comes first for which that holds, as far as it has enough validation users.
    """
    n_validation = int(np.unique(parts.inner.test.users).size)
    seconds = candidates.room.seconds
    for share in _SHARES:
        needed = sum(sum(_seconds(candidates, parts, share, candidate)) for candidate in candidates.able)
        if needed <= _FIRST_STEPS * seconds or n_validation * share / 2 < _FEWEST_USERS:
            break
    return (1.0,) if share == 1 else (share, 1.0)


def _seconds(candidates: Candidates, parts: Parts, share: float, candidate: Candidate) -> tuple[float, ...]:
    """Estimated seconds of a fit at each of the candidate's first points, on a share of the users."""
    train = parts.inner.train
    n_cells, n_users = int(len(train) * share), max(int(len(train.user_ids) * share), 1)
    size = replace(candidates.size, n_rows=n_cells, n_cells=n_cells, n_users=n_users)
    return candidate.seconds(size, candidates.room.cores)


def _sampled(split: Split, share: float, seed: int) -> Split:
    """The split with the training interactions of a share of its users; the others are not evaluated."""
    rng = np.random.default_rng([seed, round(1 / share)])
    chosen = rng.random(len(split.train.user_ids)) < share
    train = split.train.take(chosen[split.train.users])
    return Split(train, split.test, split.cutoff, split.name, {**split.params, "users": share}, split.fold_in)


def _finalists(entries: Sequence[CandidateSearch]) -> list[Candidate]:
    """The candidates of the next step: the best few, and those that are always tried, each at its best points first."""
    best = {entry.name for entry in ranked(entries)[:_FINALISTS]}
    return [
        replace(entry.candidate, first=tuple(entry.best_points(_FINALISTS)))
        for entry in entries
        if entry.complete and (entry.name in best or entry.name in _ALWAYS)
    ]


def _name(entries: Sequence[CandidateSearch]) -> str:
    """The name of the search: a digest of the studies of its candidates."""
    return "rankline-" + hashlib.sha256(" ".join(sorted(e.study.name for e in entries)).encode()).hexdigest()[:16]


def _scores(
    rungs: list[list[CandidateSearch]], progress: Progress
) -> tuple[tuple[CandidateScore, ...], dict[str, str]]:
    """The scores, best first, of all users before those of a sample; and why a candidate has none."""
    # A last step that ended before every candidate had a value decides nothing.
    if len(rungs) > 1 and not all(entry.complete for entry in rungs[-1]):
        rungs = rungs[:-1]
    scores: list[CandidateScore] = []
    failed: dict[str, str] = {}
    for entries in reversed(rungs):
        popular = next(entry for entry in entries if entry.name == registry.POPULAR)
        if not popular.complete:
            reason = next((trial.reason for trial in popular.trials if trial.reason), "")
            raise InputError(f"No model can be chosen: most popular has no value on the validation part: {reason}")
        for entry in ranked(entries):
            if entry.name not in {score.algorithm.name for score in scores}:
                progress("candidates", len(scores), None, entry.name)
                scores.append(score_of(entry, popular))
    named = {score.algorithm.name for score in scores}
    for entry in rungs[0]:
        if entry.name not in named:
            reason = next((trial.reason for trial in entry.trials if trial.reason), "")
            failed[entry.name] = f"its fits failed: {reason}" if reason else "the time was up before its first fit"
    return tuple(scores), failed
