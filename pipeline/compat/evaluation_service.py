"""`EvaluationService` of the design: the errors of predictions, and how right lists are, by Rankline's metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compat.rated_model import RatedModel, ratings_of
from pipeline.compat.trainer import EvaluationMetrics
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.metrics.ranking import precision_at_k, recall_at_k

__all__ = ["EvaluationService"]

_K = 10


class EvaluationService:
    """No method keeps anything."""

    def calculate_rmse(self, predictions: Sequence[float], actuals: Sequence[float]) -> float:
        """√(Σ(r − r̂)² / n). Raises InputError for lists of other lengths, and for empty ones."""
        return EvaluationMetrics().rmse(predictions, actuals)

    def calculate_precision_at_k(self, recommendations: Sequence[Any], relevant: Collection[Any], k: int) -> float:
        """Share of the first `k` places with a relevant film; a list of fewer misses the rest.

        Raises InputError where nothing is relevant: such a user has no precision, and belongs in no mean.
        """
        return float(precision_at_k(*_hits(recommendations, relevant, k))[0])

    def calculate_recall_at_k(self, recommendations: Sequence[Any], relevant: Collection[Any], k: int) -> float:
        """Share of the relevant films that are in the first `k` places. Errors as `calculate_precision_at_k`."""
        return float(recall_at_k(*_hits(recommendations, relevant, k))[0])

    def calculate_coverage(self, recommendations: Sequence[Any], all_items: Collection[Any]) -> float:
        """Share of all films that are recommended to somebody: `recommendations` are films, or lists of them.

        Raises InputError without any film.
        """
        everything = set(all_items)
        if not everything:
            raise InputError("Coverage is a share of all items, and there are none")
        listed: set[Any] = set()
        for entry in recommendations:
            listed.update(entry if isinstance(entry, list | tuple | set | np.ndarray) else [entry])
        return len(listed & everything) / len(everything)

    def generate_report(self, model: RatedModel, test_data: pd.DataFrame) -> dict[str, Any]:
        """`rmse` and `mae` of the model's predictions, `precision_at_10`, `recall_at_10` and `coverage` of its lists.

        Every film of a user's test data is relevant. Means are over the users of the test data.

        Raises NotFittedError, MissingColumnsError, BadRowsError, and InputError for no test data.
        """
        x = ratings_of(test_data)
        users, films = x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist()
        predicted = [model.predict(user, film) for user, film in zip(users, films, strict=True)]
        relevant: dict[Any, set[Any]] = {}
        for user, film in zip(users, films, strict=True):
            relevant.setdefault(user, set()).add(film)
        lists = {user: model.recommend(user, _K) for user in relevant}
        errors = EvaluationMetrics()
        return {
            "rmse": self.calculate_rmse(predicted, x.scores.tolist()),
            "mae": errors.mae(predicted, x.scores),
            f"precision_at_{_K}": float(
                np.mean([self.calculate_precision_at_k(lists[user], relevant[user], _K) for user in relevant])
            ),
            f"recall_at_{_K}": float(
                np.mean([self.calculate_recall_at_k(lists[user], relevant[user], _K) for user in relevant])
            ),
            "coverage": self.calculate_coverage(list(lists.values()), model.scorer.items.values.tolist()),
            "n_users": len(relevant),
            "n_ratings": len(x),
        }


def _hits(
    recommendations: Sequence[Any], relevant: Collection[Any], k: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    wanted = set(relevant)
    if not wanted:
        raise InputError("Nothing is relevant for this user: leave them out of the mean")
    hits = np.zeros((1, k), bool)
    first = list(recommendations)[:k]
    hits[0, : len(first)] = [film in wanted for film in first]
    return hits, np.array([len(wanted)])
