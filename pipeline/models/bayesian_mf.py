"""Bayesian matrix factorisation of ratings by Gibbs sampling: no learning rate and no regularisation to choose.

    r_ui ~ N(μ + b_u + b_i + p_u·q_i, 1/α)      x_u = (p_u, b_u) ~ N(m_U, Λ_U⁻¹)      y_i = (q_i, b_i) ~ N(m_I, Λ_I⁻¹)

with a Normal-Wishart prior of (m, Λ) and a gamma prior of α (Salakhutdinov & Mnih 2008; Rendle, Zhang, Koren 2019 for
how well it does). An iteration draws (m_U, Λ_U), all x, (m_I, Λ_I), all y and α, each given the others. Biases are
drawn along with the factors. Scores are in the units of `rating_rows.Ratings`.

Rows are drawn as ridge regressions. With Λ = L·Lᵀ, x = m + L⁻ᵀz, f_i = (q_i, 1) and o_i = μ + b_i + m·f_i, z is the row
of the regression of √α·(r − o_i) on g_i = √α·L⁻¹f_i with ridge 1 and errors of variance 1. Divided by √α it is the row
of the regression of r − o_i on g_i with the same ridge: so a sample is [g_i, o_i] of every item, and every sample folds
users in with the same ridge (`fold_in.rating`), whatever its m, Λ and α. What is served is the mean over the samples of
the score at the posterior mean of the user's row: a draw of it would only add noise.

Random numbers are drawn by row and by cell before the rows are solved, so threads do not change them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.arguments import CsrRows, RatingRows, RowNoise
from pipeline.models.fold_in.rating import RatingTerms
from pipeline.models.rating_rows import Ratings, known_rows, solve_rows, squared_errors
from pipeline.models.solvers.iterations import Iterations
from pipeline.runtime.blas import one_blas_thread

__all__ = ["BURN_IN", "SAMPLES", "Prior", "Samples", "draw_prior", "sample"]

BURN_IN = 10  # iterations before the first sample
SAMPLES = 32  # that are kept, evenly spaced
_START = 0.1  # standard deviation of the factors at the start
_PULL = 2.0  # rows that the prior of m counts as


class Prior(NamedTuple):
    """Mean m (d,) and precision Λ = L·Lᵀ (d, d) of the rows of one side; `inverse` is L⁻¹."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    inverse: NDArray[np.float64]


class Samples(NamedTuple):
    """Attributes
    ----------
    item_rows : H (samples·(k + 2), n_items) float32, in the units of the scores: of each sample g_i, then o_i
    terms : how users' rows follow from it
    """

    item_rows: NDArray[np.float32]
    terms: RatingTerms


def sample(
    ratings: Ratings, n_components: int, iterations: Iterations, seed: int = 42, n_threads: int | None = None
) -> Samples:
    """Draw `iterations.max_iter` times; the loss of an iteration is the mean squared error of its draw, on the cells.

    The samples are of the iterations after BURN_IN, or of the last half where there are fewer; the last one is kept.
    """
    # Products of a few columns: more threads only wait for each other.
    with one_blas_thread():
        return _sample(ratings, n_components, iterations, seed, n_threads)


