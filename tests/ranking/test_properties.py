"""What must hold of any data: at least a hundred examples each, through the real training and scoring."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition._nmf import _initialize_nmf
from support import naive_metrics
from support.fits import fit_nmf

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.splits import holdout
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.rating_errors import predict_held_out
from pipeline.models.factor_model import FactorModel
from pipeline.ranking.scorer import Scorer


@st.composite
def matrices(draw):
    """Ratings of a few users, every user and item with at least one, and a number of factors that fits."""
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    n_users, n_items = draw(st.integers(3, 12)), draw(st.integers(3, 14))
    filled = rng.random((n_users, n_items)) < draw(st.sampled_from([0.3, 0.6, 0.9]))
    filled[np.arange(n_users), rng.integers(n_items, size=n_users)] = True
    users, items = np.nonzero(filled)
    at = rng.integers(0, 99, users.size).astype("datetime64[s]")
    x = prepare_interactions(
        Interactions.of(100 + users, 7 * items, rng.integers(0, 11, users.size) / 2, at)
    ).interactions
    return x, draw(st.integers(1, 5)), seed


def fit(x, k, seed, solver="sklearn", max_iter=20):
    matrix = to_matrix(x)
    return matrix, fit_nmf(matrix.scores, solver, n_components=k, max_iter=max_iter, tol=0.0, random_state=seed)


def model_of(matrix, fitted):
    return FactorModel(fitted.user_factors, fitted.item_factors, matrix.users, matrix.items, matrix.scores)


SOLVERS = pytest.mark.parametrize("solver", ["sklearn", "fast"])


@given(matrices())
def test_a_model_predicts_the_same_after_it_was_saved_and_loaded(problem):
    x, k, seed = problem
    model = model_of(*fit(x, k, seed, max_iter=5))
    with tempfile.TemporaryDirectory() as folder:
        again = FactorModel.load(model.save(folder))
    rows, cols = np.divmod(np.arange(len(model.users) * len(model.items)), len(model.items))
    assert again.predict(rows, cols).tobytes() == model.predict(rows, cols).tobytes()
    before, theirs = (Scorer(m).recommend_rows(np.arange(len(model.users)), 5) for m in (model, again))
    assert before.items.tobytes() == theirs.items.tobytes()
    assert before.scores.tobytes() == theirs.scores.tobytes()


@given(matrices(), st.sampled_from(["none", "log1p"]))
def test_held_out_predictions_lie_within_the_range_of_the_scores(problem, transform):
    x, k, seed = problem
    split = holdout(x, 0.3, seed)
    matrix = to_matrix(split.train, transform)
    fitted = fit_nmf(matrix.scores, n_components=k, max_iter=20, tol=0.0, random_state=seed)
    predictions = predict_held_out(Scorer(model_of(matrix, fitted)), split, transform)
    assert predictions.predicted.size == predictions.known.sum()
    assert np.isfinite(predictions.predicted).all()
    low, high = float(split.train.scores.min()), float(split.train.scores.max())
    assert ((predictions.predicted >= low) & (predictions.predicted <= high)).all()


@SOLVERS
@given(matrices())
def test_the_final_loss_is_under_the_initial_one(solver, problem):
    x, k, seed = problem
    matrix, fitted = fit(x, k, seed, solver)
    w, h = _initialize_nmf(matrix.scores, k, init="random", random_state=seed)
    first = naive_metrics.dense_loss(matrix.scores.toarray(), w, h)
    last = naive_metrics.dense_loss(matrix.scores.toarray(), fitted.user_factors, fitted.item_factors)
    # A loss is the root of a difference of squares: near an exact fit, rounding of ‖V‖² in float32 is what is left.
    size = float(np.linalg.norm(matrix.scores.data))
    assert last <= first + 1e-6 * size
    assert fitted.losses[-1] <= fitted.losses[0] + 1e-3 * size
    assert last == pytest.approx(fitted.error, rel=1e-4, abs=1e-3 * size)


@SOLVERS
@given(matrices())
def test_the_factors_have_the_shapes_that_were_asked_for(solver, problem):
    x, k, seed = problem
    matrix, fitted = fit(x, k, seed, solver, max_iter=3)
    assert fitted.user_factors.shape == (len(x.user_ids), k)
    assert fitted.item_factors.shape == (k, len(x.item_ids))
    assert fitted.user_factors.dtype == fitted.item_factors.dtype == np.float32
    assert min(fitted.user_factors.min(), fitted.item_factors.min()) >= 0
    assert model_of(matrix, fitted).n_components == k


@given(matrices(), st.integers(1, 20))
def test_lists_are_of_k_distinct_unseen_items_or_of_all_that_are_left(problem, k):
    x, components, seed = problem
    scorer = Scorer(model_of(*fit(x, components, seed, max_iter=3)))
    seen = naive_metrics.by_user(naive_metrics.pairs(x))
    n_items = len(x.item_ids)
    for user in x.user_ids.values.tolist():
        items, scores = scorer.recommend(user, k)
        listed = items.tolist()
        assert len(listed) == len(set(listed)) == min(k, n_items - len(seen[user]))
        assert not set(listed) & seen[user]
        assert set(listed) <= set(x.item_ids.values.tolist())
        assert (np.diff(scores) <= 0).all()


@given(matrices(), st.integers(1, 6))
def test_metrics_by_hand_are_ours(problem, k):
    """From nothing but the lists that the scorer gives by id."""
    x, components, seed = problem
    split = holdout(x, 0.4, seed)
    scorer = Scorer(model_of(*fit(split.train, components, seed, max_iter=3)))
    held_out = naive_metrics.by_user(naive_metrics.pairs(split.test))
    evaluation = evaluate(scorer, split, (k,))
    values = {name: [] for name in ("precision", "hit_rate", "map", "mrr")}
    twins = {
        "precision": naive_metrics.precision,
        "hit_rate": naive_metrics.hit_rate,
        "map": naive_metrics.average_precision,
        "mrr": naive_metrics.reciprocal_rank,
    }
    for user in evaluation.user_ids.tolist():
        listed = scorer.recommend(user, k)[0].tolist()
        for name, twin in twins.items():
            values[name].append(twin(listed, held_out[user], k))
    assert evaluation.user_ids.tolist() == sorted(held_out)
    for name, mine in values.items():
        if mine:
            assert evaluation.per_user[f"{name}_at_{k}"].tolist() == pytest.approx(mine)
            assert evaluation.metrics[f"{name}_at_{k}"] == pytest.approx(np.mean(mine))
