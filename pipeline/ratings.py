"""How near predicted scores come to the held-out ones: RMSE and MAE, in the scores' own units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import FactorModel
from pipeline.metrics import BANDS, SEGMENTS, errors, observed_predictions, popularity_bands, user_segments
from pipeline.models.averages import damped_biases, global_average, item_averages, user_averages
from pipeline.ranker import Ranker
from pipeline.report import Report
from pipeline.spec import Transform
from pipeline.splits import Split

__all__ = ["HeldOut", "evaluate_averages", "evaluate_ratings", "predict_held_out"]


class HeldOut(NamedTuple):
    """The held-out interactions whose user and item the ranker knows.

    known : (n_test,) bool, which of `split.test` they are
    predicted : (n,) float64, on the scale of the scores and within the range of the training ones
    """

    known: NDArray[np.bool_]
    predicted: NDArray[np.float64]


def predict_held_out(ranker: Ranker, split: Split, transform: Transform = "none") -> HeldOut:
    """The ranker's scores of what was held out, mapped back where its matrix held log(1 + score), and clipped."""
    test = split.test
    rows = ranker.users.rows(test.user_ids.values, missing="negative")[test.users]
    cols = ranker.items.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    model = ranker.model
    if isinstance(model, FactorModel):
        # Not rounded to float32, as the published scores are: errors are sums of small differences.
        predicted = observed_predictions(rows[known], cols[known], model.user_factors, model.item_factors)
    else:
        predicted = model.predict(rows[known], cols[known]).astype(np.float64)
    if transform == "log1p":
        predicted = np.expm1(predicted)
    return HeldOut(known, _clipped(predicted, split))


def evaluate_ratings(
    ranker: Ranker,
    split: Split,
    transform: Transform = "none",
    prefix: str = "holdout_",
    *,
    segments: bool = False,
) -> Report:
    """RMSE and MAE on held-out scores whose user and item were in training.

    Predictions are clipped to the range of the training scores, and mapped back to their scale
    where the matrix held log(1 + score). With `segments`, also by user segment and item popularity band.
    """
    left_out = f"{prefix}rmse and {prefix}mae left out: "
    if transform == "binary":
        return Report(messages=(left_out + "a binary matrix holds no scores to predict",))
    found = predict_held_out(ranker, split, transform)
    if not found.known.any():
        return Report(messages=(left_out + "no held-out interaction has its user and its item in training",))
    return Report(_errors(split, found, prefix, segments))


def evaluate_averages(split: Split, prefix: str = "holdout_", *, segments: bool = False) -> Report:
    """The same errors for what needs no model: the averages of training, overall, by user, by item, and biases.

    Over the same cells as `evaluate_ratings` of a model of the whole training side. Names:
    ``holdout_global_average_rmse``, ``…user_average…``, ``…item_average…``, ``…biases…``, and ``…_mae``.
    """
    train, test = split.train, split.test
    rows = train.user_ids.rows(test.user_ids.values, missing="negative")[test.users]
    cols = train.item_ids.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    if not known.any() or not len(train):
        sentence = (
            f"{prefix}global_average_rmse and its like left out: no held-out interaction is of a known user and item"
        )
        return Report(messages=(sentence,))
    biases = damped_biases(train)
    r, c = rows[known], cols[known]
    predictions = {
        "global_average": np.full(r.size, global_average(train)),
        "user_average": user_averages(train)[r],
        "item_average": item_averages(train)[c],
        "biases": biases.predict(r, c),
    }
    found: dict[str, float] = {}
    for name, predicted in predictions.items():
        found |= _errors(split, HeldOut(known, _clipped(predicted, split)), f"{prefix}{name}_", segments)
    return Report(found)


def _clipped(predicted: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    scores = split.train.scores
    return np.clip(predicted, scores.min(), scores.max()) if scores.size else predicted


def _errors(split: Split, held_out: HeldOut, prefix: str, segments: bool) -> dict[str, float]:
    known, predicted = held_out
    actual = split.test.scores[known]
    found = errors(actual, predicted)
    result = {f"{prefix}rmse": found.rmse, f"{prefix}mae": found.mae}
    if not segments:
        return result
    for labels, codes in ((SEGMENTS, _user_codes(split)), (BANDS, _item_codes(split))):
        for code, label in enumerate(labels):
            mine = codes[known] == code
            if mine.any():
                found = errors(actual[mine], predicted[mine])
                result |= {f"{prefix}rmse_{label}": found.rmse, f"{prefix}mae_{label}": found.mae}
    return result


def _user_codes(split: Split) -> NDArray[np.int8]:
    """Segment of each test interaction's user, among the test users whom training knows; -1 for others."""
    train, test = split.train, split.test
    rows = train.user_ids.rows(test.user_ids.values, missing="negative")
    judged = (np.bincount(test.users, minlength=rows.size) > 0) & (rows >= 0)
    count = np.bincount(train.users, minlength=len(train.user_ids))
    codes = np.full(rows.size, -1, np.int8)
    codes[judged] = user_segments(count[rows[judged]])[0]
    return codes[test.users]


def _item_codes(split: Split) -> NDArray[np.int8]:
    """Popularity band of each test interaction's item; -1 where training has not seen it."""
    train, test = split.train, split.test
    cols = train.item_ids.rows(test.item_ids.values, missing="negative")
    bands = popularity_bands(np.bincount(train.items, minlength=len(train.item_ids)))
    return np.append(bands, np.int8(-1))[cols][test.items]
