"""The fit held equal to scikit-learn's, bit for bit; the loss curve held to its definition."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from support import naive_metrics
from support.fits import fit_nmf

from pipeline.errors import InputError, UsageError
from pipeline.models.algorithms.nmf import sklearn_estimator
from pipeline.models.reconstruction import all_cells_errors


def matrix(seed, m, n, density=0.4, kind="stars"):
    """Stars from 0.5 to 5 with some stored zeros, or values of very different size."""
    rng = np.random.default_rng(seed)
    stored = rng.random((m, n)) < density
    stored[0, 0] = True
    values = rng.integers(0, 11, (m, n)) / 2 if kind == "stars" else 10.0 ** rng.integers(-3, 4, (m, n))
    indptr = np.append(0, np.cumsum(stored.sum(axis=1))).astype(np.int32)
    indices = np.nonzero(stored)[1].astype(np.int32)
    return sparse.csr_matrix((values[stored].astype(np.float32), indices, indptr), shape=(m, n))


def theirs(x, **params):
    """(estimator, W) by scikit-learn alone."""
    estimator = NMF(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "invalid value encountered in sqrt")  # its own loss, of an exact fit
        W = estimator.fit_transform(x)
    return estimator, W


def ours(x, **params):
    return fit_nmf(x, **params)


def assert_same(x, **params):
    estimator, W = theirs(x, **params)
    fitted = ours(x, **params)
    assert fitted.user_factors.tobytes() == np.ascontiguousarray(W).tobytes()
    assert fitted.item_factors.tobytes() == np.ascontiguousarray(estimator.components_).tobytes()
    assert fitted.n_iter == estimator.n_iter_
    assert fitted.user_factors.dtype == fitted.item_factors.dtype == np.float32
    assert fitted.user_factors.flags.c_contiguous
    assert fitted.item_factors.flags.c_contiguous
    return fitted, estimator


parameters = st.fixed_dictionaries(
    {
        "n_components": st.integers(1, 6),
        "init": st.sampled_from(["random", "nndsvd", "nndsvda", "nndsvdar"]),
        "max_iter": st.integers(1, 25),
        "tol": st.sampled_from([0.0, 1e-4, 0.05, 0.5]),
        "random_state": st.integers(0, 2**32 - 1),
        "alpha_W": st.sampled_from([0.0, 1e-3, 0.1]),
        "alpha_H": st.sampled_from(["same", 0.0, 1e-2]),
        "l1_ratio": st.sampled_from([0.0, 0.3, 1.0]),
    }
)


# ---- equal to scikit-learn ------------------------------------------------------------------------


@given(
    parameters, st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 14), st.sampled_from(["stars", "magnitudes"])
)
def test_bit_for_bit_whatever_the_parameters(params, seed, m, n, kind):
    x = matrix(seed, m, n, kind=kind)
    if params["init"] != "random":
        params = {**params, "n_components": min(params["n_components"], m, n)}
    assert_same(x, **params)


# Each of these changes the factors, so none can be left out of the fit without a failure.
VARIANTS = {
    "defaults": {},
    "nndsvd": {"init": "nndsvd"},
    "nndsvda": {"init": "nndsvda"},
    "nndsvdar": {"init": "nndsvdar"},
    "seed": {"random_state": 7},
    "one iteration": {"max_iter": 1},
    "early": {"tol": 0.02},
    "k = 1": {"n_components": 1},
    "k > both sides": {"n_components": 60},
    "alpha_W for both": {"alpha_W": 0.01},
    "alpha_W alone": {"alpha_W": 0.01, "alpha_H": 0.0},
    "alpha_H alone": {"alpha_H": 0.01},
    "both": {"alpha_W": 0.01, "alpha_H": 0.02},
    "all L1": {"alpha_W": 0.01, "l1_ratio": 1.0},
    "some L1": {"alpha_W": 0.01, "alpha_H": 0.003, "l1_ratio": 0.4},
    "all away": {"alpha_W": 100.0, "l1_ratio": 1.0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_bit_for_bit(name):
    x = matrix(1, 40, 50)
    defaults = {"n_components": 5, "init": "random", "max_iter": 60, "random_state": 42}
    fitted, _ = assert_same(x, **{**defaults, **VARIANTS[name]})
    if name == "early":
        assert fitted.converged
        assert fitted.n_iter < 60
    if name == "one iteration":
        assert (fitted.n_iter, fitted.converged) == (1, False)
    if name == "all away":
        assert not fitted.user_factors.any()


def test_the_variants_differ():
    x = matrix(1, 40, 50)
    defaults = {"n_components": 5, "init": "random", "max_iter": 60, "random_state": 42}
    factors = [ours(x, **{**defaults, **variant}).user_factors.tobytes() for variant in VARIANTS.values()]
    assert len(set(factors)) == len(VARIANTS)


def test_the_defaults_are_scikit_learns_but_for_init_and_seed():
    x = matrix(2, 20, 30)
    estimator, W = theirs(x, n_components=4, init="random", random_state=42)
    fitted = fit_nmf(x, n_components=4)
    assert fitted.user_factors.tobytes() == W.tobytes()
    assert fitted.n_iter == estimator.n_iter_


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("init", ["random", "nndsvd"])
def test_one_row_or_one_column(m, n, init):
    assert_same(matrix(3, m, n, density=1.0), n_components=1, init=init, random_state=0)


@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda", "nndsvdar"])
def test_a_matrix_of_zeros_has_factors_of_zeros(init):
    x = matrix(4, 5, 6)
    x.data[:] = 0
    fitted, _ = assert_same(x, n_components=3, init=init, random_state=0)
    assert not fitted.user_factors.any()
    assert not fitted.item_factors.any()
    assert (fitted.n_iter, fitted.converged, fitted.losses.tolist()) == (1, True, [0.0])


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
def test_more_factors_than_an_nndsvd_start_has_are_refused_in_scikit_learns_words(init):
    x = matrix(5, 6, 9)
    with pytest.raises(UsageError, match=f"init = '{init}' can only be used when n_components <= min"):
        fit_nmf(x, n_components=7, init=init)
    assert fit_nmf(x, n_components=6, init=init, max_iter=1).n_iter == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the overflow, by numpy
@pytest.mark.parametrize("init", ["random", "nndsvd"])
def test_scores_whose_products_overflow_are_refused_at_once(init):
    x, calls = matrix(5, 20, 30), []
    x.data *= np.float32(5e37)
    with pytest.raises(InputError, match=r"too large to be factorised in float32 \(the largest is 2.5e\+38\): scale"):
        fit_nmf(x, n_components=3, init=init, on_iteration=lambda *args: calls.append(args))
    assert calls == []
    x.data *= np.float32(1e-20)
    assert np.isfinite(fit_nmf(x, n_components=3, init=init).user_factors).all()


def test_the_matrix_is_left_as_it_was():
    x = matrix(6, 12, 10)
    before = [part.copy() for part in (x.data, x.indices, x.indptr)]
    for part in (x.data, x.indices, x.indptr):
        part.flags.writeable = False
    fit_nmf(x, n_components=3, max_iter=5)
    assert all(np.array_equal(a, b) for a, b in zip(before, (x.data, x.indices, x.indptr), strict=True))


@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda", "nndsvdar"])
def test_twice_the_same(init):
    first, two = (fit_nmf(matrix(7, 30, 20), n_components=4, init=init, max_iter=20) for _ in range(2))
    assert first.user_factors.tobytes() == two.user_factors.tobytes()
    assert first.item_factors.tobytes() == two.item_factors.tobytes()
    assert first.losses.tobytes() == two.losses.tobytes()


# ---- convergence ----------------------------------------------------------------------------------


def test_converged_says_whether_tol_was_reached():
    x = matrix(8, 25, 30)
    full = fit_nmf(x, n_components=3, max_iter=5000, tol=1e-3)
    assert full.converged
    assert 2 < full.n_iter < 5000
    # Reached in the very last of the iterations is reached; one fewer is not.
    assert fit_nmf(x, n_components=3, max_iter=full.n_iter, tol=1e-3).converged
    short = fit_nmf(x, n_components=3, max_iter=full.n_iter - 1, tol=1e-3)
    assert not short.converged
    assert short.n_iter == full.n_iter - 1


def test_a_standstill_is_convergence_at_tol_0_too():
    # The penalty takes all of W away in the first iteration: nothing is left to move in the second.
    penalty = {"alpha_W": 1e5, "alpha_H": 0.0, "l1_ratio": 1.0}
    fitted, _ = assert_same(matrix(1, 40, 50), n_components=5, init="random", random_state=42, tol=0.0, **penalty)
    assert (fitted.n_iter, fitted.converged) == (2, True)


# ---- the loss, iteration by iteration ---------------------------------------------------------------


@pytest.mark.parametrize(
    "params", [{}, {"init": "nndsvd"}, {"alpha_W": 0.01, "l1_ratio": 0.5}], ids=["random", "nndsvd", "regularised"]
)
def test_each_loss_is_that_of_the_factors_after_that_iteration(params):
    x = matrix(9, 30, 40)
    losses = ours(x, n_components=4, max_iter=15, tol=0.0, **params).losses
    assert losses.shape == (15,)
    assert losses.dtype == np.float64
    for n in range(1, 16):
        estimator, W = theirs(
            x, n_components=4, max_iter=n, tol=0.0, **{"init": "random", "random_state": 42, **params}
        )
        assert losses[n - 1] == pytest.approx(naive_metrics.dense_loss(x.toarray(), W, estimator.components_), rel=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(2, 20), st.integers(1, 6))
def test_without_regularisation_the_loss_never_rises(seed, m, n, k):
    x = matrix(seed, m, n, density=0.7)
    losses = fit_nmf(x, n_components=k, max_iter=40, tol=0.0).losses
    # float32 factors: a step at the end may be lost in their rounding, which is relative to ‖X‖.
    assert (np.diff(losses) <= 1e-6 * (losses[:-1] + sparse.linalg.norm(x))).all()


def test_with_regularisation_the_whole_objective_never_rises():
    x, alpha_w, alpha_h, l1 = matrix(10, 30, 20), 0.02, 0.01, 0.3
    values = []
    for n in range(1, 25):
        fitted = fit_nmf(x, n_components=4, max_iter=n, tol=0.0, alpha_W=alpha_w, alpha_H=alpha_h, l1_ratio=l1)
        W, H = fitted.user_factors.astype(np.float64), fitted.item_factors.astype(np.float64)
        penalty = x.shape[1] * alpha_w * (l1 * W.sum() + (1 - l1) / 2 * (W**2).sum())
        penalty += x.shape[0] * alpha_h * (l1 * H.sum() + (1 - l1) / 2 * (H**2).sum())
        values.append(fitted.losses[-1] ** 2 / 2 + penalty)
    assert (np.diff(values) <= 1e-5 * values[0]).all()
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("shape", [(60, 80, 3), (30, 20, 1), (90, 100, 2)])
def test_the_loss_of_a_nearly_exact_fit_is_no_rounding(rng, shape):
    m, n, k = shape
    x = sparse.csr_matrix((rng.random((m, k)) @ rng.random((k, n))).astype(np.float32))
    fitted = fit_nmf(x, n_components=k, max_iter=300, tol=0.0)
    true = naive_metrics.dense_loss(x.toarray(), fitted.user_factors, fitted.item_factors)
    assert true < 0.01 * sparse.linalg.norm(x)
    assert fitted.losses[-1] == pytest.approx(true, rel=1e-6)
    # What is shown last is what is logged as reconstruction_error.
    error = all_cells_errors(x, fitted.user_factors, fitted.item_factors).reconstruction_error
    assert fitted.losses[-1] == pytest.approx(error, rel=1e-6)
    assert (np.diff(fitted.losses) <= 1e-6 * sparse.linalg.norm(x)).all()


def test_the_loss_is_told_as_it_comes():
    calls = []
    fitted = fit_nmf(
        matrix(11, 20, 20), n_components=3, max_iter=300, tol=1e-2, on_iteration=lambda *args: calls.append(args)
    )
    assert fitted.converged
    assert calls == list(enumerate(fitted.losses.tolist(), start=1))


def test_an_interrupt_out_of_the_callback_ends_the_fit():
    calls = []

    def stop(n, loss):
        calls.append(n)
        if n == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_nmf(matrix(11, 20, 20), n_components=3, on_iteration=stop)
    assert calls == [1, 2, 3]


# ---- as an estimator ------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5}, {"init": "nndsvda"}])
def test_the_estimator_is_the_one_scikit_learn_would_have_fitted(params):
    x, new = matrix(12, 30, 25), matrix(13, 7, 25)
    params = {"n_components": 4, "init": "random", "max_iter": 200, "random_state": 42, **params}
    fitted, estimator = assert_same(x, **params)
    made = sklearn_estimator(params, fitted.item_factors, fitted.n_iter, fitted.error)
    assert made.get_params() == estimator.get_params()
    assert made.transform(new).tobytes() == estimator.transform(new).tobytes()
    assert made.transform(new.toarray()).shape == (7, 4)
    for name in ("n_components_", "n_features_in_", "n_iter_"):
        assert getattr(made, name) == getattr(estimator, name)
    assert made.reconstruction_err_ == pytest.approx(estimator.reconstruction_err_, rel=1e-5)
    np.testing.assert_array_equal(made.components_, estimator.components_)
    np.testing.assert_array_equal(made.get_feature_names_out(), estimator.get_feature_names_out())
    np.testing.assert_array_equal(made.inverse_transform(fitted.user_factors), fitted.user_factors @ made.components_)
    with pytest.raises(ValueError, match="25 features"):
        made.transform(matrix(13, 7, 24))
