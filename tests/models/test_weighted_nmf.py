"""The weighted objective against its slow twin: half-steps, loss, gradient at the solution, fold-in, and training."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from support import naive_weighted as naive
from support.fits import fit_nmf

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import aggregate, sort_interactions
from pipeline.errors import InputError, UsageError
from pipeline.jobs.train import _fill
from pipeline.models import weighted_nmf
from pipeline.models.objective import Objective
from pipeline.models.solvers import half_steps, weighted, weighted_half_steps
from pipeline.models.solvers.nmf import factorize
from pipeline.models.solvers.weighted import factorize_weighted, fold_in_weighted, mean_score
from pipeline.models.solvers.weighted_half_steps import WeightedFactor, WeightedHalf
from pipeline.models.weighted_nmf import WeightedNMF, start_weighted
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.threads import ThreadPool
from pipeline.tracking.outbox import PendingRunWriter
from pipeline.training.train import train

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
named = pytest.mark.parametrize("o", OBJECTIVES, ids=lambda o: "-".join(str(v) for v in dataclasses.astuple(o)))


def problem(rows=25, columns=18, k=4, dtype=np.float64, seed=0, density=0.3):
    """X with an empty row and column, a full row and stored zeros; the same with NaN for "not observed"; a start."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 11, (rows, columns)) / 2
    seen = rng.random((rows, columns)) < density
    if rows > 3 and columns > 3:
        seen[1], seen[2], seen[:, 3] = False, True, False
    dense = np.where(seen, scores, np.nan)
    u, i = np.nonzero(seen)
    X = sparse.csr_matrix((scores[u, i].astype(dtype), (u, i)), shape=(rows, columns))
    assert X.nnz == seen.sum()
    return X, dense, rng.random((rows, k)).astype(dtype), rng.random((k, columns)).astype(dtype)


def as_start(W, H, o):
    """With the fixed components as they are fixed."""
    W, H = W.copy(), H.copy()
    if o.biases:
        W[:, -2], H[-1] = 1, 1
    return W, H


def halved(X, W, H, o, sweeps, items):
    """One half-step of the solver → the rows, and Σ ½ w·A·w − b·w."""
    W, H = as_start(W, H, o)
    X, W, H = (X.T.tocsr(), H.T, W.T) if items else (X, W, H)
    k = W.shape[1]
    half = WeightedHalf.of(X, k, o, items=items)
    facing = WeightedHalf.of(X.T.tocsr(), k, o, items=not items)
    mine, other = WeightedFactor.of(np.ascontiguousarray(W)), WeightedFactor.of(np.ascontiguousarray(H.T))
    with ThreadPool(1) as threads:
        facing.keep(threads, other, other.new, other.own, 0.0)
        value = half.sweep(threads, other, mine.own, mine.new, sweeps)
    assert not mine.new[:, k:].any()
    return mine.new[:, :k], value


@named
@pytest.mark.parametrize("items", [False, True])
def test_sweeps_are_the_naive_twins(o, items):
    X, dense, W, H = problem()
    solved, value = halved(X, W, H, o, 3, items)
    start_W, start_H = as_start(W, H, o)
    if items:
        expected = naive.sweep(dense.T, start_W, start_H.T, o, True, 3)
        at = naive.loss(dense, start_W, expected.T, o)
        rest = naive.loss(dense, start_W, np.zeros_like(start_H), dataclasses.replace(o, alpha_H=0.0))
    else:
        expected = naive.sweep(dense, start_H.T, start_W, o, False, 3)
        at = naive.loss(dense, expected, start_H, o)
        rest = naive.loss(dense, np.zeros_like(start_W), start_H, dataclasses.replace(o, alpha_W=0.0))
    np.testing.assert_allclose(solved, expected, rtol=1e-8, atol=1e-10)
    constant = 0.0
    if o.biases:
        sizes = naive.lam(dense.T, o.alpha_H, o) if items else naive.lam(dense, o.alpha_W, o)
        constant = 0.5 * o.bias_prior**2 * sizes.sum()
    assert value + rest + constant == pytest.approx(at, rel=1e-9)


