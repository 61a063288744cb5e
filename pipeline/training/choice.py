"""What a choice of a model found: each candidate's best on the validation part, and the winner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.significance import Interval, Lift
from pipeline.models.base import Algorithm
from pipeline.options import TrainOptions
from pipeline.training.study import Trial

__all__ = ["CandidateScore", "Choice"]


@dataclass(frozen=True, eq=False)
class CandidateScore:
    """A candidate's best trial.

    Attributes
    ----------
    options : searched option → its value in the trial
    spec : the options to train with, and what the fit of the trial decided (`Algorithm.settled`)
    interval : mean of the metric over the validation users, with its interval
    lift : over most popular, for the same users
    values : the metric of each validation user times the user's weight, (n_users,), NaN without one; in one order for
        all candidates of a share
    fit_seconds : of the fit on the validation part's training side
    n_trials : of this candidate in all
    sizes : users in each stretch of time (`stretches`), whose values follow one another; one number where there is one
    """

    algorithm: Algorithm
    options: Mapping[str, Any]
    spec: TrainOptions
    interval: Interval
    lift: Lift
    values: NDArray[np.float64]
    fit_seconds: float
    n_trials: int
    sizes: tuple[int, ...] = ()

    @property
    def trained_options(self) -> dict[str, Any]:
        """Searched option → the value to train with."""
        return {name: getattr(self.spec, name) for name in self.options}


@dataclass(frozen=True, eq=False)
class Choice:
    """Attributes
    ----------
    study : the name of the search; it depends on data, split, options, candidates and metric
    scores : of the candidates, the winner first, then by their means
    left_out : name of a model → why it was not tried, or why it has no score
    trials : in the order in which they ended, with the model among the options
    n_before : how many of them earlier runs of the search left
    best : the winner's best trial, one of `trials`
    ended : why the search stopped
    reason : why the winner is another one than the candidate with the highest mean; "" where it is that one
    """

    study: str
    metric: str
    scores: tuple[CandidateScore, ...]
    left_out: Mapping[str, str]
    trials: tuple[Trial, ...]
    n_before: int
    best: Trial
    ended: Literal["trials", "timeout", "interrupted"]
    reason: str = ""

    @property
    def winner(self) -> CandidateScore:
        """The candidate that is trained."""
        return self.scores[0]

    @property
    def spec(self) -> TrainOptions:
        """The options to train with."""
        return self.winner.spec

    @property
    def best_options(self) -> dict[str, Any]:
        """The winner's name and its options, as they are typed."""
        return {"algorithm": self.winner.algorithm.name, **self.winner.trained_options}
