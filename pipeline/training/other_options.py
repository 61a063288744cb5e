"""The options of another training, such as the champion's: read back, compared with these, measured on this holdout.

A training is decided by its data, its options and its seed. So two models of the same options are one model on the same
data, and a model of other options is measured on a holdout by one more fit to its training side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.splits import Split, holds, pair_keys
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.holdout import HoldoutEvaluation, MeasuredChampion, accuracy_of, folding
from pipeline.models import registry
from pipeline.models.cold_items import complete, features_for
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Progress, silent
from pipeline.training.train import Trained, checked_algorithm, fit_matrix

__all__ = ["measure_champion", "same_model", "stored_options"]

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


def measure_champion(
    trained: Trained,
    run_id: str,
    options: TrainOptions,
    knew: UserItems,
    texts: ItemTexts | None = None,
    progress: Progress = silent,
) -> HoldoutEvaluation:
    """The training's evaluation, with the metrics of the champion on the same sides, paired by user.

    Its options are fitted to the same training side where they make another model: what is worse then is the options.
    And they are fitted to what it knew of that side: what is worse without them is the newer data. All interactions
    are those that the filters of `trained` left. How the fits run (threads, memory) is as in `trained`.

    Parameters
    ----------
    run_id, options : of the champion
    knew : the interactions that the champion has as seen, (n_users, n_items)

    Raises InputError, UsageError where the options can't be fitted to it, or nothing was held out.
    """
    evaluation = trained.evaluation
    if evaluation is None or evaluation.split.ranked is not None:
        raise InputError("no interactions of known items are held out")
    options = replace(options, **{name: getattr(trained.spec, name) for name in _IDLE})
    train, users = evaluation.split.train, evaluation.own.user_ids
    other = not same_model(options, trained.spec)
    whole = _measured(trained, evaluation.split, options, texts, progress, users) if other else {}
    pairs = pair_keys(train, knew.users, knew.items)
    rows = np.repeat(np.arange(len(knew.users), dtype=np.int64), np.diff(knew.scores.indptr))
    known = (pairs >= 0) & holds(np.sort(rows * len(knew.items) + knew.scores.indices), pairs)
    before: Mapping[str, NDArray[np.float64]] = {}
    if known.any() and not known.all():
        split = replace(evaluation.split, train=train.take(known))
        before = _measured(trained, split, options, texts, progress, users)
    return replace(evaluation, champion=MeasuredChampion(run_id, asdict(options), whole, before))


def _measured(
    trained: Trained,
    split: Split,
    options: TrainOptions,
    texts: ItemTexts | None,
    progress: Progress,
    users: NDArray[Any],
) -> dict[str, NDArray[np.float64]]:
    """Accuracy of a fit to the split's training side, of these users; NaN for one whom it does not know."""
    algorithm = checked_algorithm(options).told(texts)
    features = features_for(texts, trained.matrix.items, options)
    split = replace(split, catalogue=None if features is None else features.ids)
    sized = algorithm.resolved(options, trained.matrix.scores.shape)
    matrix = to_matrix(split.train, sized.transform, half_life_days=sized.half_life_days)
    if sentence := algorithm.unfit(sized, matrix.scores.shape, "the training side of the holdout"):
        raise InputError(sentence)
    fitted = complete(fit_matrix(algorithm, matrix, split.train, sized, progress, "champion fit"), features, sized)
    scorer = Scorer(fitted.model, algorithm.name)
    measured = evaluate(scorer, split, fold_in=folding(scorer, split, sized.transform, sized.half_life_days))
    _, theirs, ours = np.intersect1d(measured.user_ids, users, assume_unique=True, return_indices=True)
    of_user = accuracy_of(measured)
    values = {name: np.full(len(users), np.nan) for name in of_user}
    for name, column in values.items():
        column[ours] = of_user[name][theirs]
    return values
