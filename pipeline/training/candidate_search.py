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

    def best_points(self, n: int) -> list[dict[str, Any]]:
        """The best n points, encoded."""
        by_name = {dimension.name: dimension for dimension in self.candidate.space}
        return [
            {name: by_name[name].encode(value) for name, value in trial.options.items()} for trial in self.complete[:n]
        ]

    def keep(self, trial: Trial, measured: Measured) -> None:
        """Keep what the best trial measured, and forget the others."""
        if all(trial.value is not None and trial.value > known.mean for known in self.measured.values()):
            self.measured = {trial.number: measured}

    def best_measured(self) -> Measured:
        """What the best trial measured; a trial of an earlier run is fitted again."""
        best = self.complete[0]
        if best.number not in self.measured:
            spec = replace(self.spec(best), on_interrupt="stop")
            self.measured = {best.number: measure(self.task, spec)[0]}
        return self.measured[best.number]


def ranked(entries: Sequence[CandidateSearch]) -> list[CandidateSearch]:
    """The entries with a value, the best first; equal ones in the order of the registry."""
    order = {name: place for place, name in enumerate(registry.names())}
    return sorted((e for e in entries if e.complete), key=lambda entry: (-entry.value, order[entry.name]))


def score_of(entry: CandidateSearch, popular: CandidateSearch) -> CandidateScore:
    """The score of the candidate's best trial, beside that of most popular on the same users."""
    best, measured = entry.complete[0], entry.best_measured()
    return CandidateScore(
        algorithm=entry.candidate.algorithm,
        options=best.options,
        spec=entry.spec(best),
        interval=bootstrap_mean(measured.values),
        lift=lift_over_popular(measured.values, popular.best_measured().values),
        values=measured.values,
        fit_seconds=measured.fit_seconds,
        n_trials=len(entry.trials),
        share=entry.share,
    )
