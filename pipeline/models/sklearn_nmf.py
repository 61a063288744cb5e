"""scikit-learn's NMF, one iteration at a time, so that there is a loss to show and a place to stop.

The start, the steps and the stopping rule (the sum of projected gradients against that of the
first iteration) are scikit-learn's own compiled ones, so the factors are those of
`sklearn.decomposition.NMF(...).fit(X)`, bit for bit; a test holds them equal. The public interface
reports neither a loss nor that sum, hence the three private names below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import InputError, UsageError
from pipeline.metrics import all_cells_errors

__all__ = ["FittedFactors", "OnIteration", "as_estimator", "fit_nmf", "penalties", "start", "too_large"]

OnIteration = Callable[[int, float], None]

_CANCELLED = 1e-2  # share of ‖X‖² below which the quick loss has fewer than five digits


@dataclass(frozen=True, eq=False)
class FittedFactors:
    """Attributes
    ----------
    user_factors : W, (n_users, k) float32
    item_factors : H, (k, n_items) float32
    losses : √(2·objective) after each iteration, (n_iter,): ‖X − WH‖_F where nothing is weighted or regularised,
        and of scikit-learn's solver whatever the regularisation
    converged : whether `tol` was reached before `max_iter`
    error : ‖X − WH‖_F of these factors
    interrupted : whether Ctrl-C ended it, and what was found by then was asked for
    """

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    losses: NDArray[np.float64]
    converged: bool
    error: float
    interrupted: bool = False

    @property
    def n_iter(self) -> int:
        """Iterations done, one of W and one of H each."""
        return int(self.losses.size)


def fit_nmf(
    x: sparse.csr_matrix,
    *,
    n_components: int,
    init: str = "random",
    max_iter: int = 200,
    tol: float = 1e-4,
    random_state: int = 42,
    alpha_w: float = 0.0,
    alpha_h: float | Literal["same"] = "same",
    l1_ratio: float = 0.0,
    on_iteration: OnIteration | None = None,
    threads: int | None = None,
    keep_interrupted: bool = False,
) -> FittedFactors:
    """Factors of `x` by coordinate descent; parameters as in `sklearn.decomposition.NMF`.

    Parameters
    ----------
    x : csr (n_users, n_items), ≥ 0
    on_iteration : called with the number of iterations done and the loss
    threads : not used: scikit-learn's steps run on one
    keep_interrupted : Ctrl-C ends the fit with the factors as they are, and is not lost on the caller

    Raises
    ------
    UsageError
        In scikit-learn's words, for parameters that do not fit the matrix.
    InputError
        For scores whose products pass the largest float32.
    """
    from sklearn.decomposition import _nmf as sk
    from threadpoolctl import threadpool_limits

    w, h = start(x, n_components, init, random_state)
    ht = np.ascontiguousarray(h.T)
    l1_w, l2_w, l1_h, l2_h = penalties(x.shape, alpha_w, alpha_h, l1_ratio)
    rng = np.random.RandomState(0)  # unused without shuffling
    squares = float(np.einsum("i,i", x.data, x.data, dtype=np.float64))
    losses: list[float] = []
    first = 0.0
    converged = interrupted = False
    # Products of k columns: more threads only wait for each other, many times as long on a busy
    # machine, and one adds up in the same order whatever the machine.
    with threadpool_limits(1, user_api="blas"):
        try:
            for n_iter in range(1, max_iter + 1):
                violation = sk._update_coordinate_descent(x, w, ht, l1_w, l2_w, False, rng)
                violation += sk._update_coordinate_descent(x.T, ht, w, l1_h, l2_h, False, rng)
                losses.append(_loss(x, w, ht, squares))
                if not np.isfinite(losses[-1]):
                    raise too_large(x)
                if on_iteration is not None:
                    on_iteration(n_iter, losses[-1])
                if n_iter == 1:
                    first = violation
                if first == 0 or violation / first <= tol:
                    converged = True
                    break
            error = losses[-1]
        except KeyboardInterrupt:
            if not keep_interrupted:
                raise
            interrupted, error = True, _loss(x, w, ht, squares)
    return FittedFactors(
        np.ascontiguousarray(w, np.float32),
        np.ascontiguousarray(ht.T, np.float32),
        np.array(losses),
        converged,
        error,
        interrupted,
    )


def too_large(x: sparse.csr_matrix) -> InputError:
    """The error for scores whose products pass the largest float32."""
    return InputError(
        f"The scores are too large to be factorised in float32 (the largest is {x.data.max():g}): "
        "scale them down, or take --transform log1p"
    )


def start(
    x: sparse.csr_matrix, n_components: int, init: str, random_state: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """scikit-learn's W and H to begin with. Raises UsageError in its words, InputError as `fit_nmf`."""
    from sklearn.decomposition import _nmf as sk

    try:
        w, h = sk._initialize_nmf(x, n_components, init=init, random_state=random_state)
    except ValueError as error:
        if "infs or NaNs" in str(error):
            raise too_large(x) from None
        raise UsageError(str(error)) from None
    return w, h


def penalties(
    shape: tuple[int, int], alpha_w: float, alpha_h: float | Literal["same"], l1_ratio: float
) -> tuple[float, float, float, float]:
    """l1 and l2 of W, then of H: scikit-learn scales each by the size of the other side."""
    n_users, n_items = shape
    alpha_h = alpha_w if alpha_h == "same" else alpha_h
    on_w, on_h = n_items * alpha_w, n_users * alpha_h
    return on_w * l1_ratio, on_w * (1 - l1_ratio), on_h * l1_ratio, on_h * (1 - l1_ratio)


def _loss(x: sparse.csr_matrix, w: NDArray[Any], ht: NDArray[Any], squares: float) -> float:
    """‖X − WH‖_F = √(‖X‖² − 2⟨XHᵀ, W⟩ + ⟨WᵀW, HHᵀ⟩), and cell by cell where little is left of ‖X‖²."""
    cross = float(np.einsum("ij,ij->", x @ ht, w, dtype=np.float64))
    w64, h64 = w.astype(np.float64), ht.astype(np.float64)
    gram = float(np.sum((w64.T @ w64) * (h64.T @ h64)))
    left = squares - 2 * cross + gram
    # XHᵀ is summed in float32: of a nearly exact fit the difference would be that rounding alone.
    if left < _CANCELLED * squares:
        return float(all_cells_errors(x, w, ht.T).reconstruction_error)
    return float(np.sqrt(left))


def as_estimator(fitted: FittedFactors, params: dict[str, Any], n_features: int) -> Any:
    """A fitted `sklearn.decomposition.NMF` that holds the item factors: what users of it load."""
    from sklearn.decomposition import NMF

    estimator = NMF(**params)
    estimator.components_ = fitted.item_factors
    estimator.n_components_ = fitted.item_factors.shape[0]
    estimator.n_features_in_ = n_features
    estimator.n_iter_ = fitted.n_iter
    estimator.reconstruction_err_ = fitted.error
    return estimator
