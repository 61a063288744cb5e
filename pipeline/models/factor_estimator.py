"""`FactorEstimator`: what the estimators of this package share of scikit-learn's contract."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from pipeline.data.mapped import ends_of, is_mapped
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.iterations import Factorization
from pipeline.models.solvers.steps import Engine

__all__ = ["Draws", "FactorEstimator", "checked_matrix", "checked_start", "warn_of_idle_start"]

_FLOATS = [np.float64, np.float32]

# Makes |N(0, 1)| numbers for W (n_samples, k) and H (k, n_features).
Draws = Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32]]]


# scikit-learn has no types, so its base classes are Any.
class FactorEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of non-negative factors: X ≈ W·H, with H in ``components_``."""

    tol: float
    max_iter: int
    _draws: Draws | None = None
    _engine: Engine = LOCAL

    def drawing(self, draws: Draws) -> Self:
        """The same estimator, which makes its start of ``init="random"`` of `draws(k)` and not of `random_state`."""
        self._draws = draws
        return self

    def on(self, engine: Engine) -> Self:
        """The same estimator, whose half-steps `engine` carries out."""
        self._engine = engine
        return self

    def inverse_transform(self, X: Any) -> Any:
        """W·H (n_samples, n_features) for W (n_samples, k): the predictions, biases included."""
        check_is_fitted(self, msg="Model must be fitted before making predictions")
        return X @ self.components_

    def _learn(self, result: Factorization) -> NDArray[Any]:
        """Set the fitted attributes, warn of a fit that ended early, and return W."""
        ended = ""
        if result.interrupted:
            ended = f"Interrupted after {result.n_iter} iterations: the factors are those found by then."
        elif not result.converged and self.tol > 0:
            ended = f"Maximum number of iterations {self.max_iter} reached. Increase it to improve convergence."
        if ended:
            warnings.warn(ended, ConvergenceWarning, stacklevel=3)
        self.components_ = result.H
        self.n_components_ = result.H.shape[0]
        self.converged_, self.interrupted_ = result.converged, result.interrupted
        self.n_iter_ = result.n_iter
        self.reconstruction_err_ = result.error
        self.loss_curve_ = result.losses
        return result.W

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def checked_start(X: Any, W: Any, H: Any, k: int | Literal["auto"], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The caller's W (n_samples, k) and H (k, n_features), of X's type; never altered.

    Raises ValueError, TypeError in scikit-learn's words; `name` is the estimator's.
    """
    n_samples, n_features = X.shape
    H = _checked_factor(H, (k, n_features), f"{name} (input H)")
    W = _checked_factor(W, (n_samples, H.shape[0] if k == "auto" else k), f"{name} (input W)")
    if H.dtype != X.dtype or W.dtype != X.dtype:
        raise TypeError(f"H and W should have the same dtype as X. Got H.dtype = {H.dtype} and W.dtype = {W.dtype}.")
    return W, H


def checked_matrix(estimator: Any, X: Any, formats: tuple[str, ...], whom: str, **how: Any) -> Any:
    """X as scikit-learn's check returns it: finite and ≥ 0, float32 or float64.

    Of a matrix in mapped files the check goes through the scores some at a time: they stay on disk.

    Raises ValueError, TypeError in scikit-learn's words; `whom` it says. `how` are `validate_data`'s.
    """
    if sparse.issparse(X) and X.format == "csr" and is_mapped(X.data):
        low, high = ends_of(X.data)  # which pass NaN on
        if low >= 0 and high < np.inf:
            return validate_data(estimator, X, accept_sparse=formats, dtype=_FLOATS, ensure_all_finite=False, **how)
    X = validate_data(estimator, X, accept_sparse=formats, dtype=_FLOATS, **how)
    check_non_negative(X, whom)
    return X


def warn_of_idle_start(W: Any, H: Any) -> None:
    """Warn, as scikit-learn does, of a start that another `init` than ``"custom"`` does not use."""
    if W is not None or H is not None:
        warnings.warn(
            "When init!='custom', provided W or H are ignored. Set  init='custom' to use them as initialization.",
            RuntimeWarning,
            stacklevel=4,
        )


def _checked_factor(factor: Any, shape: tuple[int | str, int], whom: str) -> NDArray[Any]:
    factor = check_array(factor)
    for axis, name in enumerate(("first", "second")):
        if shape[axis] != "auto" and factor.shape[axis] != shape[axis]:
            raise ValueError(
                f"Array with wrong {name} dimension passed to {whom}. "
                f"Expected {shape[axis]}, but got {factor.shape[axis]}."
            )
    check_non_negative(factor, whom)
    if np.max(factor) == 0:
        raise ValueError(f"Array passed to {whom} is full of zeros.")
    result: NDArray[Any] = factor
    return result
