"""The options of another training, such as the champion's: read back, compared with these, measured on this holdout.

A training is decided by its data, its options and its seed. So two models of the same options are one model on the same
data, and a model of other options is measured on a holdout by one more fit to its training side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from pipeline.data.matrix import to_matrix
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.holdout import HoldoutEvaluation, OtherOptions, accuracy_of, folding
from pipeline.models import registry
from pipeline.models.cold_items import complete, features_for
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Progress, silent
from pipeline.training.train import Trained, checked_algorithm, fit_matrix

__all__ = ["measure_options", "same_model", "stored_options"]

# How a training runs, and when it is refused: these change nothing of the model.
_IDLE = ("threads", "memory_limit", "on_interrupt", "min_data", "budget_minutes")


def stored_options(stored: object) -> TrainOptions | None:
    """The options that a saved model's metadata (`parameters`) or an evaluation holds.

    None where they are none of this version's: an algorithm or a value that it does not know.
    """
    if not isinstance(stored, Mapping) or not isinstance(stored.get("algorithm"), str):
        return None
    known = {field.name for field in fields(TrainOptions)}
    try:
        options = TrainOptions(**{name: value for name, value in stored.items() if name in known})
        registry.find(options.algorithm)
    except (UsageError, TypeError):
        return None
    return options


def same_model(one: TrainOptions, other: TrainOptions) -> bool:
    """Whether trainings by these options make the same model of the same data."""
    return _what_counts(one) == _what_counts(other)


def _what_counts(options: TrainOptions) -> dict[str, Any]:
    values = {name: value for name, value in asdict(options).items() if name not in _IDLE}
    return {**values, "algorithm": "auto" if options.is_auto else registry.find(options.algorithm).name}


def measure_options(
    trained: Trained, options: TrainOptions, texts: ItemTexts | None = None, progress: Progress = silent
) -> HoldoutEvaluation:
    """The training's evaluation, with the metrics of a model of `options` on the same sides, paired by user.

    Both learn from the same training side, of the interactions that the filters of `trained` left. How the fit runs
    (threads, memory) is as in `trained`.

    Raises InputError, UsageError where the options can't be fitted to it, or nothing was held out.
    """
    evaluation = trained.evaluation
    if evaluation is None or evaluation.split.ranked is not None:
        raise InputError("no interactions of known items are held out")
    options = replace(options, **{name: getattr(trained.spec, name) for name in _IDLE})
    algorithm, split = checked_algorithm(options).told(texts), evaluation.split
    features = features_for(texts, trained.matrix.items, options)
    split = replace(split, catalogue=None if features is None else features.ids)
    sized = algorithm.resolved(options, trained.matrix.scores.shape)
    matrix = to_matrix(split.train, sized.transform, half_life_days=sized.half_life_days)
    if sentence := algorithm.unfit(sized, matrix.scores.shape, "the training side of the holdout"):
        raise InputError(sentence)
    fitted = complete(fit_matrix(algorithm, matrix, split.train, sized, progress, "champion fit"), features, sized)
    scorer = Scorer(fitted.model, algorithm.name)
    measured = evaluate(scorer, split, fold_in=folding(scorer, split, sized.transform, sized.half_life_days))
    if not np.array_equal(measured.user_ids, evaluation.own.user_ids):
        raise InputError("other users can be evaluated")
    return replace(evaluation, champion=OtherOptions(asdict(options), accuracy_of(measured)))
