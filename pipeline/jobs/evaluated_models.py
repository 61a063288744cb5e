"""A model of an evaluation: fitted to the training side, what the fit took, and the errors of its ratings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pipeline.data.matrix import to_matrix
from pipeline.data.splits import Split
from pipeline.evaluation.rating_errors import mean_errors
from pipeline.jobs.model_settings import ModelSetting
from pipeline.models.base import Fitted
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.memory import peak_memory, reset_peak
from pipeline.runtime.progress import Reporter
from pipeline.training.train import train

__all__ = ["EvaluatedModel", "fit_setting", "rating_metrics", "rating_sentence"]


class EvaluatedModel(NamedTuple):
    """Attributes
    ----------
    fit : JSON-able: the options that were used, n_iter, converged and loss of a fit in iterations, fit_seconds, and the
        peak memory of the process while it fitted
    """

    ranker: Scorer
    fit: Mapping[str, Any]


def fit_setting(
    setting: ModelSetting, split: Split, spec: TrainOptions, reporter: Reporter, texts: ItemTexts | None = None
) -> EvaluatedModel:
    """Fit the model to the training side with its options; `texts` are for cold items."""
    algorithm, options = setting.algorithm, setting.options
    reset_peak()
    if algorithm.stepped:
        trained = train(split.train, replace(options, holdout=0.0), reporter.progress, texts)
        for message in trained.report.messages:
            if "--holdout" not in message and "over all cells" not in message:  # of what is not measured here
                reporter.say(message)
        model, fitted, seconds = trained.model, trained.fitted, trained.seconds["fit"]
    else:
        half_life = options.half_life_days if "transform" in algorithm.options else None
        matrix = to_matrix(split.train, options.transform, spec.min_data, half_life)
        start = time.perf_counter()
        fitted = algorithm.fit(matrix, options, interactions=split.train)
        model, seconds = fitted.model, time.perf_counter() - start
    return EvaluatedModel(Scorer(model, algorithm.name), _facts(setting, fitted, seconds))


def _facts(setting: ModelSetting, fitted: Fitted, seconds: float) -> dict[str, Any]:
    names = sorted(setting.algorithm.options)
    used = {name: setting.algorithm.option(setting.options, name) for name in names}
    steps: dict[str, Any] = {}
    if setting.algorithm.stepped:
        loss = float(fitted.losses[-1]) if fitted.n_iter else None
        steps = {"n_iter": fitted.n_iter, "converged": fitted.converged, "loss": loss}
    cost = {"fit_seconds": round(seconds, 4), "peak_memory_mb": round(peak_memory() / 2**20, 1)}
    return {"options": {**used, **fitted.facts}, **steps, **cost}


def rating_metrics(setting: ModelSetting, ranker: Scorer, split: Split, clipped: bool) -> dict[str, float]:
    """``rmse`` and ``mae`` of the ratings; {} for a model that only orders items, and where nothing is rated."""
    if not (setting.algorithm.reconstructs and _is_rated(split)) or setting.options.half_life_days is not None:
        return {}
    return mean_errors(ranker, split, setting.options.transform, clipped=clipped)


def rating_sentence(settings: tuple[ModelSetting, ...], split: Split, clipped: bool) -> str:
    """What rmse and mae are of; "" where no model estimates ratings, or all training scores are the same."""
    if not _is_rated(split) or not any(setting.algorithm.reconstructs for setting in settings):
        return ""
    low, high = split.train.scores.min(), split.train.scores.max()
    if clipped:
        return f"rmse and mae: ratings are cut to the range of those of training, {low:g} to {high:g} (--clip no)"
    return "rmse and mae: ratings are as the models estimate them (--clip yes cuts them to the range of training)"


def _is_rated(split: Split) -> bool:
    """Whether the training scores differ; events that all count the same are no ratings."""
    scores = split.train.scores
    return bool(scores.size) and bool(scores.min() < scores.max())
