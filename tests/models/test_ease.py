"""EASE: primal and dual are the twin's, lists follow the scorer's rules, and what can't be fitted is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.test_item_knn import check_lists, matrices, matrix
from support.naive_linear import ease_scores

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import DoesNotFitError, InputError, UsageError
from pipeline.models import ease, item_item_model, similarity
from pipeline.models.ease import fit_ease
from pipeline.models.footprint import Size
from pipeline.models.registry import find
from pipeline.models.similarity import DenseWeights, DualWeights
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.memory import MemoryLimit

FORMS = {"primal": DenseWeights, "dual": DualWeights}


def fitted(items, regularization, form):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease, "is_dual", lambda shape: form == "dual")
        model = fit_ease(items, regularization)
    assert isinstance(model.similarity, FORMS[form])
    return model


def ridge_scores(x, regularization):
    """The twin's scores by the formula of the paper, for matrices that are too large for the twin."""
    inverse = np.linalg.inv(x.T @ x.astype(np.float64) + regularization * np.eye(x.shape[1]))
    return x @ (np.eye(x.shape[1]) - inverse / np.diag(inverse))


def all_scores(model):
    rows, cols = np.indices((len(model.users), len(model.items)))
    return model.predict(rows.ravel(), cols.ravel()).reshape(rows.shape)


@pytest.mark.parametrize("form", FORMS)
@given(items=matrices(), regularization=st.sampled_from([0.5, 2.0, 300.0]), block=st.integers(1, 900))
def test_scores_and_lists_are_the_twins(form, items, regularization, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_item_model, "BLOCK_BYTES", block)
        patch.setattr(ease, "_BLOCK_BYTES", block)
        patch.setattr(ease, "_ROWS", 1 + block % 4)
        patch.setattr(similarity, "_COLUMNS", 1 + block % 5)
        model = fitted(items, regularization, form)
        expected = ease_scores(items.scores.toarray(), regularization)
        scores = all_scores(model)
        assert scores == pytest.approx(expected, rel=1e-6, abs=1e-6)
        check_lists(Scorer(model), scores, items, k=3)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_primal_and_dual_are_equal_and_the_smaller_is_taken(shape, rng):
    dense = rng.integers(0, 6, shape) * (rng.random(shape) < 0.3)
    items = matrix(dense)
    primal, dual = (all_scores(fitted(items, 5.0, form)) for form in FORMS)
    assert dual == pytest.approx(primal, rel=1e-6, abs=1e-6)
    taken = fit_ease(items, 5.0)
    assert isinstance(taken.similarity, DualWeights if shape[0] < shape[1] else DenseWeights)
    assert all_scores(taken) == pytest.approx(ease_scores(dense, 5.0), rel=1e-6, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(700, 300), (300, 700)])
