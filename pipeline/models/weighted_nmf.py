"""The weighted objective as an estimator: from NMF over all cells to observed cells alone.

from pipeline.models.weighted_nmf import WeightedNMF

model = WeightedNMF(n_components=20, unobserved_weight=0.0, biases=True, alpha_W=0.05, random_state=42)
W = model.fit_transform(X)         # X: CSR of ratings; what is not stored was not observed
stars = W @ model.components_      # biases are two more columns: the product is the whole prediction
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.decomposition._nmf import _initialize_nmf
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, check_random_state

from pipeline.errors import UsageError
from pipeline.models.factor_estimator import Draws, FactorEstimator, checked_matrix, checked_start, warn_of_idle_start
from pipeline.models.objective import Objective
from pipeline.models.solvers.weighted import factorize_weighted, fold_in_weighted, mean_score

__all__ = ["WeightedNMF", "start_weighted", "with_prior"]

SHRINK = 10.0  # scores of the mean that a bias's start is averaged with
INTERPLAY = 0.1  # share of the mean score that is left to the other components at the start of a model with biases


def with_prior(objective: Objective, x: sparse.csr_matrix) -> Objective:
    """The objective with its biases drawn to half the mean score of `x`, where it has biases."""
    prior = float(x.data.mean(dtype=np.float64)) / 2 if objective.biases and x.nnz else 0.0
    return replace(objective, bias_prior=prior)


def start_weighted(
    X: sparse.csr_matrix,
    k: int,
    objective: Objective,
    random_state: int | np.random.RandomState | None,
    draws: Draws | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """W (m, k) and H (k, n): |normal| numbers whose products have the mean that fits best, as scikit-learn's random.

    With biases, those begin at the means of each user and item, drawn towards the mean score, and the other
    components at a tenth of it.
    """
    m, n = X.shape
    rng = check_random_state(random_state)
    mean = mean_score(X, objective)
    plain = k - 2 if objective.biases else k
    # |N(0, 1)| has mean √(2/π): scikit-learn leaves that out, and so does the start without biases.
    size = math.sqrt(mean * (INTERPLAY * math.pi / 2 if objective.biases else 1.0) / max(plain, 1))
    if draws is not None:
        W, H = draws(k)
        W, H = (size * W).astype(X.dtype, copy=False), (size * H).astype(X.dtype, copy=False)
    else:
        H = np.abs(size * rng.standard_normal((k, n)).astype(X.dtype, copy=False))
        W = np.abs(size * rng.standard_normal((m, k)).astype(X.dtype, copy=False))
    if objective.biases:
        if k < 2:
            raise UsageError(f"biases are two of the components: n_components must be at least 2, got {k}")
        user, item = _biases(X, mean)
        rest = mean * (1 - (INTERPLAY if plain else 0.0)) / 2
        W[:, k - 2], W[:, k - 1] = 1, np.maximum(rest + user, 0)
        H[k - 2], H[k - 1] = np.maximum(rest + item, 0), 1
    return W.astype(X.dtype, copy=False), H.astype(X.dtype, copy=False)


def _biases(X: sparse.csr_matrix, mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each item's mean score lies from `mean`, then each user's from that: (m,) and (n,)."""
    m, n = X.shape
    users = np.repeat(np.arange(m), np.diff(X.indptr))
    over = X.data.astype(np.float64) - mean
    item = np.bincount(X.indices, over, n) / (np.bincount(X.indices, minlength=n) + SHRINK)
    over -= item[X.indices]
    user = np.bincount(users, over, m) / (np.bincount(users, minlength=m) + SHRINK)
    return user, item