@pytest.mark.parametrize(("rows", "columns", "k"), [(1, 1, 1), (3, 200, 5), (200, 3, 17), (40, 30, 33), (9, 70, 64)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_width_of_rows_and_factors(rows, columns, k, dtype):
    X, dense, W, H = problem(rows, columns, k, dtype, density=0.7)
    o = Objective(0.3, 0.5, 0.05, 0.03, 0.1)
    close = {"rtol": 1e-8, "atol": 1e-10} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    np.testing.assert_allclose(halved(X, W, H, o, 1, False)[0], naive.sweep(dense, H.T, W, o), **close)


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
    monkeypatch.setattr(half_steps, "PIECE", 200)
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


@settings(max_examples=40, deadline=None)
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


# ---- the estimator ------------------------------------------------------------------------------------


def test_the_estimator_is_the_solver_behind_checks():
    X, dense, *_ = problem(dtype=np.float32)
    model = WeightedNMF(5, unobserved_weight=0, biases=True, alpha_W=0.1, random_state=3, max_iter=400)
    W = model.fit_transform(X)
    assert np.array_equal(model.transform(X), W)
    assert model.components_.dtype == W.dtype == np.float32
    assert model.components_.shape == (5, 18)
    assert model.objective_ == Objective(
        0.0, alpha_W=0.1, alpha_H=0.1, biases=True, bias_prior=pytest.approx(np.nanmean(dense) / 2)
    )
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert np.nanmean((model.inverse_transform(W) - dense) ** 2) < 0.5 * np.nanvar(dense)
    again = clone(model)
    assert np.array_equal(again.fit(X).components_, model.components_)
    assert list(model.get_feature_names_out()) == [f"weightednmf{t}" for t in range(5)]
    coo, wide = X.tocoo(), sparse.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for same in (coo, X.tocsc(), wide):
        assert np.array_equal(again.fit_transform(same), W)


def test_the_estimator_refuses():
    X, dense, *_ = problem()
    model = WeightedNMF(3, random_state=0)
    with pytest.raises(TypeError, match="A dense X does not say which of its zeros were observed"):
        model.fit(np.nan_to_num(dense))
    with pytest.raises(ValueError, match="must be fitted"):
        model.transform(X)
    for value, what in ((-1.0, "Negative values"), (np.nan, "contains NaN"), (np.inf, "contains infinity")):
        bad = X.copy()
        bad.data[0] = value
        with pytest.raises(ValueError, match=what):
            model.fit(bad)
    with pytest.raises(ValueError, match="'unobserved_weight' parameter"):
        WeightedNMF(3, unobserved_weight=1.5).fit(X)
    with pytest.raises(UsageError, match="they need unobserved_weight = 0"):
        WeightedNMF(3, biases=True).fit(X)
    with pytest.raises(ValueError, match="The scores are too large for float32"):
        WeightedNMF(3, unobserved_weight=0.5).fit((X * 1e37).astype(np.float32))
    with pytest.warns(ConvergenceWarning, match="Maximum number of iterations 2"):
        fitted = WeightedNMF(3, unobserved_weight=0.1, max_iter=2).fit(X)
    with pytest.raises(TypeError, match="same dtype"):
        fitted.transform(X.astype(np.float32))


def test_duplicates_are_summed_in_a_copy():
    X = sparse.csr_matrix(([1.0, 2.0, 3.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    model = WeightedNMF(1, unobserved_weight=0.1, random_state=0, tol=0, max_iter=50)
    assert np.array_equal(model.fit_transform(X), model.fit_transform(sparse.csr_matrix([[3.0, 0], [0, 3.0]])))
    assert X.nnz == 3


# ---- training -----------------------------------------------------------------------------------------


def starred(seed=0):
    """Ratings of users and items with levels of their own and two tastes."""
    rng = np.random.default_rng(seed)
    u, i = np.divmod(rng.choice(80 * 60, 2400, replace=False), 60)
    stars = 3.2 + rng.normal(0, 0.6, 80)[u] + rng.normal(0, 0.6, 60)[i] + np.where(u % 2 == i % 2, 0.7, -0.7)
    return Interactions.of(u, i, np.clip(np.round(2 * (stars + rng.normal(0, 0.2, 2400))) / 2, 0.5, 5))


def test_ratings_are_predicted_by_the_observed_cells_alone():
    x = starred()
    errors = {}
    for name, options in {
        "plain": {"n_components": 4},
        "masked": {"n_components": 4, "unobserved_weight": 0.0, "alpha_W": 0.1},
        "levels": {"n_components": 2, "unobserved_weight": 0.0, "biases": "yes", "alpha_W": 0.02},
        "biases": {"n_components": 6, "unobserved_weight": 0.0, "biases": "yes", "alpha_W": 0.1, "reg_exponent": 0.8},
    }.items():
        trained = train(x, TrainOptions(**options))
        errors[name] = trained.report.metrics["holdout/rmse"]
        assert (trained.estimator() is None) == (name != "plain")
    assert errors["biases"] < min(0.75 * errors["levels"], errors["masked"])
    assert errors["levels"] < 1 < errors["plain"]


def test_what_is_trained_says_its_objective_and_folds_in(tmp_path):
    spec = TrainOptions(n_components=5, unobserved_weight=0.0, biases="yes", alpha_W=0.05, alpha_H=0.1, confidence=0.1)
    first, other = train(starred(), spec), train(starred(), spec)
    assert first.model.user_factors.tobytes() == other.model.user_factors.tobytes()
    o = Objective.from_json(first.model.meta["objective"])
    prior = first.matrix.scores.data.mean(dtype=np.float64) / 2
    assert o == Objective(0.0, 0.1, 0.05, 0.1, biases=True, bias_prior=pytest.approx(prior))
    scorer = Scorer.load(first.model.save(tmp_path / "model"))
    assert Objective.from_json(scorer.model.meta["objective"]) == o
    W = fold_in_weighted(first.matrix.scores, np.ascontiguousarray(first.model.item_factors), o)
    assert np.array_equal(W, first.model.user_factors)
    stars = scorer.predict(3, [1, 2])
    assert ((stars > 0) & (stars < 6)).all()
    assert Objective.from_json(train(starred(), TrainOptions(alpha_W=0.01)).model.meta["objective"]).plain


def test_the_scikit_learn_model_is_kept_of_its_own_objective_alone(tmp_path):
    facts = {"source": "file", "query": None, "where": "ratings.csv", "name": "file:///x", "notes": ()}
    chosen = SimpleNamespace(**facts, read=SimpleNamespace(n_rows=1), watermark=None)
    for options in ({}, {"unobserved_weight": 0.5}):
        with PendingRunWriter(tmp_path, "a" * 32, "a name", "a store", 0) as draft:
            _fill(draft, train(starred(), TrainOptions(max_iter=5, **options)), chosen, "")
            pending = draft.keep()
        pending.close()
        assert (pending.facts["estimator"] is not None) == (not options)
        assert (pending.folder / "model" / "user_features.npy").is_file()


def test_implicit_feedback_ranks():
    x = starred()
    liked = x.take(x.scores >= 3.5)
    for options in ({"unobserved_weight": 0.3, "alpha_W": 0.1}, {"confidence": 2.0}, {"reg_exponent": 0.0}):
        trained = train(liked, TrainOptions(n_components=3, transform="binary", **options))
        metrics = trained.report.metrics
        assert metrics["holdout/ndcg_at_10"] > metrics["baseline/popular/ndcg_at_10"]
        assert (np.diff(trained.losses) <= 0).all()


def test_other_starts_and_what_is_too_large():
    X, *_ = problem(dtype=np.float32)
    for init in ("nndsvd", "nndsvda", "nndsvdar"):
        assert WeightedNMF(3, unobserved_weight=0.2, init=init, max_iter=20, tol=0).fit(X).loss_curve_[-1] > 0
    with pytest.raises(UsageError, match="init = nndsvd knows nothing of biases"):
        WeightedNMF(3, unobserved_weight=0.0, biases=True, init="nndsvd").fit(X)
    with pytest.raises(UsageError, match="init = 'nndsvd' can only be used"):
        fit_nmf(X, "fast", unobserved_weight=0.2, n_components=100, init="nndsvd")
    biased = {"unobserved_weight": 0.0, "biases": "yes", "alpha_W": 0.3, "alpha_H": 0.2}
    for options in ({"unobserved_weight": 0.2}, {"unobserved_weight": 0.0, "confidence": 1e30}, biased):
        with pytest.raises(InputError, match="float32"):
            fit_nmf(X * np.float32(1e37), "fast", n_components=3, **options)
    assert weighted_nmf.with_prior(Objective(0.2), X).bias_prior == 0


# ---- a start of the caller's ---------------------------------------------------------------------------


def test_a_warm_start_goes_on_where_a_fit_ended():
    X = sparse.random(60, 40, 0.2, "csr", np.float64, rng=np.random.default_rng(2))
    how = {"n_components": 4, "unobserved_weight": 0.1, "alpha_W": 0.01, "random_state": 0, "tol": 0}
    cold = WeightedNMF(**how, max_iter=30)
    W = cold.fit_transform(X)
    before = W.copy(), cold.components_.copy()
    warm = WeightedNMF(**how, init="custom", max_iter=1)
    warm.fit_transform(X, W=W, H=cold.components_)
    assert warm.loss_curve_[0] <= cold.loss_curve_[-1] * (1 + 1e-9)
    assert (before[0] == W).all()
    assert (before[1] == cold.components_).all()
    again = WeightedNMF(**how, max_iter=3)
    given = WeightedNMF(**how, init="custom", max_iter=3)
    start = start_weighted(X, 4, Objective(0.1, alpha_W=0.01, alpha_H=0.01), 0)
    assert (given.fit_transform(X, W=start[0], H=start[1]) == again.fit_transform(X)).all()


def test_a_start_that_does_not_fit_is_refused():
    X = sparse.random(6, 5, 0.5, "csr", np.float64, rng=np.random.default_rng(2))
    W, H = np.ones((6, 2)), np.ones((2, 5))
    model = WeightedNMF(2, unobserved_weight=0.1, init="custom")
    for bad in ({"W": W, "H": np.ones((3, 5))}, {"W": -W, "H": H}, {"W": W * 0, "H": H}):
        with pytest.raises(ValueError, match="WeightedNMF"):
            model.fit_transform(X, **bad)
    with pytest.raises(TypeError, match="same dtype"):
        model.fit_transform(X, W=W.astype(np.float32), H=H)
    with pytest.warns(RuntimeWarning, match="init!='custom'"):
        WeightedNMF(2, unobserved_weight=0.1, max_iter=2, tol=0).fit(X, W=W, H=H)
