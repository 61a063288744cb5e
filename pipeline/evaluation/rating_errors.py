"""RMSE and MAE of predicted scores against held-out scores, in the units of the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, ends_of, parts, release, taken, translated
from pipeline.data.splits import Split
from pipeline.evaluation.metric_names import holdout_name
from pipeline.evaluation.metrics import BANDS, SEGMENTS, errors, observed_predictions, popularity_bands, user_segments
from pipeline.evaluation.results import Report
from pipeline.models.averages import damped_biases, global_average, item_averages, user_averages
from pipeline.models.factor_model import FactorModel
from pipeline.options import Transform
from pipeline.ranking.protocols import Ranker

__all__ = ["AVERAGES", "ERRORS", "HeldOut", "evaluate_averages", "evaluate_ratings", "mean_errors", "predict_held_out"]

ERRORS = ("rmse", "mae")
AVERAGES = ("global", "user", "item", "biases")


class HeldOut(NamedTuple):
    """The held-out interactions whose user and item the ranker knows, and training or the split's `ranked` has.

    known : (n_test,) bool, which of `split.test` they are
    predicted : (n,) float64, on the scale of the scores
    """

    known: NDArray[np.bool_]
    predicted: NDArray[np.float64]


def predict_held_out(ranker: Ranker, split: Split, transform: Transform = "none", *, clipped: bool = True) -> HeldOut:
    """The ranker's scores of held-out interactions, mapped back where its matrix held log(1 + score).

    clipped : cut them to the range of the training scores
    """
    test = split.test
    row_of = ranker.users.rows(test.user_ids.values, missing="negative")
    col_of = ranker.items.rows(test.item_ids.values, missing="negative")
    comparable = split.train.item_ids if split.ranked is None else split.ranked
    usable = (col_of >= 0) & (comparable.rows(test.item_ids.values, missing="negative") >= 0)
    known, rows, cols = _known(test, row_of, col_of, usable)
    model = ranker.model
    if isinstance(model, FactorModel):
        # Unlike published scores these are not rounded to float32: errors are sums of small differences.
        predicted = observed_predictions(rows, cols, model.user_factors, model.item_factors)
    else:
        predicted = model.predict(rows, cols).astype(np.float64)
    if transform == "log1p":
        predicted = _in_place(np.expm1, predicted)
    return HeldOut(known, _clipped(predicted, split) if clipped else predicted)


def _known(
    test: Interactions, row_of: NDArray[np.int32], col_of: NDArray[np.int32], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]]:
    """Which interactions have a user with a row and a usable item, (n_test,), and the rows and columns of these."""
    known = (row_of >= 0)[test.users] & usable[test.items]
    release(test.users, test.items)
    return known, translated(taken(test.users, known), row_of), translated(taken(test.items, known), col_of)


def evaluate_ratings(ranker: Ranker, split: Split, transform: Transform = "none", part: str = "holdout") -> Report:
    """RMSE and MAE on held-out scores whose user and item were in training, overall, by segment and by band.

    Predictions are clipped to the range of the training scores, and mapped back to their scale
    where the matrix held log(1 + score). Names: ``holdout/rmse``, ``segment/cold/rmse`` for the users with few
    training interactions, ``band/head/rmse`` for the most popular items, and so on.
    """
    left_out = f"{holdout_name('rmse', part=part)} and {holdout_name('mae', part=part)} left out: "
    if transform == "binary":
        return Report(messages=(left_out + "a binary matrix holds no scores to predict",))
    held_out = predict_held_out(ranker, split, transform)
    if not held_out.known.any():
        return Report(messages=(left_out + "no held-out interaction has its user and its item in training",))
    return Report(_errors(split, held_out.known, {"": lambda: held_out.predicted}, part))


def mean_errors(
    ranker: Ranker, split: Split, transform: Transform = "none", *, clipped: bool = True
) -> dict[str, float]:
    """``rmse`` and ``mae`` over all held-out scores whose user and item were in training; {} if there are none.

    clipped : as in `predict_held_out`
    """
    if transform == "binary":
        return {}
    held_out = predict_held_out(ranker, split, transform, clipped=clipped)
    if not held_out.known.any():
        return {}
    return dict(zip(ERRORS, errors(split.test.scores[held_out.known], held_out.predicted), strict=True))


def evaluate_averages(split: Split, part: str = "holdout") -> Report:
    """The same errors of predictions without a model: the training averages overall, by user, by item, and biases.

    The cells are those of `evaluate_ratings` for a model of the whole training side. Names:
    ``baseline/global-mean/rmse``, ``…user-mean…``, ``…item-mean…``, ``…biases…``, ``…/mae``,
    ``baseline/global-mean/segment/cold/rmse``, ``baseline/global-mean/band/head/rmse``, and so on.
    """
    train, test = split.train, split.test
    row_of = train.user_ids.rows(test.user_ids.values, missing="negative")
    col_of = train.item_ids.rows(test.item_ids.values, missing="negative")
    known, r, c = _known(test, row_of, col_of, col_of >= 0)
    if not known.any() or not len(train):
        name = holdout_name("rmse", part=part, baseline="global")
        sentence = f"{name} and its like left out: no held-out interaction is of a known user and item"
        return Report(messages=(sentence,))
    predictions: Mapping[str, Callable[[], NDArray[np.float64]]] = {
        "global": lambda: np.full(r.size, global_average(train)),
        "user": lambda: translated(r, user_averages(train)),
        "item": lambda: translated(c, item_averages(train)),
        "biases": lambda: damped_biases(train).predict(r, c),
    }
    clipped = {name: partial(_clipped_of, predict, split) for name, predict in predictions.items()}
    return Report(_errors(split, known, clipped, part))


def _clipped_of(predict: Callable[[], NDArray[np.float64]], split: Split) -> NDArray[np.float64]:
    return _clipped(predict(), split)


def _clipped(predicted: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    scores = split.train.scores
    if not scores.size:
        return predicted
    low, high = ends_of(scores)
    return _in_place(lambda some: np.clip(some, low, high), predicted)


def _in_place(
    change: Callable[[NDArray[np.float64]], NDArray[np.float64]], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    for part in parts(values.size):
        values[part] = change(values[part])
        release(values)
    return values


def _errors(
    split: Split, known: NDArray[np.bool_], predictions: Mapping[str, Callable[[], NDArray[np.float64]]], part: str
) -> dict[str, float]:
    """Errors of predictions of the known held-out scores, overall, by segment, by band.

    predictions : baseline name → what makes its values; those of one baseline at a time are in memory
    """
    actual = taken(split.test.scores, known)
    users, items = taken(_user_codes(split), known), taken(_item_codes(split), known)
    groups: list[tuple[str, str, NDArray[np.int8] | None, int]] = [("", "", None, 0)]
    groups += [(label, "", users, code) for code, label in enumerate(SEGMENTS) if (users == code).any()]
    groups += [("", f"_{label}", items, code) for code, label in enumerate(BANDS) if (items == code).any()]
    found = {}
    for name, predict in predictions.items():
        predicted = predict()
        found[name] = [
            errors(actual, predicted, None if codes is None else codes == code) for _, _, codes, code in groups
        ]
    result = {}
    for number, (segment, band, _, _) in enumerate(groups):
        for name, by_group in found.items():
            for error, value in zip(ERRORS, by_group[number], strict=True):
                result[holdout_name(error + band, part=part, baseline=name, segment=segment)] = value
    return result


def _user_codes(split: Split) -> NDArray[np.int8]:
    """Segment of each test interaction's user, among the test users who are in training; -1 for the others."""
    train, test = split.train, split.test
    rows = train.user_ids.rows(test.user_ids.values, missing="negative")
    evaluated = (counts_of(test.users, rows.size) > 0) & (rows >= 0)
    count = counts_of(train.users, len(train.user_ids))
    codes = np.full(rows.size, -1, np.int8)
    codes[evaluated] = user_segments(count[rows[evaluated]])[0]
    return translated(test.users, codes)


def _item_codes(split: Split) -> NDArray[np.int8]:
    """Popularity band of each test interaction's item; -1 for an item that is not in training."""
    train, test = split.train, split.test
    cols = train.item_ids.rows(test.item_ids.values, missing="negative")
    bands = popularity_bands(counts_of(train.items, len(train.item_ids)))
    return translated(test.items, np.append(bands, np.int8(-1))[cols])
