"""The estimator of the weighted objective, training with it, and a start of the caller's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from support.fits import fit_nmf
from support.weighted_problems import problem, starred

from pipeline.errors import InputError, UsageError
from pipeline.jobs.train import _fill
from pipeline.models import weighted_nmf
from pipeline.models.objective import Objective
from pipeline.models.solvers.weighted import fold_in_weighted
from pipeline.models.weighted_nmf import WeightedNMF, start_weighted
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.training.train import train

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
    read = SimpleNamespace(n_rows=1)
    where = {"source": "file", "query": None, "where": "ratings.csv", "name": "file:///x", "watermark": None}
    chosen = SimpleNamespace(**where, notes=(), read=read)
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
