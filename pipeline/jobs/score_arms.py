"""Scoring while an experiment runs: each user by the version of their arm, all in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.experiments.assignment import arms_of
from pipeline.experiments.definition import ARMS, Experiment
from pipeline.jobs.load_model import loaded
from pipeline.options import Names
from pipeline.publishing.batch_scoring import BatchSummary
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.tracking import experiments
from pipeline.tracking.registry import ModelVersion

__all__ = ["LeftOut", "Part", "parts_to_score"]

Mask = Callable[[NDArray[Any]], NDArray[np.bool_]]


class Part(NamedTuple):
    """Users whom one version ranks: of the arms (positions in `ARMS`) of an experiment; all, where there is none."""

    scorer: Scorer
    version: ModelVersion
    experiment: Experiment | None = None
    arms: tuple[int, ...] = ()

    def of_arms(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the ids are users of these arms, (n,)."""
        if self.experiment is None:
            return np.ones(ids.size, np.bool_)
        return np.isin(arms_of(self.experiment.salt, ids, self.experiment.split), self.arms)


class LeftOut:
    """Which of some ids (n,) get no list from a part: users who were forgotten, and those of other arms."""

    def __init__(self, part: Part, forgotten: Mask) -> None:
        self._part, self._forgotten = part, forgotten
        self._n_others = 0

    def __call__(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,)"""
        gone = self._forgotten(ids)
        if self._part.experiment is None:
            return gone
        others = ~self._part.of_arms(ids)
        self._n_others += int(np.count_nonzero(others))
        return gone | others

    def counted(self, summary: BatchSummary) -> BatchSummary:
        """The counts without users of other arms, who would count as forgotten."""
        if self._part.experiment is None:
            return summary
        n_users = int(np.count_nonzero(self._part.of_arms(self._part.scorer.users.values)))
        return replace(summary, n_users=n_users, n_forgotten=summary.n_forgotten - self._n_others)


@contextmanager
def parts_to_score(model: str | None, reporter: Reporter, names: Names) -> Iterator[Sequence[Part]]:
    """The versions to score: the one that `model` names; else those of the experiment that runs; else the champion.

    An A/A test has one version for both arms.
    """
    experiment = experiments.running(names.model) if model is None else None
    with ExitStack() as stack:
        if experiment is None:
            yield [Part(*stack.enter_context(loaded(model, reporter, names.model, mapped=True)))]
            return
        parts = []
        for number in dict.fromkeys(experiment.versions):
            arms = tuple(arm for arm, version in enumerate(experiment.versions) if version == number)
            scorer, version = stack.enter_context(loaded(f"{names.model}/{number}", reporter, names.model, mapped=True))
            parts.append(Part(scorer, version, experiment, arms))
        which = ", ".join(f"{' and '.join(ARMS[arm] for arm in part.arms)} {part.version.label}" for part in parts)
        reporter.say(f"users are ranked by the experiment {experiment.name}: {which}")
        yield parts
