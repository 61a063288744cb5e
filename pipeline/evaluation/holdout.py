"""`evaluate_holdout(scorer, matrix, split) → HoldoutEvaluation`: a model and its baselines on the held-out part.

Each of them goes through `evaluate`, which refuses a ranker that was trained on more than the training side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mapped import release_all
from pipeline.data.matrix import UserItems, cell_values
from pipeline.data.splits import Split
from pipeline.evaluation.cold_items import HELD_OUT_POPULAR, RANDOM, references
from pipeline.evaluation.evaluate import Evaluation, FoldIn, evaluate, evaluate_ratings, history_over
from pipeline.evaluation.metric_names import current_names, holdout_name
from pipeline.evaluation.rating_errors import AVERAGES, ERRORS, evaluate_averages
from pipeline.evaluation.results import Report
from pipeline.evaluation.significance import RESAMPLES, Interval, Lift, Verdict, bootstrap_mean, lift_over_popular
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.saved_model import with_meta
from pipeline.options import Transform
from pipeline.ranking.protocols import Ranker
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.memory import give_back
from pipeline.runtime.progress import Progress

__all__ = [
    "ACCURACY",
    "BASELINE_SECONDS",
    "HoldoutEvaluation",
    "MeasuredChampion",
    "accuracy_of",
    "baselines",
    "evaluate_holdout",
    "folding",
    "lift_metrics",
]

# The most that a baseline may take on one core, as `Algorithm.seconds_as_baseline` estimates it.
BASELINE_SECONDS = 10.0
# Users drawn for one interval, over all its resamples. For more than 200,000 users fewer resamples are drawn, at
# least 200: with so many users the interval is narrow.
_DRAWS = 400_000_000

ACCURACY = ("ndcg", "recall", "hit_rate", "map", "mrr", "precision")
# The metrics of a baseline that are logged; summary.json has all.
_LOGGED = (*ACCURACY, "coverage", "novelty", "popularity_lift")


class MeasuredChampion(NamedTuple):
    """The champion's options, fitted anew and measured on the held-out side of another training.

    Attributes
    ----------
    run_id : the champion's run
    options : JSON-able, by field of `TrainOptions`
    per_user : of a fit to the whole training side: accuracy metric → (n,) float64, the users in the order of the
        model's own evaluation; {} where the model has the same options
    before : of a fit to what the champion knew of the training side, NaN for users whom it did not know; {} where it
        knew all of it, or was not measured
    """

    run_id: str
    options: Mapping[str, Any]
    per_user: Mapping[str, NDArray[np.float64]]
    before: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class HoldoutEvaluation:
    """Attributes
    ----------
    split : the training side and the held-out side
    evaluations : by `Algorithm.key`, of the model (with its lists) and of the baselines, at k = 10, over the same
        users in the same order. Baselines that need times are there only if the data has times; one that takes too
        long is not. Their `per_user` has only the accuracy metrics
    intervals : mean NDCG@10 of each of these with its interval; empty where no user is evaluated
    lift : of NDCG@10 over most popular; None where no user is evaluated, and of a split by whole items, which most
        popular can't rank
    ratings : RMSE and MAE of held-out scores by their logged names: of the model (also by segment and popularity
        band) and of the averages
    averages : RMSE and MAE of the averages by segment and band; they are not logged
    messages : sentences about what was left out, and warnings
    model : the model's key in `evaluations`; the model may be one of the baselines
    champion : the champion's options, measured on the same side; None where they were not
    """

    split: Split
    evaluations: Mapping[str, Evaluation]
    intervals: Mapping[str, Interval]
    lift: Lift | None
    ratings: Report
    averages: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[str, ...] = field(default=())
    model: str = registry.DEFAULT.key
    champion: MeasuredChampion | None = None

    @property
    def own(self) -> Evaluation:
        """The model's evaluation."""
        return self.evaluations[self.model]

    @property
    def baselines(self) -> Mapping[str, Evaluation]:
        """The baselines' evaluations; the model's is one of them where the model is a baseline."""
        keys = {baseline.key for baseline in registry.baselines()}
        return {key: evaluation for key, evaluation in self.evaluations.items() if key in keys}

    @property
    def references(self) -> Mapping[str, Evaluation]:
        """What a split by whole items is compared with besides the baselines; see `evaluation.cold_items`."""
        return {key: self.evaluations[key] for key in (RANDOM, HELD_OUT_POPULAR) if key in self.evaluations}

    @property
    def better_than_popular(self) -> Verdict | None:
        """By the interval of the lift; None where no user is evaluated."""
        return None if self.lift is None else self.lift.better_than_popular

    @property
    def split_in_words(self) -> str:
        """``latest share=0.2``; the seed is among the run's parameters."""
        params = [f"{name}={value}" for name, value in self.split.params.items() if name != "seed"]
        return " ".join([self.split.name, *params])

    @property
    def report(self) -> Report:
        """Every metric by its logged name, and the messages."""
        metrics = dict(self.own.report(by_segment=[f"{key}_at_10" for key in _LOGGED]).metrics)
        for name, evaluation in {**self.baselines, **self.references}.items():
            logged = {f"{key}_at_10" for key in _LOGGED} & evaluation.metrics.keys()
            metrics |= {holdout_name(key, baseline=name): evaluation.metrics[key] for key in sorted(logged)}
        if self.model in self.intervals:
            _, low, high = self.intervals[self.model]
            metrics |= {"interval/ndcg_at_10_low": low, "interval/ndcg_at_10_high": high}
        metrics |= {**self.ratings.metrics, **lift_metrics(self.lift)}
        return Report(current_names(metrics), self.messages)


