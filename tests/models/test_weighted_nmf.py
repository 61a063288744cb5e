"""The weighted objective against its slow twin: half-steps, loss, gradient at the solution, fold-in, and training."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import naive_weighted as naive
from support.examples import examples
from support.weighted_problems import problem, starred

from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import aggregate, sort_interactions
from pipeline.errors import UsageError
from pipeline.models import weighted_nmf
from pipeline.models.objective import Objective
from pipeline.models.solvers import half_steps, weighted, weighted_half_steps
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.nmf import factorize
from pipeline.models.solvers.weighted import factorize_weighted, fold_in_weighted, mean_score
from pipeline.models.solvers.weighted_half_steps import WeightedFactor, WeightedHalf
from pipeline.models.weighted_nmf import start_weighted

BIASED = Objective(0.0, 0.0, 0.3, 0.2, biases=True, bias_prior=1.6)
OBJECTIVES = [
    *(
        Objective(w, c, 0.05, 0.03, rho, nu)
        for w, c, nu, rho in itertools.product((0.0, 0.01, 0.3, 1.0), (0.0, 2.0), (0.0, 0.5, 1.0), (0.0, 0.4))
    ),
    Objective(0.2),
    Objective(1.0, dislike_weight=5.0),
    *(dataclasses.replace(BIASED, confidence=c, l1_ratio=rho, reg_exponent=nu)
      for c, rho, nu in ((0.0, 0.0, 1.0), (0.5, 0.4, 0.0), (2.0, 0.0, 0.5))),
]  # fmt: skip
FEW = [Objective(0.3, 2.0, 0.05, 0.03, 0.4, 0.5, dislike_weight=3.0), Objective(0.0, 0.0, 0.1, 0.1), BIASED]


def id_of(o):
    return "-".join(str(v) for v in dataclasses.astuple(o))


named = pytest.mark.parametrize("o", OBJECTIVES, ids=id_of)


def as_start(W, H, o):
    """With the fixed components as they are fixed."""
    W, H = W.copy(), H.copy()
    if o.biases:
        W[:, -2], H[-1] = 1, 1
    return W, H


def halved(X, W, H, o, sweeps, items, way=WeightedHalf.sweep):
    """One half-step of the solver → the rows, and Σ ½ w·A·w − b·w."""
    W, H = as_start(W, H, o)
    X, W, H = (X.T.tocsr(), H.T, W.T) if items else (X, W, H)
    k = W.shape[1]
    half = WeightedHalf.of(X, k, o, items=items)
    facing = WeightedHalf.of(X.T.tocsr(), k, o, items=not items)
    mine, other = WeightedFactor.of(np.ascontiguousarray(W)), WeightedFactor.of(np.ascontiguousarray(H.T))
    with LOCAL.open(1) as engine:
        facing.keep(engine.threads, other, other.new, other.own, 0.0)
        value = way(half, engine, other, mine.own, mine.new, sweeps)
    assert not mine.new[:, k:].any()
    return mine.new[:, :k], value


@named
@pytest.mark.parametrize("items", [False, True])
def test_sweeps_are_the_naive_twins(o, items):
    sides_agree(o, items, "sweep")


@pytest.mark.parametrize("o", [o for o in OBJECTIVES if not o.biases], ids=id_of)
@pytest.mark.parametrize("items", [False, True])
def test_steps_are_the_naive_twins_without_fixed_components(o, items):
    sides_agree(o, items, "step")


def sides_agree(o, items, way):
    X, dense, W, H = problem()
    solved, value = halved(X, W, H, o, 3, items, getattr(WeightedHalf, way))
    improve = getattr(naive, way)
    start_W, start_H = as_start(W, H, o)
    if items:
        expected = improve(dense.T, start_W, start_H.T, o, True, 3)
        at = naive.loss(dense, start_W, expected.T, o)
        rest = naive.loss(dense, start_W, np.zeros_like(start_H), dataclasses.replace(o, alpha_H=0.0))
    else:
        expected = improve(dense, start_H.T, start_W, o, False, 3)
        at = naive.loss(dense, expected, start_H, o)
        rest = naive.loss(dense, np.zeros_like(start_W), start_H, dataclasses.replace(o, alpha_W=0.0))
    np.testing.assert_allclose(solved, expected, rtol=1e-8, atol=1e-10)
    constant = 0.0
    if o.biases:
        sizes = naive.lam(dense.T, o.alpha_H, o) if items else naive.lam(dense, o.alpha_W, o)
        constant = 0.5 * o.bias_prior**2 * sizes.sum()
    assert value + rest + constant == pytest.approx(at, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "columns", "k"), [(1, 1, 1), (3, 200, 5), (200, 3, 17), (40, 30, 33), (9, 70, 64), (2, 600, 250)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_width_of_rows_and_factors(rows, columns, k, dtype):
    X, dense, W, H = problem(rows, columns, k, dtype, density=0.7)
    o = Objective(0.3, 0.5, 0.05, 0.03, 0.1)
    close = {"rtol": 1e-8, "atol": 1e-10} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    np.testing.assert_allclose(halved(X, W, H, o, 1, False)[0], naive.sweep(dense, H.T, W, o), **close)
    stepped = halved(X, W, H, o, 2, False, WeightedHalf.step)[0]
    np.testing.assert_allclose(stepped, naive.step(dense, H.T, W, o, steps=2), **close)


@named
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_w_solves_its_half_against_the_final_h(o, dtype):
    X, dense, W, H = problem(dtype=dtype)
    fitted = factorize_weighted(X, W, H, o, max_iter=10, tol=0)
    rel = 1e-9 if dtype == np.float64 else 1e-5
    assert naive.kkt(dense, fitted.H.T, fitted.W, o) < (1e-8 if dtype == np.float64 else 1e-6)
    assert fitted.loss == pytest.approx(math.sqrt(2 * naive.loss(dense, fitted.W, fitted.H, o)), rel=rel)
    assert fitted.loss <= fitted.losses[-1] * (1 + rel)
    assert fitted.losses == sorted(fitted.losses, reverse=True)
    assert fitted.W.dtype == fitted.H.dtype == dtype
    assert np.array_equal(fold_in_weighted(X, fitted.H, o), fitted.W)
    picked = [5, 24, 2, 1]
    assert np.array_equal(fold_in_weighted(X[picked], fitted.H, o), fitted.W[picked])
    if o.biases:
        assert (fitted.W[:, -2] == 1).all()
        assert (fitted.H[-1] == 1).all()


@pytest.mark.parametrize("o", FEW)
def test_at_the_end_both_halves_are_solved(o):
    X, dense, W, H = problem(k=3)
    fitted = factorize_weighted(X, W, H, o, max_iter=3000, tol=0)
    assert naive.kkt(dense, fitted.H.T, fitted.W, o) < 1e-6
    assert naive.kkt(dense.T, fitted.W, fitted.H.T, o, items=True) < 1e-5


def test_the_gradient_is_the_losss():
    _, dense, W, H = problem(6, 5, 4)
    for o in FEW:
        W, H = as_start(W, H, o)
        slope = naive.gradient(dense, H.T, W, o)
        for u, t in itertools.product(range(6), range(4)):
            if naive.roles(4, o, items=False)[t] != "fixed":
                ahead, behind = W.copy(), W.copy()
                ahead[u, t] += 1e-5
                behind[u, t] -= 1e-5
                numeric = (naive.loss(dense, ahead, H, o) - naive.loss(dense, behind, H, o)) / 2e-5
                assert slope[u, t] == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_with_the_dial_at_1_it_is_the_plain_objective():
    X, dense, W, H = problem()
    plain = Objective(alpha_W=0.02, alpha_H=0.01, l1_ratio=0.3)
    near = dataclasses.replace(plain, unobserved_weight=1 - 1e-12)
    assert plain.plain
    assert not near.plain
    ours, theirs = (factorize_weighted(X, W, H, o, max_iter=20, tol=0) for o in (near, plain))
    solved = factorize(X, W, H, penalty=weighted._plain_penalty(plain, *X.shape), max_iter=20, tol=0)
    assert np.array_equal(theirs.W, solved.W)
    assert theirs.losses == solved.losses
    assert np.array_equal(fold_in_weighted(X, theirs.H, plain), theirs.W)
    for fit in (ours, theirs):
        assert fit.loss == pytest.approx(math.sqrt(2 * naive.loss(dense, fit.W, fit.H, plain)), rel=1e-9)
    np.testing.assert_allclose(fold_in_weighted(X, theirs.H, near), theirs.W, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("o", FEW)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(monkeypatch, o, dtype):
    monkeypatch.setattr(half_steps, "PIECE", 50)
    monkeypatch.setattr(weighted_half_steps, "PIECE", 200)
    X, _, W, H = problem(150, 120, 8, dtype)
    assert len(half_steps.Cells.of(X, 8).cuts) > 10
    first = factorize_weighted(X, W, H, o, max_iter=6, n_threads=1)
    assert np.array_equal(fold_in_weighted(X[40:90], first.H, o, n_threads=2), first.W[40:90])
    for n in (2, 5):
        other = factorize_weighted(X, W, H, o, max_iter=6, n_threads=n)
        assert np.array_equal(first.W, other.W)
        assert np.array_equal(first.H, other.H)
        assert first.losses == other.losses


def test_what_overshoots_is_taken_back():
    # A long extrapolation makes the loss rise: what is told never does, and what is returned is the best.
    X, dense, W, H = problem(60, 50, 6, density=0.2)
    for o in FEW:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weighted, "BETA", 5.0)
            fitted = factorize_weighted(X, W, H, o, max_iter=25, tol=0)
        assert fitted.losses == sorted(fitted.losses, reverse=True)
        assert len(set(fitted.losses)) < len(fitted.losses)
        assert fitted.loss == pytest.approx(math.sqrt(2 * naive.loss(dense, fitted.W, fitted.H, o)), rel=1e-9)
        assert fitted.loss <= fitted.losses[-1] * (1 + 1e-12)


def test_an_interrupt_ends_the_fit_where_it_is():
    X, _, W, H = problem()
    calls = []

    def on_iteration(iteration, loss):
        calls.append(iteration)
        if iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factorize_weighted(X, W, H, FEW[0], tol=0, on_iteration=on_iteration)
    assert calls == [1, 2, 3]


def test_it_stops_when_the_loss_falls_no_more():
    X, _, W, H = problem()
    fitted = factorize_weighted(X, W, H, FEW[0], max_iter=2000, tol=1e-3)
    assert fitted.converged
    assert fitted.n_iter == len(fitted.losses) < 200
    assert fitted.losses[-11] - fitted.losses[-1] <= 1e-3 * fitted.losses[-1]
    assert not factorize_weighted(X, W, H, FEW[0], max_iter=5, tol=1e-9).converged


@pytest.mark.parametrize("o", [*FEW, Objective(0.0), Objective(0.5), Objective(0.0, biases=True)])
def test_nothing_to_learn_from(o):
    empty = sparse.csr_matrix((7, 6))
    zeros = sparse.csr_matrix((np.zeros(9), (np.arange(9) % 7, np.arange(9) % 6)), shape=(7, 6))
    for X in (empty, zeros):
        W, H = start_weighted(X, 3, o, 0)
        fitted = factorize_weighted(X, W, H, o, max_iter=5)
        assert np.isfinite(fitted.W).all()
        assert np.isfinite(fitted.H).all()
        assert np.array_equal(fold_in_weighted(X, fitted.H, o), fitted.W)


def test_a_row_of_nothing_observed_is_0_or_the_prior():
    X, _, W, H = problem()
    for o in (Objective(0.0), Objective(0.0, 0.0, 0.1, 0.1, 0.0, 0.0), Objective(0.3)):
        fitted = factorize_weighted(X, W, H, o, max_iter=5)
        assert not fitted.W[1].any()
        assert not fitted.H[:, 3].any()
    fitted = factorize_weighted(X, W, H, BIASED, max_iter=5)
    assert fitted.W[1].tolist() == [0, 0, 1, BIASED.bias_prior]
    assert fitted.H[:, 3].tolist() == [0, 0, BIASED.bias_prior, 1]


def test_biases_and_what_they_need():
    X, _, W, H = problem()
    for weight in (0.1, 1.0):
        with pytest.raises(UsageError, match=r"^biases describe observed scores alone: .* unobserved_weight = 0, got"):
            factorize_weighted(X, W, H, dataclasses.replace(BIASED, unobserved_weight=weight))
    with pytest.raises(UsageError, match="n_components must be at least 2, got 1"):
        factorize_weighted(X, W[:, :1], H[:1], BIASED)
    with pytest.raises(UsageError, match="n_components must be at least 2, got 1"):
        start_weighted(X, 1, BIASED, 0)
    alone = factorize_weighted(X, W[:, :2], H[:2], BIASED, max_iter=100, tol=0)
    assert alone.W.shape == (25, 2)


def test_the_mean_that_fits_best():
    X, dense, _, _ = problem()
    for o in (Objective(), Objective(0.0), Objective(0.2, 3.0)):
        C, T = naive.weights(dense, o)
        assert mean_score(X, o) == pytest.approx((C * T).sum() / C.sum())
    assert mean_score(sparse.csr_matrix((3, 4)), Objective(0.0)) == 0


def test_biases_begin_at_the_means_of_users_and_items():
    matrix = to_matrix(aggregate(sort_interactions(starred()))).scores
    o = weighted_nmf.with_prior(Objective(0.0, biases=True), matrix)
    mean = matrix.data.mean(dtype=np.float64)
    users = np.repeat(np.arange(80), np.diff(matrix.indptr))
    for k in (2, 8):
        W, H = start_weighted(matrix, k, o, 0)
        assert W.dtype == H.dtype == matrix.dtype
        assert (W[:, -2] == 1).all()
        assert (H[-1] == 1).all()
        off = np.einsum("ij,ij->i", W[users], H.T[matrix.indices]) - matrix.data
        assert abs(off.mean()) < 0.02 * mean
        assert off.var() < 0.8 * matrix.data.var()


@settings(max_examples=examples(40))
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(2, 20), st.floats(0, 1), st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]), st.floats(0, 1), st.floats(0, 40), st.sampled_from([0.0, 1e-3, 1.0]),
    st.floats(0, 1), st.floats(0, 1.5), st.booleans(),
)  # fmt: skip
def test_any_matrix_gives_finite_factors_and_a_falling_loss(
    rows, columns, k, density, seed, dtype, weight, confidence, alpha, rho, nu, biases
):
    X, dense, W, H = problem(rows, columns, k, dtype, seed, density)
    o = Objective(0.0 if biases else weight, confidence, alpha, alpha / 2, rho, nu, biases, 1.5 if biases else 0.0)
    for array in (X.data, X.indices, X.indptr, W, H):
        array.flags.writeable = False
    fitted = factorize_weighted(X, W, H, o, max_iter=8)
    for factor in (fitted.W, fitted.H):
        assert np.isfinite(factor).all()
        assert (factor >= 0).all()
    C, T = naive.weights(dense, o)
    size = math.sqrt((C * T * T).sum() + 2 * naive.loss(dense, fitted.W, fitted.H, o)) + 1e-9
    noise = 2e-3 if dtype == np.float32 else 1e-6
    assert fitted.losses == sorted(fitted.losses, reverse=True)
    assert abs(fitted.loss - math.sqrt(2 * naive.loss(dense, fitted.W, fitted.H, o))) <= noise * size
    assert np.array_equal(fold_in_weighted(X, fitted.H, o), fitted.W)
