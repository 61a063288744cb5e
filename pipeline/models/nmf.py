"""`NMF`: scikit-learn's estimator contract over the fast solver.

    from pipeline.models.nmf import NMF

    W = NMF(n_components=64, init="random", random_state=42).fit_transform(X)   # (n_users, 64)

It decides and checks; `pipeline.solvers.nmf` computes. numba is imported at the first fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.decomposition._nmf import _initialize_nmf
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from pipeline.solvers.halves import padded
from pipeline.solvers.nmf import Penalty, factorize_rows, fold_in

__all__ = ["NMF"]

Init = Literal["random", "nndsvd", "nndsvda", "nndsvdar", "custom"]


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative factors W (n_samples, k) and H (k, n_features) with X ≈ W·H over all cells.

    Minimises scikit-learn's objective with its scaling of the penalties:
    ½‖X − WH‖² + alpha_W·n_features·(l1_ratio·ΣW + ½(1 − l1_ratio)·‖W‖²)
    + alpha_H·n_samples·(l1_ratio·ΣH + ½(1 − l1_ratio)·‖H‖²). An empty cell of a sparse X counts as 0.

    Parameters
    ----------
    n_components : k; ``"auto"``: as many as the given W and H have, else n_features; None: n_features
    init : the start, as in `sklearn.decomposition.NMF`; ``"custom"``: W and H given to `fit_transform`
    tol : accelerated, stop when the loss has fallen by less than this share of itself in ten iterations
        (scikit-learn's ratio depends on the start); plain, scikit-learn's own rule
    max_iter : most outer iterations
    random_state : seed of the start
    alpha_W, alpha_H, l1_ratio : penalties; alpha_H ``"same"`` is alpha_W
    accelerate : False takes exactly the steps of scikit-learn's ``cd`` solver and ends on H as it does.
        True reaches the same loss sooner and ends on W, solved to tolerance against the final H: then
        `transform` of the training data returns the W of `fit_transform`, bit for bit
    n_threads : default, the cores this process may use; the same bits for any number
    callback : ``callback(iteration, loss)`` after each iteration, counted from 1; what it raises ends the fit
    keep_interrupted : Ctrl-C ends the fit with the factors found so far, and a warning, instead of losing them
    verbose : print the loss of each iteration

    Attributes
    ----------
    components_ : (k, n_features) H
    n_components_, n_iter_, n_features_in_, feature_names_in_ : as scikit-learn's
    reconstruction_err_ : ‖X − WH‖_F of the factors that are returned
    loss_curve_ : √(2·objective) after each iteration: ‖X − WH‖_F where nothing is penalised; accelerated,
        it never rises
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None, StrOptions({"auto"})],
        "init": [StrOptions({"random", "nndsvd", "nndsvda", "nndsvdar", "custom"}), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "alpha_W": [Interval(Real, 0, None, closed="left")],
        "alpha_H": [Interval(Real, 0, None, closed="left"), StrOptions({"same"})],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "accelerate": ["boolean"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "callback": [callable, None],
        "keep_interrupted": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int | Literal["auto"] | None = "auto",
        *,
        init: Init | None = None,
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | Literal["same"] = "same",
        l1_ratio: float = 0.0,
        accelerate: bool = True,
        n_threads: int | None = None,
        callback: Callable[[int, float], None] | None = None,
        keep_interrupted: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.accelerate = accelerate
        self.n_threads = n_threads
        self.callback = callback
        self.keep_interrupted = keep_interrupted
        self.verbose = verbose

    def fit(self, X: Any, y: None = None, **params: Any) -> NMF:
        """Learn H; `params` are `fit_transform`'s W and H."""
        self.fit_transform(X, **params)
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: None = None, W: Any = None, H: Any = None) -> NDArray[Any]:
        """Learn H and return W (n_samples, k).

        Parameters
        ----------
        X : (n_samples, n_features) array or sparse matrix, ≥ 0; float32 and float64 are kept
        y : ignored
        W, H : (n_samples, k) and (k, n_features), the start where ``init="custom"``

        Raises
        ------
        ValueError, TypeError
            With scikit-learn's words.
        """
        X = validate_data(self, X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32])
        check_non_negative(X, "NMF initialization")
        X = _canonical(X)
        W, H = self._start(X, W, H)
        k = W.shape[1]
        # The names are given up with the copies that the solver overwrites: on large data memory is what decides.
        W, H = padded(W), padded(H.T)
        found = factorize_rows(
            X,
            W,
            H,
            k,
            penalty=self._penalty(*X.shape),
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            n_threads=self.n_threads,
            on_iteration=self._told,
            keep_interrupted=self.keep_interrupted,
        )
        if found.interrupted:
            warnings.warn(
                f"Interrupted after {found.n_iter} iterations: the factors are those found by then.",
                ConvergenceWarning,
                stacklevel=2,
            )
        elif not found.converged and self.tol > 0:
            warnings.warn(
                f"Maximum number of iterations {self.max_iter} reached. Increase it to improve convergence.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.components_ = found.H
        self.n_components_ = found.H.shape[0]
        self.n_iter_ = found.n_iter
        self.reconstruction_err_ = found.error
        self.loss_curve_ = found.losses
        return found.W

    def transform(self, X: Any) -> NDArray[Any]:
        """W (n_samples, k) for rows of X given H: each row is a problem of its own.

        Accelerated it is solved to tolerance; plain, by scikit-learn's steps from 0.
        """
        check_is_fitted(self, msg="Model must be fitted before making predictions")
        X = validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32], reset=False, ensure_non_negative=True
        )
        H = self.components_
        if H.dtype != X.dtype:
            raise TypeError(f"H should have the same dtype as X. Got H.dtype = {H.dtype}.")
        return fold_in(
            _canonical(X),
            H,
            penalty=self._penalty(*X.shape),
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            n_threads=self.n_threads,
        )

    def inverse_transform(self, X: Any) -> Any:
        """W·H (n_samples, n_features) for W (n_samples, k)."""
        check_is_fitted(self, msg="Model must be fitted before making predictions")
        return X @ self.components_

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _told(self, iteration: int, loss: float) -> None:
        if self.verbose:
            print(f"iteration {iteration}: loss {loss:.6g}")  # noqa: T201 - asked for
        if self.callback is not None:
            self.callback(iteration, loss)

    def _penalty(self, n_samples: int, n_features: int) -> Penalty:
        alpha_H = self.alpha_W if self.alpha_H == "same" else float(self.alpha_H)
        weight_W, weight_H = n_features * self.alpha_W, n_samples * alpha_H
        smooth = 1.0 - self.l1_ratio
        return Penalty(
            l1_w=weight_W * self.l1_ratio,
            l2_w=weight_W * smooth,
            l1_h=weight_H * self.l1_ratio,
            l2_h=weight_H * smooth,
        )

    def _start(self, X: Any, W: Any, H: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """W and H to begin with, of X's type; the caller's are checked and never altered."""
        n_samples, n_features = X.shape
        if self.init == "custom":
            k = self.n_components if self.n_components is not None else n_features
            H = _checked(H, (k, n_features), "NMF (input H)")
            W = _checked(W, (n_samples, H.shape[0] if k == "auto" else k), "NMF (input W)")
            if H.dtype != X.dtype or W.dtype != X.dtype:
                raise TypeError(
                    f"H and W should have the same dtype as X. Got H.dtype = {H.dtype} and W.dtype = {W.dtype}."
                )
            return W, H
        if W is not None or H is not None:
            warnings.warn(
                "When init!='custom', provided W or H are ignored. Set  init='custom' to use them as initialization.",
                RuntimeWarning,
                stacklevel=3,
            )
        k = n_features if self.n_components in ("auto", None) else self.n_components
        W, H = _initialize_nmf(X, k, init=self.init, random_state=self.random_state)
        return W, H


def _checked(factor: Any, shape: tuple[int | str, int], whom: str) -> NDArray[Any]:
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


def _canonical(X: Any) -> Any:
    """X with its duplicates summed, in a copy: ‖X‖² needs each cell once."""
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
