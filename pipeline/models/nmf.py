"""`NMF`: scikit-learn's estimator contract over the fast solver.

    from pipeline.models.nmf import NMF

    W = NMF(n_components=64, init="random", random_state=42).fit_transform(X)   # (n_users, 64)

It decides and checks; `pipeline.models.solvers.nmf` computes. numba is imported at the first fit.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.decomposition._nmf import _initialize_nmf
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.data.blocks import BlockFolder
from pipeline.models.factor_estimator import FactorEstimator, checked_matrix, checked_start, warn_of_idle_start
from pipeline.models.solvers.half_steps import PaddedFactor, padded
from pipeline.models.solvers.iterations import Factorization, Iterations
from pipeline.models.solvers.nmf import Penalty, factorize_rows, fold_in
from pipeline.models.solvers.sklearn_steps import factorize_as_sklearn
from pipeline.models.starts import mean_of, random_factors

__all__ = ["NMF"]

Init = Literal["random", "nndsvd", "nndsvda", "nndsvdar", "custom"]


class NMF(FactorEstimator):
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
    max_iter : most outer iterations; accelerated from ``init="random"``, twelve over a sample of the rows come first
        where X has a million cells, 100 a column and 200 rows a component, or more; these are not counted
    random_state : seed of the start
    alpha_W, alpha_H, l1_ratio : penalties; alpha_H ``"same"`` is alpha_W
    accelerate : False takes exactly the steps of scikit-learn's ``cd`` solver and ends on H as it does.
        True reaches the same loss sooner and ends on W, solved to tolerance against the final H: then
        `transform` of the training data returns the W of `fit_transform`, bit for bit
    solver : ``"fast"``, ours; ``"sklearn"``, scikit-learn's own compiled steps on one thread, whose factors are
        those of `sklearn.decomposition.NMF` bit for bit (`accelerate` and `n_threads` are not used)
    n_threads : default, the cores this process may use; the same bits for any number
    callback : ``callback(iteration, loss)`` after each iteration, counted from 1; what it raises ends the fit
    keep_interrupted : Ctrl-C ends the fit with the factors found so far, and a warning, instead of losing them
    verbose : print the loss of each iteration

    Attributes
    ----------
    components_ : (k, n_features) H
    n_components_, n_iter_, n_features_in_, feature_names_in_ : as scikit-learn's
    converged_, interrupted_ : whether `tol` was reached, and whether Ctrl-C ended the fit
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
        "solver": [StrOptions({"fast", "sklearn"})],
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
        solver: Literal["fast", "sklearn"] = "fast",
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
        self.solver = solver
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
        X : (n_samples, n_features) array or sparse matrix, ≥ 0; float32 and float64 are kept. Or a folder of blocks
            (`pipeline.data.blocks.BlockFolder`), of which a fit keeps some megabytes in memory
        y : ignored
        W, H : (n_samples, k) and (k, n_features), the start where ``init="custom"``

        Raises
        ------
        ValueError, TypeError
            With scikit-learn's words.
        """
        if isinstance(X, BlockFolder):
            self._check_blocks(X)
        else:
            X = _canonical(checked_matrix(self, X, ("csr", "csc"), "NMF initialization"))
        return self._learn(self._factorize(X, list(self._start(X, W, H))))

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
            accelerate=self.accelerate and self.solver == "fast",
            n_threads=self.n_threads,
        )

    def _factorize(self, X: Any, start: list[NDArray[Any]]) -> Factorization:
        """From W and H, which are taken out of `start`: on large data memory is what decides."""
        H, W = start.pop(), start.pop()
        penalty = self._penalty(*X.shape)
        iterations = Iterations(self.max_iter, self.tol, self._told, self.keep_interrupted)
        if self.solver == "sklearn":
            Ht = np.ascontiguousarray(H.T)
            if self.init == "custom":  # the caller's, and never altered
                W, Ht = np.array(W, order="C"), Ht.copy()
            return factorize_as_sklearn(X, W, Ht, penalty, iterations)
        k = W.shape[1]
        users = PaddedFactor(padded(W), k)
        del W  # the solver works on the padded copies alone
        items = PaddedFactor(padded(H.T), k)
        del H
        random = self.init == "random"
        return factorize_rows(
            X, users, items, penalty, iterations, self.accelerate, random, self.n_threads, self._engine
        )

    def _check_blocks(self, X: BlockFolder) -> None:
        if self.init != "random" or self.solver != "fast":
            raise ValueError("A folder of blocks is fitted with init='random' and solver='fast'")
        self.n_features_in_ = X.shape[1]

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
        n_features = X.shape[1]
        if self.init == "custom":
            return checked_start(X, W, H, self.n_components if self.n_components is not None else n_features, "NMF")
        warn_of_idle_start(W, H)
        k = n_features if self.n_components in ("auto", None) else self.n_components
        if self.init == "random" and self._draws is not None:
            W, H = self._draws(int(k))
            mean = mean_of(X)
            size = np.sqrt(mean / k)  # scikit-learn's
            W, H = W.astype(mean.dtype, copy=False), H.astype(mean.dtype, copy=False)
            W *= size
            H *= size
            return W, H
        if self.init == "random" and self.solver == "fast":
            return random_factors(X, int(k), self.random_state)
        W, H = _initialize_nmf(X, k, init=self.init, random_state=self.random_state)
        return W, H


def _canonical(X: Any) -> Any:
    """X with its duplicates summed, in a copy: ‖X‖² needs each cell once."""
    if sparse.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