def _sample(ratings: Ratings, n_components: int, iterations: Iterations, seed: int, n_threads: int | None) -> Samples:
    rng = np.random.default_rng(seed)
    n, d = ratings.by_user.indices.size, n_components + 1
    P, Q = (np.zeros((side.hi, d), np.float32) for side in (ratings.by_user, ratings.by_item))
    for rows in (P, Q):
        rows[:, :-1] = _START * rng.standard_normal((rows.shape[0], n_components), np.float32)
    alpha = 1.0
    kept: list[NDArray[np.float32]] = []
    due = _due(iterations.max_iter)
    with iterations.interruptible():
        while iterations.left:
            prior = draw_prior(P, rng)
            known = _whitened(Q, prior, alpha)
            if len(iterations.losses) in due:
                kept.append(_in_scores(known, ratings))
            P = _draw(ratings.by_user, known, prior, alpha, rng, n_threads)
            prior = draw_prior(Q, rng)
            Q = _draw(ratings.by_item, _whitened(P, prior, alpha), prior, alpha, rng, n_threads)
            errors = squared_errors(ratings.by_user, P, Q, n_threads)
            alpha = float(rng.gamma(n / 2 + 1, 1 / (errors / 2 + 1)))
            iterations.add(errors / n)
    if not kept or not iterations.interrupted:  # the state after the last iteration is a sample too
        kept.append(_in_scores(_whitened(Q, draw_prior(P, rng), alpha), ratings))
    return Samples(np.concatenate(kept), RatingTerms(len(kept), ratings.spread**2, 0.0))


def draw_prior(rows: NDArray[np.float32], rng: np.random.Generator) -> Prior:
    """Mean and precision given the rows (n, d): the Normal-Wishart posterior with m₀ = 0, W₀ = I, ν₀ = d."""
    n, d = rows.shape
    x = rows.astype(np.float64)
    mean = x.mean(axis=0)
    squares = x.T @ x - n * np.outer(mean, mean)
    scale = np.linalg.inv(np.eye(d) + squares + _PULL * n / (_PULL + n) * np.outer(mean, mean))
    # A Wishart draw by Bartlett's decomposition; the product of lower triangles is Λ's own Cholesky factor.
    lower = np.tril(rng.standard_normal((d, d)), -1) + np.diag(np.sqrt(rng.chisquare(d + n - np.arange(d))))
    root = np.linalg.cholesky((scale + scale.T) / 2) @ lower
    inverse = np.linalg.inv(root).astype(np.float64)
    spread = inverse.T @ rng.standard_normal(d) / np.sqrt(_PULL + n)
    return Prior(n * mean / (_PULL + n) + spread, root @ root.T, inverse)


def _whitened(other: NDArray[np.float32], prior: Prior, alpha: float) -> RatingRows:
    """g and o (less μ) of the rows (n, d) of the other side, for the side with this prior."""
    features = other.copy()
    features[:, -1] = 1
    whitening = (np.sqrt(alpha) * prior.inverse.T).astype(np.float32)
    return known_rows(features @ whitening, other[:, -1] + features @ prior.mean.astype(np.float32))


def _draw(
    cells: CsrRows, known: RatingRows, prior: Prior, alpha: float, rng: np.random.Generator, n_threads: int | None
) -> NDArray[np.float32]:
    """One side's rows (n, d), each from its posterior given the other side, the prior and α."""
    root = np.float32(np.sqrt(alpha))
    scaled = known.rows.copy()
    scaled[:, -1] *= root
    noise = RowNoise(
        rng.standard_normal((cells.hi, known.width), np.float32), rng.standard_normal(cells.data.size, np.float32)
    )
    cells = CsrRows.of(cells.lo, cells.hi, cells.indptr, cells.indices, root * cells.data)
    known = known._replace(rows=scaled)
    z = solve_rows(cells, known, np.ones(cells.hi), n_threads, noise=noise)
    return prior.mean.astype(np.float32) + z @ prior.inverse.astype(np.float32)


def _in_scores(known: RatingRows, ratings: Ratings) -> NDArray[np.float32]:
    """[g, o] (k + 2, n_items) in the units of the scores."""
    rows = ratings.spread * known.rows.T.astype(np.float64)
    rows[-1] += ratings.mean
    return rows.astype(np.float32)


def _due(n_iterations: int) -> frozenset[int]:
    """The iterations, from 0, whose start is a sample; with the end of the last one there are at most SAMPLES."""
    first = min(BURN_IN, n_iterations // 2)
    n = min(SAMPLES, n_iterations - first)
    places = np.linspace(first, n_iterations, n + 1)[1:].round().astype(int)
    return frozenset(places.tolist())
