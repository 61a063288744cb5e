"""The steps of `pipeline.training.auto.choose`: defaults, first points, halving, and an ensemble of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.splits import Split
from pipeline.models import registry
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.progress import Progress
from pipeline.training.ages import user_weights
from pipeline.training.candidate_search import CandidateSearch, ranked
from pipeline.training.candidates import LARGEST, Candidate, Candidates, ensemble_of
from pipeline.training.choice import CandidateScore
from pipeline.training.search import Measured, Parts, Task, run_trials, study_name
from pipeline.training.stretches import earlier_stretches
from pipeline.training.study import Trial, open_study

__all__ = ["ALWAYS", "Chooser", "TimeIsUp", "sampled", "take_over"]

ALWAYS = ("popular", "recent")  # candidates that go on, whatever they reached on a sample
_MEANING = frozenset({"half_life_days", "transform"})
_MORE = 8  # further trials of a candidate in each round
_MEMBERS = 4  # the best single models that an ensemble is made of; recently popular comes on top
_COMBINED, _MOST_COMBINED = 1 / 4, 1 / 2  # of the budget, for an ensemble: at least, and at most
_FITS = 3  # of each member in an ensemble: on a part, and on everything; the rest is the selection


class TimeIsUp(Exception):  # noqa: N818 - no error
    """The time budget ended: the rounds end."""


class Chooser:
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
        self.earlier = earlier_stretches(parts.inner, base)
        self.trials: list[Trial] = []
        self.n_before = 0

    def open(
        self, stack: ExitStack, candidates: Sequence[Candidate], share: float, deadline: float
    ) -> list[CandidateSearch]:
        """Open a study for each candidate, with the trials that earlier runs left."""
        inner = self.parts.inner if share == 1 else sampled(self.parts.inner, share, self.base.random_state)
        more: dict[str, Any] = {} if share == 1 else {"share": share}
        if self.earlier:
            more["earlier"] = [split.digest for split in self.earlier]
        weights = user_weights(inner, self.parts.outer)
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
            task = Task(inner, candidate.options, self.search.metric, deadline, at_least_one, weights, self.earlier)
            entries.append(CandidateSearch(candidate, study, task, share))
        earlier = sorted(
            (self._named(entry, trial) for entry in entries for trial in entry.study.trials()),
            key=lambda trial: trial.started,
        )
        for trial in earlier:
            self.trials.append(replace(trial, number=len(self.trials)))
        self.n_before += len(earlier)
        return entries

    def first_steps(self, entries: Sequence[CandidateSearch], seconds: Callable[[Candidate], Sequence[float]]) -> None:
        """Try every candidate at its defaults, and then at other first points: as many as there are `seconds`.

        Candidates share the time alike, by the estimates: the next point is that of the candidate that has used the
        least, so a search that is ended early has not spent its time on the slowest model.
        """
        order = [
            (n_trials > 1, float(used if n_trials == 1 else used - last), place, n_trials)
            for place, entry in enumerate(entries)
            for n_trials, (used, last) in enumerate(_used(seconds(entry.candidate)), start=1)
            if n_trials <= self.search.trials
        ]
        for _, _, place, n_trials in sorted(order):
            if n_trials == 2:
                take_over(entries[place], entries)
            self._until(entries[place], n_trials)

    def keep_for_ensemble(self, entries: Sequence[CandidateSearch], end: float, budget: float) -> None:
        """Let trials end early enough before `end` for an ensemble, as slow as fits were here, and none last too long.

        Estimates do not know what else the machine does; the trials so far do. Where it would need too much, the
        trials have all the time.
        """
        members = [entry for entry in ranked(entries) if entry.name != registry.POPULAR][:_MEMBERS]
        needed = _FITS * sum(entry.complete[0].seconds for entry in members)
        kept = max(needed, _COMBINED * budget) if needed <= _MOST_COMBINED * budget else 0.0
        for entry in entries:
            entry.task = replace(entry.task, deadline=end - kept, longest=LARGEST * budget)

    def halve(self, entries: Sequence[CandidateSearch]) -> None:
        """Give the better half of the candidates more trials, until one is left, and that one all trials."""
        field = ranked(entries)
        while len(field) > 1:
            field = field[: (len(field) + 1) // 2]
            for entry in field:
                self._until(entry, min(self.search.trials, entry.quota + _MORE))
            field = ranked(field) if len(field) > 1 else field
        for entry in field:
            self._until(entry, self.search.trials)

    def combine(
        self, stack: ExitStack, entries: Sequence[CandidateSearch], candidates: Candidates, deadline: float
    ) -> CandidateSearch | str:
        """Try an ensemble of the best candidates; why there is none, where there is none."""
        best = [entry for entry in ranked(entries) if entry.name != registry.POPULAR]
        members = best[:_MEMBERS] + [entry for entry in best[_MEMBERS:] if entry.name in ALWAYS]
        if len(members) < 2:
            return "it takes two models that have a value on the validation part"
        wanted = [entry.spec(entry.complete[0]) for entry in members]
        candidate = ensemble_of(wanted, self.base, candidates.size, candidates.room)
        if isinstance(candidate, str):
            return candidate
        (entry,) = self.open(stack, [candidate], 1.0, deadline)
        try:
            self._until(entry, 1)
        except TimeIsUp:
            return "the time was up before its fit"
        return entry if entry.complete else f"its fit failed: {entry.trials[0].reason}"

    def _until(self, entry: CandidateSearch, n_trials: int) -> None:
        """Run trials of a candidate until it has so many. Raises TimeIsUp."""
        entry.quota = max(entry.quota, n_trials)

        def ended(trial: Trial, measured: Measured | None) -> None:
            if measured is not None and trial.state == "complete":
                entry.keep(trial, measured)
            self.trials.append(replace(self._named(entry, trial), number=len(self.trials)))
            self.on_trial(self.trials[-1])

        def show(stage: str, done: int, total: int | None, note: str = "") -> None:
            self.progress(f"{stage} {entry.name}", done, total, note)

        if run_trials(entry.study, entry.task, entry.quota, ended, show) == "timeout":
            raise TimeIsUp

    def trial_of(self, score: CandidateScore) -> Trial:
        """The trial of a score."""
        options = {"algorithm": score.algorithm.name, **score.options}
        return next(
            trial
            for trial in self.trials
            if (trial.state, trial.share, dict(trial.options)) == ("complete", 1.0, options)
        )

    def _named(self, entry: CandidateSearch, trial: Trial) -> Trial:
        return replace(trial, options={"algorithm": entry.name, **trial.options}, share=entry.share)


def _used(seconds: Sequence[float]) -> list[tuple[float, float]]:
    """After each trial the seconds so far, and its own."""
    return list(zip(np.cumsum(seconds).tolist(), seconds, strict=True))


def take_over(entry: CandidateSearch, entries: Sequence[CandidateSearch]) -> None:
    """Let its second trial have what another model of tastes found best of the options that say what the scores mean.

    These are much the same for all models of tastes, and a slow one can't try many.
    """
    if entry.candidate.algorithm.kind == "popularity":
        return
    able = {dimension.name: dimension for dimension in entry.candidate.space if dimension.name in _MEANING}
    for other in ranked(entries):
        if other.name == entry.name or other.candidate.algorithm.kind == "popularity":
            continue
        best = other.complete[0].options
        taken = {name: dimension.encode(best[name]) for name, dimension in able.items() if name in best}
        if taken and entry.trials:
            entry.study.give([{**entry.point(entry.trials[0]), **taken}])
            return


def sampled(split: Split, share: float, seed: int) -> Split:
    """The split with the training interactions of a share of its users; the others are not evaluated."""
    rng = np.random.default_rng([seed, round(1 / share)])
    chosen = rng.random(len(split.train.user_ids)) < share
    train = split.train.take(chosen[split.train.users])
    return Split(train, split.test, split.cutoff, split.name, {**split.params, "users": share}, split.fold_in)
