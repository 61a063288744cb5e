"""How near predicted scores come to the held-out ones: RMSE and MAE, in the scores' own units."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["AVERAGES", "HeldOut", "evaluate_averages", "evaluate_ratings", "predict_held_out"]

AVERAGES = ("global", "user", "item", "biases")


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


def evaluate_ratings(ranker: Ranker, split: Split, transform: Transform = "none", prefix: str = "holdout_") -> Report:
    """RMSE and MAE on held-out scores whose user and item were in training, of all and by segment and band.

    Predictions are clipped to the range of the training scores, and mapped back to their scale
    where the matrix held log(1 + score). Names: ``holdout_rmse``, of the users with few training interactions
    ``holdout_cold_rmse``, of the most popular items ``holdout_rmse_head``, and so on.
    """
    left_out = f"{prefix}rmse and {prefix}mae left out: "
    if transform == "binary":
        return Report(messages=(left_out + "a binary matrix holds no scores to predict",))
    found = predict_held_out(ranker, split, transform)
    if not found.known.any():
        return Report(messages=(left_out + "no held-out interaction has its user and its item in training",))
    return Report(_errors(split, found.known, {"": found.predicted}, prefix))


def evaluate_averages(split: Split, prefix: str = "holdout_") -> Report:
    """The same errors for what needs no model: the averages of training, overall, by user, by item, and biases.

    Over the same cells as `evaluate_ratings` of a model of the whole training side. Names:
    ``holdout_global_rmse``, ``…user…``, ``…item…``, ``…biases…``, ``…_mae``, ``holdout_cold_global_rmse``,
    ``holdout_global_rmse_head``, and so on.
    """
    train, test = split.train, split.test
    rows = train.user_ids.rows(test.user_ids.values, missing="negative")[test.users]
    cols = train.item_ids.rows(test.item_ids.values, missing="negative")[test.items]
    known = (rows >= 0) & (cols >= 0)
    if not known.any() or not len(train):
        sentence = f"{prefix}global_rmse and its like left out: no held-out interaction is of a known user and item"
        return Report(messages=(sentence,))
    biases = damped_biases(train)
    r, c = rows[known], cols[known]
    predictions = dict(
        zip(AVERAGES, (np.full(r.size, global_average(train)), user_averages(train)[r], item_averages(train)[c],
                       biases.predict(r, c)), strict=True)
    )  # fmt: skip
    clipped = {f"{name}_": _clipped(predicted, split) for name, predicted in predictions.items()}
    return Report(_errors(split, known, clipped, prefix))


def _clipped(predicted: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
    scores = split.train.scores
    return np.clip(predicted, scores.min(), scores.max()) if scores.size else predicted


def _errors(
    split: Split, known: NDArray[np.bool_], predictions: Mapping[str, NDArray[np.float64]], prefix: str
) -> dict[str, float]:
    """Of each prediction of the known held-out scores, by what its name begins with: of all, by segment, by band."""
    actual = split.test.scores[known]
    users, items = _user_codes(split)[known], _item_codes(split)[known]
    parts = [("", "", np.ones(actual.size, bool))]
    parts += [(f"{label}_", "", users == code) for code, label in enumerate(SEGMENTS)]
    parts += [("", f"_{label}", items == code) for code, label in enumerate(BANDS)]
    result = {}
    for segment, band, mine in parts:
        if not mine.any():
            continue
        for name, predicted in predictions.items():
            found = errors(actual[mine], predicted[mine])
            result[f"{prefix}{segment}{name}rmse{band}"] = found.rmse
            result[f"{prefix}{segment}{name}mae{band}"] = found.mae
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