def evaluate_holdout(
    scorer: Scorer,
    matrix: UserItems,
    split: Split,
    *,
    algorithm: Algorithm = registry.DEFAULT,
    transform: Transform = "none",
    half_life_days: float | None = None,
    progress: Progress | None = None,
) -> HoldoutEvaluation:
    """Evaluate the model of `scorer`, and the baselines fitted on the same training side.

    Parameters
    ----------
    scorer : of a model that was fitted on `matrix`; for a split by users, with the `meta` that folding in needs
    matrix : of `split.train`, in order
    algorithm : that fitted the model
    transform, half_life_days : how `matrix` was made from the scores

    Raises
    ------
    LeakageError
        Where the model was trained on more than the training side.
    """
    evaluations: dict[str, Evaluation] = {}
    fold_in = folding(scorer, split, transform, half_life_days)
    too_long: list[str] = []
    others = baselines(matrix, split, besides=algorithm, too_long=too_long.append)
    for candidate, ranker, fold in chain([(algorithm, scorer, fold_in)], others):
        if progress is not None:
            progress("holdout evaluation", 0, None, candidate.name)
        evaluation = evaluate(ranker, split, fold_in=fold, keep_lists=candidate is algorithm)
        if candidate is not algorithm:
            evaluation = replace(evaluation, per_user=accuracy_of(evaluation))
        evaluations[candidate.key] = evaluation
        release_all()  # what ranking has read of a matrix on disk
        give_back()
    if split.ranked is not None:
        evaluations |= {name: evaluate(ranker, split) for name, ranker in references(matrix, split)}
    ratings, averages = _ratings(algorithm, scorer, split, transform, half_life_days)
    own = evaluations[algorithm.key]
    messages = (*ratings.messages, *own.messages, *too_long)
    if not len(own):
        return HoldoutEvaluation(split, evaluations, {}, None, ratings, averages, messages, algorithm.key)
    ndcg = {name: evaluation.per_user["ndcg_at_10"] for name, evaluation in evaluations.items()}
    resamples = int(np.clip(_DRAWS // len(own), 200, RESAMPLES))
    intervals = {name: bootstrap_mean(values, resamples=resamples) for name, values in ndcg.items()}
    if split.ranked is not None:
        messages += (_said_of_ranked(split, evaluations, own),)
        return HoldoutEvaluation(split, evaluations, intervals, None, ratings, averages, messages, algorithm.key)
    lift = lift_over_popular(ndcg[algorithm.key], ndcg[registry.POPULAR], resamples=resamples)
    messages += _warning(lift)
    return HoldoutEvaluation(split, evaluations, intervals, lift, ratings, averages, messages, algorithm.key)


def accuracy_of(evaluation: Evaluation) -> dict[str, NDArray[np.float64]]:
    """The accuracy metrics of each user, by name: ``ndcg_at_10``, …"""
    return {f"{key}_at_10": evaluation.per_user[f"{key}_at_10"] for key in ACCURACY}


def baselines(
    matrix: UserItems,
    split: Split,
    *,
    besides: Algorithm | None = None,
    too_long: Callable[[str], None] = lambda sentence: None,
) -> Iterator[tuple[Algorithm, Ranker, FoldIn]]:
    """The registry's baselines, each with a ranker and how it folds users in.

    They are fitted one after another, so that only one is in memory. One that needs times is left out where the data
    has none, and so is one that takes too long.

    Parameters
    ----------
    matrix : of `split.train`, in order
    besides : the model that is evaluated; it is not fitted again as a baseline
    too_long : called with a sentence for each baseline that is left out because it takes too long
    """
    n_evaluated = int(np.count_nonzero(np.bincount(split.test.users)))
    for baseline in registry.baselines():
        if baseline is besides or (baseline.needs.times and split.train.at is None):
            continue
        if (seconds := baseline.seconds_as_baseline(matrix, n_evaluated)) > BASELINE_SECONDS:
            too_long(
                f"{baseline.display_name} is left out of the baselines: it might take {seconds:,.0f} s on one core, "
                f"and a run gives it {BASELINE_SECONDS:.0f} s (rankline evaluate --model {baseline.name} waits for it)"
            )
            continue
        fitted = baseline.fit(matrix, baseline.default_options(), interactions=split.train)
        scorer = Scorer(fitted.model, baseline.name)
        yield baseline, scorer, scorer.for_users


def folding(scorer: Scorer, split: Split, transform: Transform, half_life_days: float | None) -> FoldIn:
    """The function that folds the split's held-out users into the model; it needs the model's `meta`."""

    def fold(history: UserItems) -> Ranker:
        model = scorer.model
        if half_life_days is None or split.fold_in is None or split.train.at is None:
            return scorer.for_users(history)
        # The cells that the fit would have: transformed and then faded. The meta says that they are transformed.
        x = split.fold_in.compact()
        x = replace(x, scores=cell_values(x, transform, half_life_days, split.train.at.max()))
        bare = with_meta(model, {**model.meta, "parameters": {"transform": "none"}})
        return Scorer(bare, scorer.source).for_users(history_over(x, scorer.items))

    return fold


def _ratings(
    algorithm: Algorithm, scorer: Scorer, split: Split, transform: Transform, half_life_days: float | None
) -> tuple[Report, dict[str, float]]:
    """Errors of held-out scores, of the model and of the averages over the same cells: logged ones, and the rest."""
    if not algorithm.reconstructs:
        sentence = f"holdout/rmse and holdout/mae left out: scores of {algorithm.display_name} only order items"
        return Report(messages=(sentence,)), {}
    if half_life_days is not None:
        sentence = "holdout/rmse and holdout/mae left out: the matrix holds faded scores (--half-life-days)"
        return Report(messages=(sentence,)), {}
    ratings = evaluate_ratings(scorer, split, transform)
    if not ratings.metrics:
        return ratings, {}
    averages = evaluate_averages(split).metrics
    if not averages:  # held-out items have none
        return ratings, {}
    names = [holdout_name(error, baseline=average) for average in AVERAGES for error in ERRORS]
    logged = {name: averages[name] for name in names}
    detail = {name: value for name, value in averages.items() if name not in logged}
    return Report({**ratings.metrics, **logged}, ratings.messages), detail


def lift_metrics(lift: Lift | None) -> dict[str, float]:
    """The lift and the ends of its interval by their logged names, where they are finite."""
    if lift is None or lift.lift is None:
        return {}
    names = ("lift_over_popular", "interval/lift_over_popular_low", "interval/lift_over_popular_high")
    return {name: value for name, value in zip(names, lift.lift, strict=True) if math.isfinite(value)}


def _said_of_ranked(split: Split, evaluations: Mapping[str, Evaluation], own: Evaluation) -> str:
    n = 0 if split.ranked is None else len(split.ranked)
    value = {name: evaluation.metrics["ndcg_at_10"] for name, evaluation in evaluations.items()}
    return (
        f"lists are of the {n:,} held-out items alone, which baselines don't know: NDCG@10 "
        f"{own.metrics['ndcg_at_10']:.4f}; in random order {value[RANDOM]:.4f}; by their popularity in the held-out "
        f"part, which nobody knows before, {value[HELD_OUT_POPULAR]:.4f}"
    )


def _warning(lift: Lift) -> tuple[str, ...]:
    """A warning where the model is not better than most popular."""
    if lift.better_than_popular != "no":
        return ()
    popular, model = lift.comparison.mean_a, lift.comparison.mean_b
    how = "worse than" if model < popular else "no better than"
    return (f"this model ranks {how} most popular on the held-out part: NDCG@10 {model:.4f} and {popular:.4f}",)
