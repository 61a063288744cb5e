"""Biased matrix factorisation of ratings, by stochastic gradient descent or by alternating least squares.

    r̂_ui = μ + b_u + b_i + p_u·q_i

    L = ½ Σ_obs (r − r̂)² + ½ Σ_u λ_u·(‖p_u‖² + b_u²) + ½ Σ_i λ_i·(‖q_i‖² + b_i²)        λ_u = λ·n_u^ν, λ_i likewise

Funk 2006; Koren, Bell, Volinsky 2009; the exponent as in Rendle et al. 2022, §3.3. The usual SGD, whose every step
shrinks what it touches by λ, has ν = 1; ν = ½ needs a third of the factors for the same errors. Scores are in the units
of `rating_rows.Ratings`, so λ and the step do not depend on their scale. Least squares solve a row's factors and bias
together, which is better than biases first and factors of what they leave.

Both end with the users' rows solved exactly, as they are folded in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DivergedError
from pipeline.kernels import compiled
from pipeline.kernels.arguments import RatedCells, RatingRows
from pipeline.models.fold_in.rating import RatingTerms
from pipeline.models.rating_rows import Ratings, known_rows, ridge_of, solve_rows, squared_errors
from pipeline.models.solvers.iterations import Iterations

__all__ = ["BiasedFactors", "Settings", "fit_by_als", "fit_by_sgd", "item_rows", "loss_of"]

START = 0.05  # standard deviation of the factors at the start
EXPONENT = 0.5  # ν


class Settings(NamedTuple):
    """Attributes
    ----------
    n_components : k
    regularization : λ
    learning_rate : of SGD
    """

    n_components: int
    regularization: float
    learning_rate: float = 0.01
    seed: int = 42
    n_threads: int | None = None


class BiasedFactors(NamedTuple):
    """Attributes
    ----------
    P, Q : (n_users, k + 1) and (n_items, k + 1) float32, factors and then the bias
    """

    P: NDArray[np.float32]
    Q: NDArray[np.float32]


def fit_by_sgd(ratings: Ratings, settings: Settings, iterations: Iterations) -> BiasedFactors:
    """One epoch is an iteration; the cells are in another order in each. One thread: the steps depend on their order.

    Raises DivergedError where the steps are too long and the factors grow without end.
    """
    rng = np.random.default_rng(settings.seed)
    P, Q = _start(ratings, settings, rng)
    users, cells = ratings.user_of_cell, ratings.by_user
    order = np.arange(users.size, dtype=np.int32)
    step = np.float32(settings.learning_rate)
    # At each of a row's n cells the step shrinks it by λ_u / n.
    shrink = [
        ridge_of(side, settings.regularization, EXPONENT - 1).astype(np.float32)
        for side in (ratings.by_user, ratings.by_item)
    ]
    kernel = compiled("rating_sgd").epoch
    with iterations.interruptible():
        while iterations.left and not iterations.stalled:
            rng.shuffle(order)
            kernel(RatedCells(order, users, cells.indices, cells.data), P, Q, step, *shrink)
            loss = loss_of(ratings, BiasedFactors(P, Q), settings)
            if not np.isfinite(loss):
                raise DivergedError(
                    f"The factors grow without end: --learning-rate {settings.learning_rate:g} is too large, try "
                    f"{settings.learning_rate / 4:g}"
                )
            iterations.add(loss)
    return BiasedFactors(P, Q)


def fit_by_als(ratings: Ratings, settings: Settings, iterations: Iterations) -> BiasedFactors:
    """An iteration solves all users' rows, and then all items'. The loss never rises but by rounding."""
    P, Q = _start(ratings, settings, np.random.default_rng(settings.seed))
    ridges = [ridge_of(side, settings.regularization, EXPONENT) for side in (ratings.by_user, ratings.by_item)]
    with iterations.interruptible():
        while iterations.left and not iterations.stalled:
            P = solve_rows(ratings.by_user, _side(Q), ridges[0], settings.n_threads)
            Q = solve_rows(ratings.by_item, _side(P), ridges[1], settings.n_threads)
            iterations.add(loss_of(ratings, BiasedFactors(P, Q), settings))
    return BiasedFactors(P, Q)


def loss_of(ratings: Ratings, factors: BiasedFactors, settings: Settings) -> float:
    """L, in the units of the fit."""
    total = squared_errors(ratings.by_user, factors.P, factors.Q, settings.n_threads)
    for rows, cells in zip(factors, (ratings.by_user, ratings.by_item), strict=True):
        ridge = ridge_of(cells, settings.regularization, EXPONENT)
        total += float(ridge @ np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return total / 2


def item_rows(ratings: Ratings, factors: BiasedFactors, settings: Settings) -> tuple[NDArray[np.float32], RatingTerms]:
    """H (k + 2, n_items) in the units of the scores, for users' rows [p_u, b_u, 1]; and how these are solved.

    r̂ = [p, b_u, 1]·[σq, σ, μ + σb_i] with σ the spread: the errors are σ times as large, and so is λ, squared.
    """
    k, spread = settings.n_components, ratings.spread
    h = np.empty((k + 2, factors.Q.shape[0]), np.float32)
    h[:k] = spread * factors.Q[:, :k].T
    h[k] = spread
    h[k + 1] = ratings.mean + spread * factors.Q[:, k].astype(np.float64)
    return h, RatingTerms(1, settings.regularization * spread**2, EXPONENT)


def _start(ratings: Ratings, settings: Settings, rng: np.random.Generator) -> BiasedFactors:
    P, Q = (np.zeros((side.hi, settings.n_components + 1), np.float32) for side in (ratings.by_user, ratings.by_item))
    for rows in (P, Q):
        rows[:, :-1] = START * rng.standard_normal((rows.shape[0], settings.n_components), np.float32)
    return BiasedFactors(P, Q)


def _side(rows: NDArray[np.float32]) -> RatingRows:
    """Factors and bias of one side as what is known to the other side: its own bias is a component, with feature 1."""
    features = rows.copy()
    features[:, -1] = 1
    return known_rows(features, rows[:, -1])
