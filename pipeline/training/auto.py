"""`choose(parts, base, candidates, search) → Choice`: which model ranks best on a validation part, with its options.

Successive halving (Jamieson & Talwalkar 2016) over models and their options together:

1. Every candidate is tried at its defaults on all users, the fastest first: one that ends early has tried these.
2. Each is tried at the other first points of its space. They share the time alike, by the estimates. Where that would
   take too long, it is done on a sample of the users. Then the models of which the sample promises most are tried on
   all users, at the points that were better than the defaults there.
3. The better half of the candidates gets more trials by the sampler, then the better half of these, until one is left.
4. An ensemble of the best few is tried. It has the last quarter of the time, or as much as the fits so far say that it
   needs. `pipeline.training.settle` says what it has to show.

The search is deterministic for a seed as long as the time budget does not end it: which fits are made depends on the
data, the candidates and the estimates of their time, and never on how long a fit took.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.data.id_map import distinct
from pipeline.errors import InputError
from pipeline.models import registry
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.progress import Progress, silent
from pipeline.training.candidate_search import CandidateSearch, ranked, score_of
from pipeline.training.candidates import Candidate, Candidates
from pipeline.training.choice import CandidateScore, Choice
from pipeline.training.chooser import ALWAYS, Chooser, TimeIsUp, take_over
from pipeline.training.search import Parts
from pipeline.training.settle import Settled, settle
from pipeline.training.study import Trial

__all__ = ["choose", "share_of"]

Ended = Literal["trials", "timeout", "interrupted"]

_FINALISTS = 3  # models of a sample of users that are tried further on all users, and points of each at first
_FEWEST_USERS = 500  # validation users that a sample has at least
_SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
_FIRST_STEPS = 1 / 2  # of the budget, for the first points, and for those on a sample
_ENSEMBLE = "ensemble"


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
    budget = candidates.room.seconds
    end = time.monotonic() + budget
    share = share_of(candidates, parts, 1 + len(chooser.earlier))
    # On all users a model whose options are searched on a sample begins with its defaults alone.
    able = candidates.able if share == 1 else [replace(one, first=one.first[:1]) for one in candidates.able]
    ended: Ended = "trials"
    sample: list[CandidateSearch] = []
    combined: CandidateSearch | str = "the search ended before it"
    with ExitStack() as stack:
        entries = chooser.open(stack, able, 1.0, end)
        on_start(_name(entries), tuple(chooser.trials))
        try:
            try:
                chooser.first_steps(entries, lambda one: _seconds(candidates, parts, 1.0, one)[:1])
                chooser.keep_for_ensemble(entries, end, budget)
                if share < 1:
                    sample = chooser.open(stack, candidates.able, share, end - _FIRST_STEPS * budget)
                    with suppress(TimeIsUp):
                        chooser.first_steps(sample, partial(_seconds, candidates, parts, share))
                field = _finalists(entries, sample) if sample else entries
                chooser.first_steps(field, lambda one: _seconds(candidates, parts, 1.0, one))
                chooser.halve(field)
            except TimeIsUp:
                ended = "timeout"
            combined = chooser.combine(stack, entries, candidates, end)
        except KeyboardInterrupt:
            if base.on_interrupt != "keep" or not any(entry.complete for entry in entries):
                raise
            ended = "interrupted"
        scores, failed = _scores(entries, sample, progress)
        settled = _settled(scores, combined, entries, by_time=base.split == "time")
        left_out = {**candidates.left_out, **failed, **settled.left_out}
        return _choice(chooser, _name(entries), search.metric, settled._replace(left_out=left_out), ended)


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


def share_of(candidates: Candidates, parts: Parts, stretches: int = 1) -> float:
    """The share of the users that the first points of the candidates are tried on.

    All of them, where these are fitted in half the budget, by the estimates, on so many stretches of time; else a share
    for which that holds, as far as it has enough validation users.
    """
    n_validation = int(distinct(parts.inner.test.users).size)
    seconds = candidates.room.seconds
    for share in _SHARES:
        needed = stretches * sum(sum(_seconds(candidates, parts, share, candidate)) for candidate in candidates.able)
        if needed <= _FIRST_STEPS * seconds or n_validation * share / 2 < _FEWEST_USERS:
            break
    return share


def _seconds(candidates: Candidates, parts: Parts, share: float, candidate: Candidate) -> tuple[float, ...]:
    """Estimated seconds of a fit at each of the candidate's first points, on a share of the users."""
    train = parts.inner.train
    n_cells, n_users = int(len(train) * share), max(int(len(train.user_ids) * share), 1)
    size = replace(candidates.size, n_rows=n_cells, n_cells=n_cells, n_users=n_users, n_items=len(train.item_ids))
    return candidate.seconds(size, candidates.room.cores)


