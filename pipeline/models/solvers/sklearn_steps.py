"""scikit-learn's coordinate descent, one iteration at a time, so that there is a loss to show and a place to stop.

The steps and the stopping rule (the sum of projected gradients against that of the first iteration) are scikit-learn's
own compiled ones, so the factors are those of `sklearn.decomposition.NMF(...).fit(X)`, bit for bit; a test holds them
equal. The public interface reports neither a loss nor that sum, hence the private name below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.models.reconstruction import all_cells_errors
from pipeline.models.solvers.iterations import Factorization, Iterations
from pipeline.models.solvers.nmf import Penalty
from pipeline.runtime.blas import one_blas_thread

__all__ = ["factorize_as_sklearn"]

_CANCELLED = 1e-2  # share of ‖X‖² below which the quick loss has fewer than five digits


def factorize_as_sklearn(
    X: Any, W: NDArray[Any], Ht: NDArray[Any], penalty: Penalty, iterations: Iterations
) -> Factorization:
    """Both factors, from a start that is overwritten.

    `losses` are ‖X − WH‖_F whatever the penalties. A loss that is not finite ends the fit at once.

    Parameters
    ----------
    X : sparse or dense (m, n), ≥ 0
    W, Ht : contiguous (m, k) and (n, k)
    """
    from sklearn.decomposition import _nmf as sk

    p = penalty
    rng = np.random.RandomState(0)  # unused without shuffling
    data = X.data if sparse.issparse(X) else X.ravel()
    squares = float(np.einsum("i,i", data, data, dtype=np.float64))
    first, converged = 0.0, False
    # Products of k columns: more threads only wait for each other, many times as long on a busy
    # machine, and one adds up in the same order whatever the machine.
    with one_blas_thread():
        with iterations.interruptible():
            while iterations.left and not converged:
                violation = sk._update_coordinate_descent(X, W, Ht, p.l1_w, p.l2_w, False, rng)
                violation += sk._update_coordinate_descent(X.T, Ht, W, p.l1_h, p.l2_h, False, rng)
                loss = _loss(X, W, Ht, squares)
                if not np.isfinite(loss):
                    iterations.losses.append(loss)
                    break
                iterations.add(loss)
                first = first or violation
                converged = first == 0 or violation / first <= iterations.tol
        losses = iterations.losses
        error = _loss(X, W, Ht, squares) if iterations.interrupted else losses[-1]
    H = np.ascontiguousarray(Ht.T)
    return Factorization(
        np.ascontiguousarray(W), H, len(losses), converged, error, error, losses, iterations.interrupted
    )


def _loss(X: Any, W: NDArray[Any], Ht: NDArray[Any], squares: float) -> float:
    """‖X − WH‖_F = √(‖X‖² − 2⟨XHᵀ, W⟩ + ⟨WᵀW, HHᵀ⟩), and cell by cell where little is left of ‖X‖²."""
    cross = float(np.einsum("ij,ij->", X @ Ht, W, dtype=np.float64))
    w64, h64 = W.astype(np.float64), Ht.astype(np.float64)
    gram = float(np.sum((w64.T @ w64) * (h64.T @ h64)))
    left = squares - 2 * cross + gram
    # XHᵀ is summed in float32: of a nearly exact fit the difference would be that rounding alone.
    if left < _CANCELLED * squares:
        if not sparse.issparse(X):
            return float(np.linalg.norm(X - w64 @ h64.T))
        return float(all_cells_errors(X.tocsr(), W, Ht.T).reconstruction_error)
    return float(np.sqrt(left))