def test_the_model_is_the_same_for_any_number_of_threads(shape, rng, monkeypatch):
    monkeypatch.setattr(ease, "_ROWS", 64)
    items = matrix(rng.random(shape) < 0.1)
    one, three = (fit_ease(items, 10.0, n_threads=n) for n in (1, 3))
    kernels = [getattr(model.similarity, "kernel", None) for model in (one, three)]
    assert kernels[0] is None or (kernels[0].tobytes() == kernels[1].tobytes() and (kernels[0] == kernels[0].T).all())
    assert all_scores(one).tobytes() == all_scores(three).tobytes()
    # Not `pytest.approx`, which compares in Python, number by number.
    assert np.allclose(all_scores(one), ridge_scores(items.scores.toarray(), 10.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_history_gives_the_training_users_scores_again(form, rng):
    dense = rng.integers(1, 6, (30, 50)) * (rng.random((30, 50)) < 0.3)
    items = matrix(dense)
    scorer = Scorer(fitted(items, 20.0, form))
    folded = scorer.for_users(UserItems(items.scores[5:20], IdMap(np.arange(15)), items.items))
    assert all_scores(folded.model) == pytest.approx(all_scores(scorer.model)[5:20], rel=1e-6)
    rows = np.arange(15)
    assert folded.recommend_rows(rows, 8).items.tolist() == scorer.recommend_rows(rows + 5, 8).items.tolist()
    user = items.scores[7]
    one = scorer.recommend_from(items.items.ids(user.indices), user.data, 8)
    assert one.items.tolist() == folded.recommend(2, 8).items.tolist()
    assert one.scores.tolist() == folded.recommend(2, 8).scores.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_past_items_have_the_twins_shares(form, rng):
    dense = rng.integers(1, 6, (12, 9)) * (rng.random((12, 9)) < 0.4)
    model = fitted(matrix(dense), 3.0, form)
    history = ease_scores(np.eye(9), 3.0, fitted_to=dense)  # the weights: scores of a history of one item
    for user in range(12):
        seen = model.seen[user].indices
        for item in range(9):
            expected = dense[user, seen] * history[seen, item]
            parts = model.parts(user, item)
            assert parts == pytest.approx(expected, rel=1e-6, abs=1e-9)
            assert np.float32(sum(parts.tolist())) == model.predict([user], [item])[0]


def test_the_transform_says_what_is_learned(rng):
    algorithm = find("ease")
    dense = rng.integers(1, 6, (20, 12)) * (rng.random((20, 12)) < 0.4)
    binary = matrix((dense > 0).astype(np.float32))
    options = TrainOptions(algorithm="ease", transform="binary", regularization=4.0)
    model = algorithm.fit(binary, options).model
    assert all_scores(model) == pytest.approx(ease_scores(dense > 0, 4.0), rel=1e-6, abs=1e-6)
    raw = UserItems(matrix(dense).scores[:3], IdMap([1, 2, 3]), binary.items)
    assert all_scores(Scorer(model).for_users(raw).model) == pytest.approx(all_scores(model)[:3], rel=1e-6, abs=1e-6)


def test_the_regularization_goes_with_the_scale_of_the_scores(rng):
    algorithm = find("ease")
    dense = rng.integers(1, 6, (20, 12)) * (rng.random((20, 12)) < 0.4)
    options = TrainOptions(algorithm="ease", regularization=4.0)
    fitted_to = [algorithm.fit(matrix(scale * dense), options) for scale in (1, 8)]
    penalty = 4.0 * np.mean(dense[dense > 0] ** 2.0)
    assert [one.facts["regularization_used"] for one in fitted_to] == pytest.approx([penalty, 64 * penalty])
    small, large = (all_scores(one.model) for one in fitted_to)
    assert small == pytest.approx(ease_scores(dense, penalty), rel=1e-6, abs=1e-6)
    assert large == pytest.approx(8 * small, rel=1e-6, abs=1e-6)
    default = algorithm.fit(matrix(dense > 0), algorithm.default_options())
    assert default.facts["regularization_used"] == 200
    nothing = matrix(np.zeros((3, 2)), stored=np.ones((3, 2), bool))
    assert (all_scores(algorithm.fit(nothing, options).model) == 0).all()


def test_what_makes_no_sense_is_refused():
    items = matrix([[1, 1, 0], [0, 1, 1]])
    with pytest.raises(UsageError, match=r"--regularization above 0, got 0"):
        fit_ease(items, 0.0)
    huge = matrix(np.full((2, 3), 3e38))  # two rows alike, and λ is lost in the sum
    with pytest.raises(InputError, match="too large for it"):
        fit_ease(huge, 1.0)


@pytest.mark.parametrize(("shape", "side"), [((7, 5), "5 items"), ((5, 7), "5 users")])
def test_what_does_not_fit_is_refused_by_name_before_the_fit(monkeypatch, shape, side):
    items = matrix(np.ones(shape))
    need = ease.bytes_needed(shape)
    for free, refused in ((need, False), (need - 1, True)):
        monkeypatch.setattr(ease, "memory_limit", lambda free=free: MemoryLimit(100, 100 + free, "a test"))
        if refused:
            with pytest.raises(DoesNotFitError, match=rf"^EASE needs .* for {side} squared, .* \(a test\)"):
                fit_ease(items, 1.0)
        else:
            fit_ease(items, 1.0)


def test_the_estimate_has_the_square_of_the_smaller_side():
    algorithm = find("ease")
    for users, items in ((50_000, 20_000), (20_000, 50_000)):
        size = Size(10**6, 10**6, users, items)
        plan = algorithm.plan(algorithm.default_options(), (users, items), 2)
        footprint = algorithm.footprint(size, plan)
        assert footprint.fit["inverse"] == 8 * 20_000**2
        assert footprint.fit_seconds > 100
        twice = algorithm.footprint(replace(size, n_users=2 * users, n_items=2 * items), plan)
        assert sum(twice.fit.values()) > 3.5 * sum(footprint.fit.values())
