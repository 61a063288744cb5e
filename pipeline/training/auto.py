"""`choose(parts, base, candidates, search) → Choice`: which model ranks best on a validation part, with its options.

Successive halving (Jamieson & Talwalkar 2016) over models and their options together:

1. Every candidate is tried at its defaults, the fastest first, and then at the other first points of its space. They
   share the time alike, by the estimates.
2. The better half of the candidates gets more trials by the sampler, then the better half of these, until one is left.
3. An ensemble of the best few is tried. `pipeline.training.settle` says what it has to show.
4. Where the first two steps would take too long, they are made on a sample of the users. The best few models are then
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

from pipeline.errors import InputError
from pipeline.models import registry
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.progress import Progress, silent
from pipeline.training.candidate_search import CandidateSearch, ranked, score_of
from pipeline.training.candidates import Candidate, Candidates
from pipeline.training.choice import CandidateScore, Choice
from pipeline.training.chooser import ALWAYS, Chooser, TimeIsUp
from pipeline.training.search import Parts
from pipeline.training.settle import Settled, settle
from pipeline.training.study import Trial

__all__ = ["choose", "shares_of"]

Ended = Literal["trials", "timeout", "interrupted"]

_FINALISTS = 3  # models of a sample of users that are tried on all users, and points of each that are tried first
_FEWEST_USERS = 500  # validation users that a sample has at least
_SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
_FIRST_STEPS = 1 / 2  # of the budget, for the first two steps on a sample
_ENSEMBLE = "ensemble"
_ROUNDS = 3 / 4  # of the budget, after which the rounds end, and an ensemble is tried


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
    chooser = Chooser(parts, base, search, path, on_trial, progress)
    start = time.monotonic()
    budget = candidates.room.seconds
    shares = shares_of(candidates, parts)
    ended: Ended = "trials"
    rungs: list[list[CandidateSearch]] = []
    able: Sequence[Candidate] = candidates.able
    combined: CandidateSearch | str = "the search ended before it"
    with ExitStack() as stack:
        try:
            for share in shares:
                deadline = start + (_ROUNDS if share == 1 else _FIRST_STEPS) * budget
                entries = chooser.open(stack, able, share, deadline)
                rungs.append(entries)
                if len(rungs) == 1:
                    on_start(_name(entries), tuple(chooser.trials))
                try:
                    chooser.first_steps(entries, partial(_seconds, candidates, parts, share))
                    if share == 1:
                        chooser.halve(entries)
                except TimeIsUp:
                    ended = "timeout" if share == 1 else ended
                able = _finalists(entries)
            if len(rungs) == 1 or all(entry.complete for entry in rungs[-1]):
                combined = chooser.combine(stack, rungs[-1], candidates, start + budget)
        except KeyboardInterrupt:
            if base.on_interrupt != "keep" or not any(entry.complete for entries in rungs for entry in entries):
                raise
            ended = "interrupted"
        scores, failed = _scores(rungs, progress)
        settled = _settled(scores, combined, rungs[-1], by_time=base.split == "time")
        left_out = {**candidates.left_out, **failed, **settled.left_out}
        return _choice(chooser, _name(rungs[0]), search.metric, settled._replace(left_out=left_out), ended)


def _choice(chooser: Chooser, study: str, metric: str, settled: Settled, ended: Ended) -> Choice:
    return Choice(
        study=study,
        metric=metric,
        scores=settled.scores,
        left_out=settled.left_out,
        trials=tuple(chooser.trials),
        n_before=chooser.n_before,
        best=chooser.trial_of(settled.scores[0]),
        ended=ended,
        reason=settled.reason,
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


def _finalists(entries: Sequence[CandidateSearch]) -> list[Candidate]:
    """The candidates of the next step: the best few, and those that are always tried, each at its best points first."""
    best = {entry.name for entry in ranked(entries)[:_FINALISTS]}
    return [
        replace(entry.candidate, first=tuple(entry.best_points(_FINALISTS)))
        for entry in entries
        if entry.complete and (entry.name in best or entry.name in ALWAYS)
    ]


def _settled(
    scores: Sequence[CandidateScore],
    combined: CandidateSearch | str,
    entries: Sequence[CandidateSearch],
    *,
    by_time: bool,
) -> Settled:
    """The scores in the order that decides; with that of an ensemble, or why there is none."""
    if isinstance(combined, str):
        settled = settle(scores, None, by_time=by_time)
        return settled._replace(left_out={_ENSEMBLE: combined})
    popular = next(entry for entry in entries if entry.name == registry.POPULAR)
    return settle(scores, score_of(combined, popular), by_time=by_time)


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
