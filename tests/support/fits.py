"""A fit of NMF as training does it, from a bare matrix: the estimator of the options, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.models.algorithms.nmf import estimator_for, fit_estimator
from pipeline.options import TrainOptions

__all__ = ["FittedFactors", "fit_nmf"]


@dataclass(frozen=True, eq=False)
class FittedFactors:
    """What the estimator found."""

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    losses: NDArray[np.float64]
    converged: bool
    error: float
    estimator: Any

    @property
    def n_iter(self) -> int:
        return int(self.losses.size)


def fit_nmf(x: sparse.csr_matrix, solver: str = "sklearn", on_iteration: Any = None, **options: Any) -> FittedFactors:
    """Fit with these options of training."""
    spec = TrainOptions(solver=solver, **options)  # type: ignore[arg-type]
    estimator = estimator_for(spec, spec.components_for(x.shape), on_iteration)
    w = fit_estimator(estimator, x)
    h, losses = np.ascontiguousarray(estimator.components_), np.array(estimator.loss_curve_)
    return FittedFactors(w, h, losses, estimator.converged_, float(estimator.reconstruction_err_), estimator)
