"""ELSA: steps are the twin's, the model is the same for any threads, and its lists those of the formula."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from models.test_item_knn import matrix
from support.naive_linear import elsa_items, elsa_scores

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError
from pipeline.models import elsa
from pipeline.models.elsa import fit_elsa
from pipeline.models.registry import find
from pipeline.options import TrainOptions
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer

ALGORITHM = find("elsa")


@pytest.fixture
def items(rng):
    """Forty users, each with some of the twenty items of one of two tastes."""
    taste = np.arange(40)[:, None] % 2 == np.arange(20)[None, :] % 2
    return matrix(rng.integers(1, 6, (40, 20)) * (rng.random((40, 20)) < np.where(taste, 0.6, 0.05)))


@pytest.mark.parametrize("n_users", [40, 7])
def test_steps_and_losses_are_the_twins(items, n_users):
    items = matrix(items.scores[:n_users].toarray())
    fit = fit_elsa(items, 3, max_iter=23, tol=0.0, seed=5)
    expected, losses = elsa_items(items.scores.toarray(), 3, 0.1, 23, 5)
    assert fit.losses == pytest.approx(losses, rel=1e-3)
    assert pytest.approx(expected, abs=2e-3) == fit.model.item_factors.T


def test_lists_are_those_of_the_formula(items):
    model = fit_elsa(items, 4, max_iter=60).model
    assert np.linalg.norm(model.item_factors, axis=0) == pytest.approx(1)
    expected = elsa_scores(items.scores.toarray(), model.item_factors.T)
    top = Scorer(model).recommend_rows(np.arange(40), 5)
    taken = np.take_along_axis(expected, top.items.astype(np.int64), axis=1)
    assert top.scores == pytest.approx(taken, rel=1e-5, abs=1e-5)
    best = np.sort(np.where(items.scores.toarray() == 0, expected, -np.inf), axis=1)[:, ::-1][:, :5]
    assert taken == pytest.approx(best, rel=1e-5, abs=1e-5)
    rows, cols = np.nonzero(items.scores.toarray())
    # An item of the history predicts itself, by its own score.
    own = items.scores.toarray()[rows, cols]
    assert model.predict(rows, cols) - own == pytest.approx(expected[rows, cols], abs=1e-4)


def test_it_finds_the_tastes(items):
    fit = fit_elsa(items, 4, max_iter=100)
    assert fit.losses[-10:].mean() < 0.8 * fit.losses[:10].mean()
    top = Scorer(fit.model).recommend_rows(np.arange(40), 3).items
    assert (top % 2 == np.arange(40)[:, None] % 2).mean() > 0.85


def test_the_model_is_the_same_for_any_number_of_threads_and_scale(items, monkeypatch):
    monkeypatch.setattr(elsa, "_USERS", 3)
    monkeypatch.setattr(elsa, "_ITEMS", 7)
    one, three = (fit_elsa(items, 5, max_iter=15, n_threads=n) for n in (1, 3))
    assert one.model.item_factors.tobytes() == three.model.item_factors.tobytes()
    assert one.model.user_factors.tobytes() == three.model.user_factors.tobytes()
    assert one.losses.tobytes() == three.losses.tobytes()
    assert fit_elsa(items, 5, max_iter=15, seed=1).losses.tobytes() != one.losses.tobytes()
    larger = matrix(items.scores.toarray() * 1024)
    assert fit_elsa(larger, 5, max_iter=15).model.item_factors == pytest.approx(one.model.item_factors, abs=1e-6)


def test_a_history_gives_the_training_users_factors_again(items):
    scorer = Scorer(fit_elsa(items, 6, max_iter=20).model)
    history = UserItems(items.scores[3:9], IdMap(np.arange(6)), items.items)
    folded = scorer.for_users(history)
    assert folded.model.user_factors.tobytes() == scorer.model.user_factors[3:9].tobytes()
    user = items.scores[5]
    ranking = scorer.recommend_from(items.items.ids(user.indices), user.data, 4)
    assert ranking.items.tolist() == scorer.recommend(items.users.values[5].item(), 4).items.tolist()


def test_a_score_is_a_sum_over_past_items(items):
    model = fit_elsa(items, 6, max_iter=20).model
    for user, item in ((0, 3), (5, 0), (7, int(items.scores[7].indices[0]))):
        why = explain(model, user, item, n_parts=100)
        own = items.scores[user]
        a = model.item_factors.T.astype(np.float64)
        expected = dict(zip(own.indices.tolist(), (own.data * (a[own.indices] @ a[item])).tolist(), strict=True))
        assert {part.row: part.contribution for part in why.past_items} == pytest.approx(expected)
        assert sum(part.contribution for part in why.past_items) == pytest.approx(why.score, rel=1e-5, abs=1e-6)
        assert (why.n_past_items, why.factors) == (own.nnz, ())


def test_users_without_a_score_above_0_are_harmless(items):
    dense = items.scores.toarray()
    stored = dense != 0
    dense[:3] = 0
    fit = fit_elsa(matrix(dense, stored), 3, max_iter=20)
    assert np.isfinite(fit.losses).all()
    assert (fit.model.user_factors[:3] == 0).all()


def test_it_stops_where_the_loss_no_longer_falls(items):
    fit = fit_elsa(items, 3, max_iter=2000, tol=0.01)
    assert fit.converged
    assert len(fit.losses) < 2000
    assert len(fit.losses) % elsa.PARTS == 0
    assert not fit_elsa(items, 3, max_iter=30, tol=0.0).converged


def interrupt(at, n, loss):
    if n == at:
        raise KeyboardInterrupt


def test_an_interrupt_ends_the_fit_or_keeps_it(items):
    with pytest.raises(KeyboardInterrupt):
        fit_elsa(items, 3, on_iteration=partial(interrupt, 4))
    kept = fit_elsa(items, 3, on_iteration=partial(interrupt, 4), keep_interrupted=True)
    assert kept.interrupted
    assert len(kept.losses) == 4
    assert kept.model.item_factors.tobytes() == fit_elsa(items, 3, max_iter=4).model.item_factors.tobytes()


def test_options_reach_the_fit(items):
    options = TrainOptions(algorithm="elsa", n_components=3, learning_rate=0.02, max_iter=12, random_state=7)
    fitted = ALGORITHM.fit(items, options)
    expected = fit_elsa(items, 3, learning_rate=0.02, max_iter=12, seed=7)
    assert fitted.losses.tobytes() == expected.losses.tobytes()
    assert fitted.facts == {"n_components_used": 3}
    assert fitted.converged, "the number of iterations is its rule"
    assert (fitted.model.meta["fold_in"], fitted.model.meta["model"]) == ("linear", "elsa")
    assert ALGORITHM.components(TrainOptions(algorithm="elsa"), (100_000, 50_000)) == 256
    assert ALGORITHM.components(TrainOptions(algorithm="elsa"), (40, 20)) == 19
    with pytest.raises(InputError, match="smaller --learning-rate"):
        ALGORITHM.fit(items, TrainOptions(algorithm="elsa", learning_rate=1e300, max_iter=5))


def test_the_estimate_grows_with_the_items_and_not_with_their_square():
    from pipeline.models.footprint import Size

    small, large = (Size(10**6, 10**6, 10_000, n) for n in (50_000, 500_000))
    plans = [ALGORITHM.plan(ALGORITHM.default_options(), (size.n_users, size.n_items), 2) for size in (small, large)]
    few, many = (sum(ALGORITHM.footprint(*pair).fit.values()) for pair in zip((small, large), plans, strict=True))
    assert few < many < 11 * few
