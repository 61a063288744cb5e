"""Our own solver of the same objective: from the same start, to about the same loss, many times faster.

It ends on a half-step of W against the H that is kept, so folding in a training user gives that
user's row again. Its stopping rule is the fall of the loss: scikit-learn's ratio depends on the start.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from pipeline.models.sklearn_nmf import FittedFactors, OnIteration, penalties, start, too_large

__all__ = ["fit_nmf"]


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
    """Factors of `x`; parameters and errors as `pipeline.models.sklearn_nmf.fit_nmf`.

    `tol` is the share of itself by which the loss must fall over ten iterations. `losses` are
    √(2·objective), which is ‖X − WH‖_F where nothing is regularised. `threads`: default, all cores;
    the factors are the same for any number.
    """
    from pipeline.solvers.halves import padded
    from pipeline.solvers.nmf import Penalty, factorize_rows

    w, h = start(x, n_components, init, random_state)
    w, h = padded(w), padded(h.T)
    found = factorize_rows(
        x,
        w,
        h,
        n_components,
        penalty=Penalty(*penalties(x.shape, alpha_w, alpha_h, l1_ratio)),
        max_iter=max_iter,
        tol=tol,
        on_iteration=on_iteration,
        n_threads=threads,
        keep_interrupted=keep_interrupted,
    )
    if not np.isfinite(found.error):
        raise too_large(x)
    return FittedFactors(
        found.W,
        np.ascontiguousarray(found.H),
        np.array(found.losses),
        found.converged,
        found.error,
        found.interrupted,
    )