class WeightedNMF(FactorEstimator):
    """Non-negative factors W (n_samples, k) and H (k, n_features) under the objective of `pipeline.models.objective`.

    X is sparse: its stored cells are the observed ones, **a stored 0 too**, and what is not stored was not
    observed. A dense X does not say which of its zeros were observed, and is refused.

    Parameters
    ----------
    n_components : k, with biases the two of them included
    unobserved_weight : how much a cell that was not observed counts, as a score of 0: 1 is NMF, 0 fits the
        observed cells alone (rating prediction), between them lies implicit feedback
    confidence : how much more an observed cell counts for each unit of its score
    dislike_weight : how much an observed cell of score 0 counts, such as a dislike; at least `unobserved_weight`
    reg_exponent : ν: penalties grow with a row's weight of cells to this power; 1 with unobserved_weight=1 is
        scikit-learn's scaling, 0 the same penalty for every row (as `implicit`)
    biases : a user's and an item's level as the last two components, for unobserved_weight=0
    init : the start: ``"random"``; one of scikit-learn's others, which know nothing of biases; ``"custom"``: W and H
        given to `fit_transform`, such as those of a fit with another penalty
    max_iter, tol : most iterations; stop when √(2L) has fallen by less than this share of itself in ten of them
    random_state : seed of the start
    alpha_W, alpha_H, l1_ratio : penalties; alpha_H ``"same"`` is alpha_W
    n_threads : default, the cores this process may use; the same bits for any number
    callback : ``callback(iteration, loss)`` after each iteration, counted from 1; what it raises ends the fit
    keep_interrupted : Ctrl-C ends the fit with the factors found so far, and a warning, instead of losing them

    Attributes
    ----------
    components_ : (k, n_features) H
    objective_ : the `Objective` that was fitted, with the prior of its biases
    n_components_, n_iter_, n_features_in_, feature_names_in_ : as scikit-learn's
    converged_, interrupted_ : whether `tol` was reached, and whether Ctrl-C ended the fit
    reconstruction_err_ : ‖X − WH‖_F over all cells, those that were not observed as 0
    loss_curve_ : √(2L) after each iteration; it never rises
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "unobserved_weight": [Interval(Real, 0, 1, closed="both")],
        "confidence": [Interval(Real, 0, None, closed="left")],
        "dislike_weight": [Interval(Real, 0, None, closed="left")],
        "reg_exponent": [Interval(Real, 0, None, closed="left")],
        "biases": ["boolean"],
        "init": [StrOptions({"random", "nndsvd", "nndsvda", "nndsvdar", "custom"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "alpha_W": [Interval(Real, 0, None, closed="left")],
        "alpha_H": [Interval(Real, 0, None, closed="left"), StrOptions({"same"})],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "callback": [callable, None],
        "keep_interrupted": ["boolean"],
    }

    def __init__(
        self,
        n_components: int = 10,
        *,
        unobserved_weight: float = 1.0,
        confidence: float = 0.0,
        dislike_weight: float = 1.0,
        reg_exponent: float = 1.0,
        biases: bool = False,
        init: Literal["random", "nndsvd", "nndsvda", "nndsvdar", "custom"] = "random",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | Literal["same"] = "same",
        l1_ratio: float = 0.0,
        n_threads: int | None = None,
        callback: Callable[[int, float], None] | None = None,
        keep_interrupted: bool = False,
    ) -> None:
        self.n_components = n_components
        self.unobserved_weight = unobserved_weight
        self.confidence = confidence
        self.dislike_weight = dislike_weight
        self.reg_exponent = reg_exponent
        self.biases = biases
        self.init = init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.n_threads = n_threads
        self.callback = callback
        self.keep_interrupted = keep_interrupted

    def fit(self, X: Any, y: None = None, **params: Any) -> WeightedNMF:
        """Learn H; `params` are `fit_transform`'s W and H."""
        self.fit_transform(X, **params)
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: None = None, W: Any = None, H: Any = None) -> NDArray[Any]:
        """Learn H and return W (n_samples, k), the solution against the H that is kept.

        Parameters
        ----------
        X : (n_samples, n_features) sparse, ≥ 0; float32 and float64 are kept
        y : ignored
        W, H : (n_samples, k) and (k, n_features), the start where ``init="custom"``

        Raises
        ------
        ValueError, TypeError
            With scikit-learn's words; TypeError for a dense X.
        UsageError
            For biases with another unobserved_weight than 0, or fewer than two components.
        """
        X = self._checked(X, reset=True)
        alpha_H = self.alpha_W if self.alpha_H == "same" else float(self.alpha_H)
        objective = Objective(
            unobserved_weight=float(self.unobserved_weight), confidence=float(self.confidence),
            dislike_weight=float(self.dislike_weight),
            alpha_W=float(self.alpha_W), alpha_H=alpha_H, l1_ratio=float(self.l1_ratio),
            reg_exponent=float(self.reg_exponent), biases=bool(self.biases),
        )  # fmt: skip
        objective = with_prior(objective, X)
        W, H = self._start(X, objective, W, H)
        result = factorize_weighted(
            X, W, H, objective,
            max_iter=self.max_iter, tol=self.tol, n_threads=self.n_threads, engine=self._engine,
            on_iteration=self.callback, keep_interrupted=self.keep_interrupted,
        )  # fmt: skip
        if not (math.isfinite(result.loss) and np.isfinite(result.W).all() and np.isfinite(result.H).all()):
            raise ValueError(f"The scores are too large for {X.dtype} (the largest is {X.data.max():g}): scale them")
        self.objective_ = objective
        return self._learn(result)

    def _start(self, X: Any, objective: Objective, W: Any, H: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.init == "custom":
            return checked_start(X, W, H, self.n_components, "WeightedNMF")
        warn_of_idle_start(W, H)
        if self.init == "random":
            return start_weighted(X, self.n_components, objective, self.random_state, self._draws)
        if objective.biases:
            raise UsageError(f"init = {self.init} knows nothing of biases: take init = random")
        W, H = _initialize_nmf(X, self.n_components, init=self.init, random_state=self.random_state)
        return W, H

    def transform(self, X: Any) -> NDArray[Any]:
        """W (n_samples, k) for rows of X given H, each solved to tolerance: a training row gets its W again."""
        check_is_fitted(self, msg="Model must be fitted before making predictions")
        X = self._checked(X, reset=False)
        if self.components_.dtype != X.dtype:
            raise TypeError(f"H should have the same dtype as X. Got H.dtype = {self.components_.dtype}.")
        return fold_in_weighted(X, self.components_, self.objective_, n_threads=self.n_threads)

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if not sparse.issparse(X):
            raise TypeError(
                "A dense X does not say which of its zeros were observed: give a sparse matrix of the observed cells "
                "(scipy.sparse.csr_matrix((scores, (rows, columns)), shape))"
            )
        X = checked_matrix(self, X, ("csr",), "WeightedNMF", reset=reset)
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        return X
