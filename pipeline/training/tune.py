"""`tune(interactions, base, spec) → Tuned`: which options rank best. It uses no MLflow and no warehouse.

The search gets only the inner split of `pipeline.training.search`. The test part is used once, at the end of a search:
the winner, the defaults and the baselines are fitted on the whole training side and evaluated on it. With a split by
whole users, the test users take no part in the search, and the validation users are held out of the remaining users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.splits import Split
from pipeline.errors import TooLittleDataError, UsageError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.holdout import baselines
from pipeline.evaluation.results import Evaluation
from pipeline.evaluation.significance import Comparison, Lift, compare, lift_over_popular
from pipeline.models import registry
from pipeline.options import TrainOptions, TuneOptions
from pipeline.runtime.progress import Progress, silent
from pipeline.training.ages import user_weights
from pipeline.training.auto import choose
from pipeline.training.candidates import Candidates
from pipeline.training.choice import Choice
from pipeline.training.search import (
    Ended,
    Parts,
    Task,
    best_trial,
    check_holdout,
    fitted_on,
    mean_of,
    parts_of,
    run_trials,
    study_name,
    values_of,
)
from pipeline.training.stretches import earlier_stretches
from pipeline.training.study import Trial, open_study
from pipeline.training.train import checked_algorithm

__all__ = ["Trial", "Tuned", "tune"]


@dataclass(frozen=True, eq=False)
class Tuned:
    """Attributes
    ----------
    study : the search's name; it depends on data, split, options, space and metric
    trials : of this and of earlier runs of the search, in order
    n_before : how many trials earlier runs left
    best : the trial with the highest validation value, and the options to train with; the winner
    spec : the options to train with: the base with the best trial's options
    baselines : validation values of ``popular``, ``recent`` and ``item_knn``, the last two where `baselines` has them
    ended : why the search stopped
    test : evaluations on the test part: ``tuned``, ``default`` (where it could be fitted) and the same baselines
    lift : of the tuned model over most popular on the test part, by the metric
    gain : of the tuned model (b) over the defaults (a) on the test part; None where the defaults could not be fitted
    data_digest : as `Trained.data_digest`
    split_digest : of the outer split
    choice : of the model, where the search chose one
    """

    study: str
    metric: str
    trials: tuple[Trial, ...]
    n_before: int
    best: Trial
    spec: TrainOptions
    baselines: Mapping[str, float]
    ended: Ended
    test: Mapping[str, Evaluation]
    lift: Lift
    gain: Comparison | None
    data_digest: str
    split_digest: str
    choice: Choice | None = None


class _Searched(NamedTuple):
    """The part of `Tuned` that a search on the validation part decides."""

    study: str
    trials: tuple[Trial, ...]
    n_before: int
    best: Trial
    spec: TrainOptions
    ended: Ended


def tune(
    x: Interactions,
    base: TrainOptions,
    spec: TuneOptions,
    *,
    candidates: Candidates | None = None,
    path: Path | None = None,
    on_start: Callable[[str, tuple[Trial, ...]], None] = lambda study, trials: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Tuned:
    """Search the options that rank best on a validation part, and measure the winner on a test part.

    Parameters
    ----------
    base : the defaults, which are the first trial; options that are not searched keep their value. `base.holdout`
        is the share of both parts; with `base.on_interrupt` "keep", Ctrl-C ends the search and its best trial is used
    candidates : the models to choose among; None: that of `base` alone
    path : the file that stores the trials, see `open_study`; None: they are not stored
    on_start, on_trial : called with the study's name and the trials of earlier runs, and with each trial that ends

    Raises
    ------
    TooLittleDataError
        With fewer than `base.min_data` interactions, or none to evaluate on.
    UsageError, InputError
        For an objective that does not rank, no holdout, or an empty search space; where no trial succeeded.
    """
    if candidates is None:
        _check_tunable(base)
    check_holdout(base)
    progress("matrix", 0, None)
    parts = parts_of(x, base)
    progress("baselines", 0, None)
    earlier = () if candidates is None else earlier_stretches(parts.inner, base)
    baseline_values = _baseline_values(parts, spec.metric, earlier)
    choice: Choice | None = None
    if candidates is None:
        found = _search(parts, base, spec, path, on_start, on_trial, progress)
        defaults = base
    else:
        choice = choose(
            parts, base, candidates, spec, path=path, on_start=on_start, on_trial=on_trial, progress=progress
        )
        best = replace(choice.best, options=choice.best_options)
        found = _Searched(choice.study, choice.trials, choice.n_before, best, choice.spec, choice.ended)
        defaults = registry.DEFAULT.own_options(base)
    test = _test(parts.outer, defaults, found.spec, progress)
    values = {name: evaluation.per_user[spec.metric] for name, evaluation in test.items()}
    return Tuned(
        **found._asdict(),
        metric=spec.metric,
        baselines=baseline_values,
        test=test,
        lift=lift_over_popular(values["tuned"], values[registry.POPULAR]),
        gain=compare(values["default"], values["tuned"]) if "default" in values else None,
        data_digest=parts.data_digest,
        split_digest=parts.outer.digest,
        choice=choice,
    )


def _check_tunable(base: TrainOptions) -> None:
    """Raise UsageError where a search can't score trials with these options."""
    if sentence := checked_algorithm(base).untunable(base):
        raise UsageError(sentence)