def _finalists(entries: Sequence[CandidateSearch], sample: Sequence[CandidateSearch]) -> list[CandidateSearch]:
    """The candidates that go on: those of which most can be expected, and those that always do.

    On all users a point is expected to add to the value of the defaults what it added on the sample. The points that
    added something are what a candidate is tried at first.
    """
    of_sample = {entry.name: entry for entry in sample}
    expected: dict[str, float] = {}
    for entry in entries:
        tried = of_sample[entry.name]
        if not entry.complete or tried.default is None:
            expected[entry.name] = entry.value
            continue
        gains = [(trial, (trial.value or 0.0) - (tried.default.value or 0.0)) for trial in tried.complete[:_FINALISTS]]
        points = [tried.point(trial) for trial, gain in gains if gain > 0]
        entry.study.give(points)
        entry.candidate = replace(entry.candidate, first=(*entry.candidate.first, *points))
        expected[entry.name] = entry.value + max(gain for _, gain in gains)
        take_over(entry, sample)
    best = sorted(expected, key=lambda name: -expected[name])[:_FINALISTS]
    return [entry for entry in entries if entry.complete and (entry.name in best or entry.name in ALWAYS)]


def _settled(
    scores: Sequence[CandidateScore],
    combined: CandidateSearch | str,
    entries: Sequence[CandidateSearch],
    *,
    by_time: bool,
) -> Settled:
    """The scores in the order that decides; with that of an ensemble, or why there is none."""
    popular = next(entry for entry in entries if entry.name == registry.POPULAR)
    known = {score.algorithm.name: score for score in scores}
    plain = [
        known[entry.name] if entry.default == entry.complete[0] else score_of(entry, popular, entry.default)
        for entry in entries
        if by_time and entry.candidate.algorithm.kind == "popularity" and entry.default
    ]
    if isinstance(combined, str):
        settled = settle(scores, None, by_time=by_time, plain=plain)
        return settled._replace(left_out={_ENSEMBLE: combined})
    return settle(scores, score_of(combined, popular), by_time=by_time, plain=plain)


def _name(entries: Sequence[CandidateSearch]) -> str:
    """The name of the search: a digest of the studies of its candidates."""
    return "rankline-" + hashlib.sha256(" ".join(sorted(e.study.name for e in entries)).encode()).hexdigest()[:16]


def _scores(
    entries: Sequence[CandidateSearch], sample: Sequence[CandidateSearch], progress: Progress
) -> tuple[tuple[CandidateScore, ...], dict[str, str]]:
    """The scores, best first; and why a candidate has none."""
    popular = next(entry for entry in entries if entry.name == registry.POPULAR)
    if not popular.complete:
        why = _reason(popular)
        raise InputError(f"No model can be chosen: most popular has no value on the validation part: {why}")
    n_before = {entry.name: len(entry.trials) for entry in sample}
    scores: list[CandidateScore] = []
    for entry in ranked(entries):
        progress("candidates", len(scores), None, entry.name)
        scores.append(score_of(entry, popular, n_before=n_before.get(entry.name, 0)))
    failed = {
        entry.name: f"its fits failed: {reason}"
        if (reason := _reason(entry))
        else "the time was up before its first fit"
        for entry in entries
        if not entry.complete
    }
    return tuple(scores), failed


def _reason(entry: CandidateSearch) -> str:
    """Why its first trial that failed did so; "" where none failed."""
    return next((trial.reason for trial in entry.trials if trial.reason), "")
