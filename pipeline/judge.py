"""`judge(scorer, matrix, split) → Judgement`: a model beside its baselines, on what was held out.

All go through `evaluate`, which refuses whoever knows more than the training side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import FactorModel
from pipeline.evaluate import Evaluation, FoldIn, evaluate, evaluate_ratings, history_over
from pipeline.matrix import UserItems, cell_values, in_order
from pipeline.models.item_knn import ItemKNN, ItemKNNRanker, fit_item_knn
from pipeline.models.popular import popular_model, recent_model
from pipeline.ranker import Ranker
from pipeline.ratings import AVERAGES, evaluate_averages
from pipeline.report import Progress, Report
from pipeline.scorer import Scorer
from pipeline.significance import RESAMPLES, Interval, Lift, Verdict, bootstrap_mean, lift_over_popular
from pipeline.spec import Transform
from pipeline.splits import Split

__all__ = ["ACCURACY", "ITEM_KNN_WORK", "Judgement", "baselines", "folding", "item_knn_work", "judge", "lift_metrics"]

# Steps that item-kNN may take, see `item_knn_work`: some ten seconds on one core. Measured, fit and lists: 4.3e8 in
# 2 s (6,000 users of 100 items on average), 3.6e8 in 5 s (3,000 of 400), 1.1e9 in 7 s (50,000 users, 20,000 items).
ITEM_KNN_WORK = 1_000_000_000
_STEPS_A_SECOND = 100_000_000
_STEPS_AN_ITEM = 4000  # what choosing an item's neighbours costs beside finding them
# Users drawn for one interval, all its resamples together: of more than 200,000 users fewer resamples are
# drawn, at least 200; with so many users the interval is narrow anyway.
_DRAWS = 400_000_000

ACCURACY = ("ndcg", "recall", "hit_rate", "map", "mrr", "precision")
# Of a baseline these are logged; summary.json has the rest.
_LOGGED = (*ACCURACY, "coverage", "novelty", "popularity_lift")
_ERRORS = ("rmse", "mae")


@dataclass(frozen=True, eq=False)
class Judgement:
    """Attributes
    ----------
    split : what was learned from, and what was judged by
    evaluations : of ``nmf`` (with its lists), ``popular``, ``recent`` (where there are times) and ``item_knn``
        (where it is not too much work), at k = 10, all of the same users in the same order; of the baselines
        `per_user` has the accuracy metrics alone
    intervals : of each of these, the mean of NDCG@10; none where nobody is judged
    lift : NDCG@10 over most popular; None where nobody is judged
    ratings : RMSE and MAE of held-out scores by their logged names: of the model, by segment and popularity band
        too, and of the averages beside it
    averages : those of the averages by segment and band, not logged
    messages : what was left out, and what a person should know
    """

    split: Split
    evaluations: Mapping[str, Evaluation]
    intervals: Mapping[str, Interval]
    lift: Lift | None
    ratings: Report
    averages: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[str, ...] = field(default=())

    @property
    def better_than_popular(self) -> Verdict | None:
        """None where nobody is judged."""
        return None if self.lift is None else self.lift.better_than_popular

    @property
    def split_in_words(self) -> str:
        """``latest share=0.2``; the seed is among the run's parameters."""
        params = [f"{name}={value}" for name, value in self.split.params.items() if name != "seed"]
        return " ".join([self.split.name, *params])

    @property
    def report(self) -> Report:
        """Every metric by its logged name, and the messages."""
        found: dict[str, float] = {}
        for name, evaluation in self.evaluations.items():
            if name == "nmf":
                found |= evaluation.report(by_segment=[f"{key}_at_10" for key in _LOGGED]).metrics
            else:
                logged = {f"{key}_at_10" for key in _LOGGED} & evaluation.metrics.keys()
                found |= {f"holdout_{name}_{key}": evaluation.metrics[key] for key in sorted(logged)}
        if "nmf" in self.intervals:
            _, low, high = self.intervals["nmf"]
            found |= {"holdout_ndcg_at_10_low": low, "holdout_ndcg_at_10_high": high}
        found |= {**self.ratings.metrics, **lift_metrics(self.lift)}
        return Report(found, self.messages)