def _search(
    parts: Parts,
    base: TrainOptions,
    spec: TuneOptions,
    path: Path | None,
    on_start: Callable[[str, tuple[Trial, ...]], None],
    on_trial: Callable[[Trial], None],
    progress: Progress,
) -> _Searched:
    """Search the options of one model."""
    algorithm, train = checked_algorithm(base), parts.inner.train
    shape = (len(train.user_ids), len(train.item_ids))
    space = algorithm.search_space(base, spec.search, shape, times=train.at is not None)
    name = study_name(algorithm, base, spec.metric, space, parts)
    first = algorithm.first_points(space, base, shape)
    with open_study(name, space, first, base.random_state, path, resume=spec.resume == "yes") as study:
        before = study.trials()
        on_start(name, before)
        task = Task.until(spec.timeout, parts, base, spec.metric)
        try:
            ended = run_trials(study, task, spec.trials, lambda trial, _: on_trial(trial), progress)
        except KeyboardInterrupt:
            if base.on_interrupt != "keep" or study.best() is None:
                raise
            ended = "interrupted"
        best = best_trial(study)
        return _Searched(name, study.trials(), len(before), best, replace(base, **best.options), ended)


def _baseline_values(parts: Parts, metric: str, earlier: tuple[Split, ...]) -> dict[str, float]:
    """Validation value of each baseline, on the stretches of time that a choice looks at."""
    weights = user_weights(parts.inner, parts.outer)
    values: dict[str, list[NDArray[np.float64]]] = {}
    for split in (parts.inner, *earlier):
        weight = 1.0 if weights is None or split is not parts.inner else weights
        for baseline, ranker, fold_in in baselines(to_matrix(split.train), split):
            values.setdefault(baseline.key, []).append(values_of(ranker, split, metric, fold_in) * weight)
    return {key: mean_of(np.concatenate(found)) for key, found in values.items()}


def _test(outer: Split, base: TrainOptions, winner: TrainOptions, progress: Progress) -> dict[str, Evaluation]:
    """Evaluate the winner, the defaults and the baselines, fitted on the whole training side, on the test part."""
    progress("test", 0, None)
    # On Ctrl-C the fit stops: a partial fit must not be shown as the search's result.
    winner, base = replace(winner, on_interrupt="stop"), replace(base, on_interrupt="stop")
    tuned = fitted_on(outer, winner)
    evaluations = {"tuned": evaluate(tuned.ranker, outer, fold_in=tuned.fold_in)}
    if not len(evaluations["tuned"]):
        raise TooLittleDataError("Too little data to tune on: no user has interactions on both sides of the split")
    try:
        default = fitted_on(outer, base)
    except Exception:  # noqa: BLE001, S110 - the first trial failed too and has the reason
        pass
    else:
        evaluations["default"] = evaluate(default.ranker, outer, fold_in=default.fold_in)
    for baseline, ranker, fold_in in baselines(to_matrix(outer.train), outer):
        evaluations[baseline.key] = evaluate(ranker, outer, fold_in=fold_in)
    return evaluations
