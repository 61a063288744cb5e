"""`CandidateSearch`: the search of one candidate of a choice, and its best trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.evaluation.significance import bootstrap_mean, lift_over_popular
from pipeline.models import registry
from pipeline.options import TrainOptions
from pipeline.training.candidates import Candidate
from pipeline.training.choice import CandidateScore
from pipeline.training.search import Measured, Task, measure
from pipeline.training.study import Study, Trial

__all__ = ["CandidateSearch", "ranked", "score_of"]


class CandidateSearch:
    """A candidate, its study, and its best trial so far. Trials beyond `quota`, of a longer search, do not count."""

    def __init__(self, candidate: Candidate, study: Study, task: Task, share: float) -> None:
        self.candidate, self.study, self.task, self.share = candidate, study, task, share
        self.quota = 0
        self.measured: dict[int, Measured] = {}

    @property
    def name(self) -> str:
        """Of the model."""
        return self.candidate.algorithm.name

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Its trials so far."""
        return self.study.trials()[: self.quota]

    @property
    def complete(self) -> list[Trial]:
        """The complete trials, the best first, the first of equal ones before the others."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))

    @property
    def value(self) -> float:
        """Of the best trial; below every metric where no trial is complete."""
        return (self.complete[0].value or 0.0) if self.complete else -1.0

    def spec(self, trial: Trial) -> TrainOptions:
        """The options of a trial."""
        return replace(self.candidate.options, **trial.options)

    @property
    def default(self) -> Trial | None:
        """The trial of the defaults; None where it is not complete."""
        first = self.trials[:1]
        return first[0] if first and first[0].state == "complete" else None

    def point(self, trial: Trial) -> dict[str, Any]:
        """The options of a trial, encoded."""
        by_name = {dimension.name: dimension for dimension in self.candidate.space}
        return {name: by_name[name].encode(value) for name, value in trial.options.items()}

    def keep(self, trial: Trial, measured: Measured) -> None:
        """Keep what the best trial measured, and forget the others."""
        if all(trial.value is not None and trial.value > known.mean for known in self.measured.values()):
            self.measured = {trial.number: measured}

    def measured_at(self, trial: Trial) -> Measured:
        """What a trial measured; one that is not kept, or of an earlier run, is fitted again."""
        if trial.number not in self.measured:
            spec = replace(self.spec(trial), on_interrupt="stop")
            self.measured[trial.number] = measure(self.task, spec)[0]
        return self.measured[trial.number]

    def best_measured(self) -> Measured:
        """What the best trial measured."""
        return self.measured_at(self.complete[0])


def ranked(entries: Sequence[CandidateSearch]) -> list[CandidateSearch]:
    """The entries with a value, the best first; equal ones in the order of the registry."""
    order = {name: place for place, name in enumerate(registry.names())}
    return sorted((e for e in entries if e.complete), key=lambda entry: (-entry.value, order[entry.name]))


def score_of(
    entry: CandidateSearch, popular: CandidateSearch, trial: Trial | None = None, n_before: int = 0
) -> CandidateScore:
    """The score of the candidate's best trial, or of this one, beside that of most popular on the same users.

    n_before : its trials on a sample of the users
    """
    best = entry.complete[0] if trial is None else trial
    measured = entry.measured_at(best)
    return CandidateScore(
        algorithm=entry.candidate.algorithm,
        options=best.options,
        spec=entry.candidate.algorithm.settled(entry.spec(best), measured.facts),
        interval=bootstrap_mean(measured.values),
        lift=lift_over_popular(measured.values, popular.best_measured().values),
        values=measured.values,
        fit_seconds=measured.fit_seconds,
        n_trials=len(entry.trials) + n_before,
        sizes=measured.sizes,
    )