def judge(
    scorer: Scorer,
    matrix: UserItems,
    split: Split,
    *,
    transform: Transform = "none",
    half_life_days: float | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """The model that `scorer` ranks by, beside the baselines of the same training side.

    Parameters
    ----------
    scorer : of a model that was fitted on `matrix`; for a split by users, with the `meta` that folding in needs
    matrix : of `split.train`, in order
    transform, half_life_days : how `matrix` was made of the scores

    Raises
    ------
    LeakageError
        Where the model knows more than the training side.
    """
    evaluations: dict[str, Evaluation] = {}
    mine = ("nmf", scorer, folding(scorer, split, transform, half_life_days))
    for name, ranker, fold_in in chain([mine], baselines(matrix, split)):
        if progress is not None:
            progress("holdout evaluation", 0, None, name.replace("_", "-"))
        found = evaluate(ranker, split, fold_in=fold_in, keep_lists=name == "nmf")
        if name != "nmf":
            found = replace(found, per_user={f"{key}_at_10": found.per_user[f"{key}_at_10"] for key in ACCURACY})
        evaluations[name] = found
    ratings, averages = _ratings(scorer, split, transform, half_life_days)
    messages = (*ratings.messages, *evaluations["nmf"].messages)
    if (work := item_knn_work(matrix, split)) > ITEM_KNN_WORK:
        messages += (
            f"item-kNN is left out of the baselines: it might take {work / _STEPS_A_SECOND:,.0f} s on one core, and a "
            f"run gives it {ITEM_KNN_WORK / _STEPS_A_SECOND:.0f} s (rankline evaluate --model item-knn waits for it)",
        )
    ndcg = {name: evaluation.per_user["ndcg_at_10"] for name, evaluation in evaluations.items()}
    if not len(evaluations["nmf"]):
        return Judgement(split, evaluations, {}, None, ratings, averages, messages)
    resamples = int(np.clip(_DRAWS // len(evaluations["nmf"]), 200, RESAMPLES))
    intervals = {name: bootstrap_mean(values, resamples=resamples) for name, values in ndcg.items()}
    lift = lift_over_popular(ndcg["nmf"], ndcg["popular"], resamples=resamples)
    return Judgement(split, evaluations, intervals, lift, ratings, averages, (*messages, *_warning(lift)))


def item_knn_work(matrix: UserItems, split: Split) -> int:
    """Steps of item-kNN: pairs of items in one history, Σ_u n_u², scores, n_judged·n_items, and choosing neighbours."""
    n = np.diff(matrix.scores.indptr).astype(np.int64)
    judged = int(np.count_nonzero(np.bincount(split.test.users)))
    return int((n**2).sum()) + len(matrix.items) * (judged + _STEPS_AN_ITEM)


def baselines(matrix: UserItems, split: Split) -> Iterator[tuple[str, Ranker, FoldIn]]:
    """Most popular, recently popular (where there are times) and item-kNN (where it is not too much work).

    One after another, so that no two are held at once; each with how it folds users in.

    matrix : of `split.train`, in order
    """
    popular = popular_model(matrix)
    yield "popular", Scorer(popular, "popular"), _same_for_all(popular, "popular")
    if split.train.at is not None:
        recent = recent_model(matrix, split.train)
        yield "recent", Scorer(recent, "recent"), _same_for_all(recent, "recent")
    if item_knn_work(matrix, split) <= ITEM_KNN_WORK:
        knn = fit_item_knn(matrix)
        yield "item_knn", ItemKNNRanker(knn), _by_neighbours(knn)


def folding(scorer: Scorer, split: Split, transform: Transform, half_life_days: float | None) -> FoldIn:
    """How the model folds the split's held-out users in; its `meta` has what that needs."""

    def fold(history: UserItems) -> Ranker:
        model = scorer.model
        if half_life_days is None or split.fold_in is None or split.train.at is None:
            factors = scorer.fold_in_rows(history.scores)
        else:
            # Cells as the fit would have had them: faded after the transform, which is not done twice.
            x = in_order(split.fold_in.compact())
            x = replace(x, scores=cell_values(x, transform, half_life_days, split.train.at.max()))
            bare = Scorer(replace(model, meta={**model.meta, "parameters": {"transform": "none"}}))
            factors = bare.fold_in_rows(history_over(x, scorer.items).scores)
        return Scorer(_with_users(model, factors, history), scorer.source)

    return fold


def _same_for_all(model: FactorModel, source: str) -> FoldIn:
    """Of a baseline with one list for everybody."""

    def fold(history: UserItems) -> Ranker:
        return Scorer(_with_users(model, np.ones((len(history.users), 1), np.float32), history), source)

    return fold


def _by_neighbours(knn: ItemKNN) -> FoldIn:
    return lambda history: ItemKNNRanker(knn.for_history(history))


def _with_users(model: FactorModel, factors: NDArray[np.float32], history: UserItems) -> FactorModel:
    return FactorModel(factors, model.item_factors, history.users, model.items, history.scores, model.meta)


def _ratings(
    scorer: Scorer, split: Split, transform: Transform, half_life_days: float | None
) -> tuple[Report, dict[str, float]]:
    """Errors of held-out scores, and beside them those of averages, over the same cells: logged, and in detail."""
    if half_life_days is not None:
        sentence = "holdout_rmse and holdout_mae left out: the matrix holds faded scores (--half-life-days)"
        return Report(messages=(sentence,)), {}
    found = evaluate_ratings(scorer, split, transform)
    if not found.metrics:
        return found, {}
    beside = evaluate_averages(split).metrics
    logged = {name: beside[name] for average in AVERAGES for name in (f"holdout_{average}_{e}" for e in _ERRORS)}
    detail = {name: value for name, value in beside.items() if name not in logged}
    return Report({**found.metrics, **logged}, found.messages), detail


def lift_metrics(lift: Lift | None) -> dict[str, float]:
    """The lift and its ends by their logged names, as far as they are finite."""
    if lift is None or lift.lift is None:
        return {}
    names = ("lift_over_popular", "lift_over_popular_low", "lift_over_popular_high")
    return {name: value for name, value in zip(names, lift.lift, strict=True) if math.isfinite(value)}


def _warning(lift: Lift) -> tuple[str, ...]:
    """A sentence for a model that is not worth having."""
    if lift.better_than_popular != "no":
        return ()
    popular, mine = lift.comparison.mean_a, lift.comparison.mean_b
    how = "worse than" if mine < popular else "no better than"
    return (f"this model ranks {how} most popular on the held-out part: NDCG@10 {mine:.4f} and {popular:.4f}",)
