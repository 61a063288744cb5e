"""What a fit's factors say of the matrix that they were fitted to: its metrics, and sentences on those left out."""

from __future__ import annotations

import numpy as np

from pipeline.data.matrix import UserItems
from pipeline.evaluation.results import Report
from pipeline.models.base import Algorithm, Fitted
from pipeline.models.reconstruction import all_cells_errors

__all__ = ["fit_report"]


def fit_report(algorithm: Algorithm, matrix: UserItems, fitted: Fitted) -> Report:
    """Errors over all cells and over those that are stored, sparsity, and iterations."""
    metrics = {"sparsity": matrix.sparsity}
    if algorithm.stepped:
        metrics["n_iter"] = float(fitted.n_iter)
    if not algorithm.reconstructs:
        sentence = f"reconstruction_error, rmse and mae left out: scores of {algorithm.display_name} only order items"
        return Report(metrics, (sentence,))
    item_factors = fitted.model.item_factors
    if len(fitted.model.items) != len(matrix.items):  # without items that have no interactions
        item_factors = np.ascontiguousarray(item_factors[:, fitted.model.items.rows(matrix.items.values)])
    errors = all_cells_errors(matrix.scores, fitted.model.user_factors, item_factors)
    measured = {"reconstruction_error": float(errors.reconstruction_error), "rmse": float(errors.rmse)}
    messages: tuple[str, ...] = ()
    if errors.mae is None:
        messages = ("mae over all cells left out: it takes factors without negative values",)
    else:
        measured["mae"] = float(errors.mae)
    observed = {"observed_rmse": errors.observed.rmse, "observed_mae": errors.observed.mae}
    return Report({**measured, **observed, **metrics}, messages)
