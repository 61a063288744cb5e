"""Implicit-feedback matrix factorisation by alternating least squares, unconstrained.

Minimises, over W (n_users, k) and H (k, n_items) of any sign,

    ½ Σ_obs c·(x − w·h)² + ½ w₀ Σ_unobs (w·h)² + ½ Σ_u λ_u‖w_u‖² + ½ Σ_i λ_i‖h_i‖²
    c = 1 + confidence·x        λ_u = λ·(n_u + w₀·(n_items − n_u))^ν        λ_i likewise

Hu, Koren & Volinsky 2008, with the unobserved weight and the scaled regularisation of Rendle, Krichene, Zhang & Koren
2022 (§3.2, §3.3). The last half-step solves W exactly, as the model folds users in, so a training user who is folded in
gets the same row again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.matrix import UserItems
from pipeline.errors import InputError
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.fold_in.ridge import Ridge
from pipeline.models.objective import Objective
from pipeline.models.solvers.als import AlsResult, factorize_als
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.steps import Engine, Step
from pipeline.models.solvers.weighted import mean_score
from pipeline.models.starts import uniform_rows

__all__ = ["fit_als", "start_als"]

_LEAST = 1e-22  # of the largest score: float32 has the products of smaller ones with their factors no more


def start_als(
    user_items: UserItems, k: int, objective: Objective, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """W (n_users, k) and H (n_items, k), uniform from 0, so that the mean product is the mean score that fits best."""
    size = np.float32(2 * math.sqrt(mean_score(user_items.scores, objective) / k))
    return (
        size * uniform_rows(user_items.users, k, seed, "users"),
        size * uniform_rows(user_items.items, k, seed, "items"),
    )


def fit_als(
    user_items: UserItems,
    k: int,
    objective: Objective,
    seed: int,
    *,
    transform: str = "none",
    n_threads: int | None = None,
    engine: Engine | None = None,
    **limits: Any,
) -> tuple[FactorModel, AlsResult]:
    """The model of this matrix, whose scores `transform` has been applied to.

    engine : carries out the half-steps, and the last one; default, this process
    limits : as in `factorize_als`

    Raises InputError for scores whose products pass the largest float32, or fall below the smallest.
    """
    x = user_items.scores
    largest = x.data.max(initial=0.0)
    if 0 < largest < _LEAST:
        raise InputError(
            f"The scores are too small to be factorised in float32 (the largest is {largest:g}): scale them up, or "
            "take --transform binary"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        W, H = start_als(user_items, k, objective, seed)
        result = factorize_als(x, W, H, objective, n_threads=n_threads, engine=engine or LOCAL, **limits)
    if not (np.isfinite(result.losses[-1:]).all() and np.isfinite(result.H).all()):
        raise InputError(
            f"The scores are too large to be factorised in float32 (the largest is {x.data.max():g}): "
            "scale them down, or take --transform log1p"
        )
    meta = {
        "model": "als",
        "fold_in": "ridge",
        "objective": objective.as_json(),
        "parameters": {"transform": transform},
    }
    if engine is None:
        rows = FoldIn(result.H, meta, compiled=True).solve(x.indptr, x.indices, x.data, n_threads)
    else:
        rows = _last_rows(engine, x, Ridge(result.H, meta, kernels=True), k)
    return FactorModel(rows, result.H, user_items.users, user_items.items, x, meta), result


def _last_rows(engine: Engine, x: Any, ridge: Ridge, k: int) -> NDArray[np.float32]:
    """W (n_users, k), each row from its own cells alone, with the bits of `FoldIn.solve`."""
    rows = np.zeros((x.shape[0], k), np.float32)
    with engine.open() as at_work:
        users, _ = at_work.sides(x, k, columns=False)
        items, terms = ridge.equations(users.counts)
        step = Step("ridge", (items, terms._replace(lam=terms.lam[:0])), (terms.lam,), (rows,), sums=0)
        at_work.run(users, step)
    return rows
