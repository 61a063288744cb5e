"""`ModelTrainer` and `EvaluationMetrics` of the reference."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.compat.data_loader import DataLoader
from pipeline.compat.nmf_model import Matrix, NMFModel
from pipeline.errors import InputError

__all__ = ["EvaluationMetrics", "ModelTrainer"]


class EvaluationMetrics:
    """Errors of predictions, (n,) each beside what was observed. Each raises InputError for nothing to compare."""

    def rmse(self, predictions: ArrayLike, actuals: ArrayLike) -> float:
        """√(Σ(r − r̂)² / n)."""
        return float(np.sqrt(np.mean(_errors(predictions, actuals) ** 2)))

    def mae(self, predictions: ArrayLike, actuals: ArrayLike) -> float:
        """Σ|r − r̂| / n."""
        return float(np.mean(np.abs(_errors(predictions, actuals))))


def _errors(predictions: ArrayLike, actuals: ArrayLike) -> NDArray[np.float64]:
    predicted, observed = np.asarray(predictions, np.float64).ravel(), np.asarray(actuals, np.float64).ravel()
    if predicted.size != observed.size or not observed.size:
        raise InputError(f"{predicted.size} predictions for {observed.size} values: one each, and at least one")
    return predicted - observed


class ModelTrainer:
    """Attributes
    ----------
    data_loader, evaluation_metrics : at hand
    training_history : of the last training: parameters, sides of the matrix, losses, seconds, when
    """

    def __init__(self) -> None:
        self.data_loader = DataLoader()
        self.evaluation_metrics = EvaluationMetrics()
        self.training_history: dict[str, Any] = {}

    def train_nmf_model(
        self,
        user_item_matrix: Matrix,
        n_components: int | None = None,
        random_state: int | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
    ) -> NMFModel:
        """A fitted model; parameters and errors as `NMFModel`."""
        begun = time.perf_counter()
        model = NMFModel(n_components, random_state, max_iter, tol).fit(user_item_matrix)
        fitted = model.fitted
        assert fitted is not None  # noqa: S101  # for mypy: it has just been fitted
        self.training_history = {
            "model": "nmf",
            "n_components": model.n_components,
            "random_state": model.random_state,
            "max_iter": model.max_iter,
            "tol": model.tol,
            "n_users": model.n_users,
            "n_items": model.n_items,
            "n_interactions": int(model.saved.seen.nnz),
            "n_iter": fitted.n_iter,
            "losses": fitted.losses.tolist(),
            "converged": fitted.converged,
            "training_seconds": time.perf_counter() - begun,
            "trained_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        return model
