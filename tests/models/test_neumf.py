"""NeuMF: steps and scores are the twin's, lists are of the factor model's candidates, and a fit is told honestly."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from models.test_item_knn import matrix
from support.naive_neumf import adam_step, loss_of, score
from support.neural_models import neural_model, random_network

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, UsageError
from pipeline.models.neumf import PARTS, Pairs, Settings, fit_neumf, start_weights
from pipeline.models.neural_model import NeuralModel
from pipeline.models.neural_network import Network
from pipeline.models.registry import find
from pipeline.models.saved_model import load_saved_model
from pipeline.models.solvers import neumf as solver
from pipeline.models.solvers.iterations import Iterations
from pipeline.options import TrainOptions
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer

ALGORITHM = find("neumf")
SETTINGS = Settings(learning_rate=0.005, n_threads=1)


@pytest.fixture(scope="module")
def items():
    """Sixty users, each with some of the forty items of one of two tastes; the last has seen every item."""
    rng = np.random.default_rng(3)
    taste = np.arange(60)[:, None] % 2 == np.arange(40)[None, :] % 2
    dense = rng.integers(1, 6, (60, 40)) * (rng.random((60, 40)) < np.where(taste, 0.5, 0.05))
    dense[-1] = 3
    return matrix(dense)


@pytest.fixture(scope="module")
def fit(items):
    """One model for the whole file: JAX takes seconds to begin."""
    iterations = Iterations(200)
    return fit_neumf(items, SETTINGS, iterations), iterations.losses


def made_up(rng, n_users=6, candidates=4):
    """A random model of nine items."""
    return neural_model(rng, matrix((rng.random((n_users, 9)) < 0.3) * 2.0), candidates)


# ---- scores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(5, 3), (4,), (6, 5, 2)])
def test_scores_are_the_twins(rng, layers):
    network = random_network(rng, layers=layers)
    factors = rng.normal(size=(4, 3)).astype(np.float32)
    of, cols = (side.ravel() for side in np.indices((4, 9)))
    expected = [score(network.weights, factors[u], i) for u, i in zip(of, cols, strict=True)]
    assert network.scores(factors, of, cols) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_score_does_not_depend_on_the_pairs_beside_it(rng):
    network = random_network(rng, 20, 700, 32, (64, 32, 16))
    factors = rng.normal(size=(5, 20)).astype(np.float32)
    of, cols = rng.integers(0, 5, 1500), rng.integers(0, 700, 1500)
    together = network.scores(factors, of, cols)
    for some in (slice(3, 4), slice(500, 530), slice(1400, 1500), slice(None, None, -1)):
        assert network.scores(factors, of[some], cols[some]).tobytes() == together[some].tobytes()
        users, rows = np.unique(of[some], return_inverse=True)
        assert network.scores(factors[users], rows, cols[some]).tobytes() == together[some].tobytes()


# ---- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4, 7])
def test_lists_are_the_best_of_the_factor_models_best_unseen_items(rng, k):
    model = made_up(rng, n_users=150)  # more than a block
    hidden = np.array([1, 5], np.int32)
    top = Scorer(model).recommend_rows(np.arange(150), k, deny=hidden)
    by_factors = model.user_factors @ model.item_factors
    for row in range(150):
        left = sorted(set(range(9)) - set(model.seen[row].indices.tolist()) - set(hidden.tolist()))
        proposed = sorted(left, key=lambda i: (-by_factors[row, i], i))[: max(4, k)]
        scores = dict(zip(proposed, model.predict([row] * len(proposed), proposed).tolist(), strict=True))
        best = sorted(proposed, key=lambda i: (-scores[i], i))[:k]
        assert top.items[row].tolist() == best + [-1] * (k - len(best))
        assert top.scores[row, : len(best)].tolist() == [scores[i] for i in best]


def test_ties_go_by_id_and_lists_are_the_same_compiled_and_not(rng):
    model = made_up(rng, candidates=9)
    flat = {name: np.zeros_like(array) for name, array in model.network.weights.items()}
    model = NeuralModel(
        model.user_factors, model.item_factors, Network(flat, (5, 3)), model.users, model.items, model.seen
    )
    for compiled in (True, False):
        top = Scorer(model, compiled=compiled).recommend_rows(np.arange(6), 9)
        for row in range(6):
            left = sorted(set(range(9)) - set(model.seen[row].indices.tolist()))
            assert top.items[row].tolist() == left + [-1] * (9 - len(left))


@pytest.mark.slow
def test_who_has_seen_everything_gets_an_empty_list(fit, items):
    model, _ = fit
    assert Scorer(model).recommend(items.users.values[-1].item()).items.tolist() == []
    nobody = UserItems(items.scores[:1] * 0, IdMap([5]), items.items)
    nobody.scores.eliminate_zeros()
    assert len(Scorer(model).for_users(nobody).recommend(5, 4).items) == 4


# ---- fits -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_steps_and_losses_are_the_twins(rng):
    layers = (3, 2)
    weights = dict(random_network(rng, 2, 4, 2, layers).weights)
    factors = rng.normal(size=(6, 2)).astype(np.float32)
    cols, labels = rng.integers(0, 4, 6).astype(np.int32), np.array([1, 0, 1, 0, 0, 1], np.float32)
    counts = np.array([1, 2, 0.5, 0, 1, 1], np.float32)
    kept = tuple((rng.random((6, units)) > 0.3).astype(np.uint8) for units in layers)
    embeddings = Network(weights, layers).embeddings(factors)
    steps = solver.Steps({name: a for name, a in weights.items() if name != "user_scale"}, 0.01, 0.5)
    state, expected = {}, weights
    pairs = (factors, cols, labels, counts, [layer * 2.0 for layer in kept])
    for t in range(1, 4):
        loss = float(steps.take(solver.Batch(embeddings, cols, labels, counts, kept)))
        assert loss == pytest.approx(loss_of(expected, *pairs), rel=1e-4)
        expected = adam_step(expected, state, t, 0.01, *pairs)
    for name, array in steps.weights().items():
        assert array == pytest.approx(expected[name], abs=2e-4), name


@pytest.mark.slow
def test_the_start_ranks_as_the_factor_model(rng):
    W, H = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(3, 11)).astype(np.float32)
    settings = Settings(embedding=5, layers=(4,))
    network = Network(start_weights(W, H, settings, rng), (4,))
    of, cols = (side.ravel() for side in np.indices((7, 11)))
    scores = network.scores(W, of, cols).reshape(7, 11)
    assert (np.argsort(-scores, axis=1) == np.argsort(-(W @ H), axis=1)).all()


@pytest.mark.slow
def test_it_finds_the_tastes_and_its_loss_falls(fit):
    model, losses = fit
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    top = Scorer(model).recommend_rows(np.arange(59), 3).items
    assert (top % 2 == np.arange(59)[:, None] % 2).mean() > 0.65, "by chance a third"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_for_any_threads(fit, items, tmp_path):
    model, losses = fit
    again = Iterations(200)
    fit_neumf(items, SETTINGS._replace(n_threads=2), again).save(tmp_path / "b")
    model.save(tmp_path / "a")
    assert again.losses == losses
    for name in ("network.npz", "user_features.npy", "movie_features.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "network.npz").read_bytes().count(b"pickle") == 0
    other = Iterations(2)
    fit_neumf(items, SETTINGS._replace(seed=1), other)
    assert other.losses != losses[:2]


def test_pairs_are_each_interaction_once_and_unseen_items(items, rng):
    settings = Settings(negatives=3)
    pairs = Pairs(items.scores, settings, rng)
    positives, dense, seen_by_others = [], items.scores.toarray(), 0
    for _ in range(PARTS):
        users, cols, labels, counts = pairs.next()
        positives += [(u, i) for u, i, y in zip(users.tolist(), cols.tolist(), labels.tolist(), strict=True) if y]
        drawn = labels == 0
        assert drawn.sum() == 3 * (~drawn).sum()
        seen = dense[users[drawn], cols[drawn]] > 0
        assert (counts[drawn][seen] == 0).all()
        assert (counts[drawn][~seen] > 0).all()
        seen_by_others += int(seen[users[drawn] < 59].sum())
    assert seen_by_others < 0.02 * 3 * len(positives), "they are drawn again"
    assert sorted(positives) == sorted(zip(*(side.tolist() for side in dense.nonzero()), strict=True))


def interrupt(at, n, loss):
    if n == at:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupt_ends_the_fit_or_keeps_it(items, fit):
    with pytest.raises(KeyboardInterrupt):
        fit_neumf(items, SETTINGS, Iterations(60, 0.0, partial(interrupt, 4)))
    iterations = Iterations(60, 0.0, partial(interrupt, 4), keep_interrupted=True)
    kept = fit_neumf(items, SETTINGS, iterations)
    assert (iterations.interrupted, len(iterations.losses)) == (True, 4)
    assert iterations.losses == fit[1][:4]
    whole = fit_neumf(items, SETTINGS, Iterations(4))
    for name, array in whole.network.weights.items():
        assert array.tobytes() == kept.network.weights[name].tobytes()


@pytest.mark.slow
def test_a_step_that_is_too_long_is_named(items):
    with pytest.raises(UsageError, match=r"grow without end: --learning-rate 1e\+30 is too large, try 1e\+29"):
        fit_neumf(items, Settings(learning_rate=1e30), Iterations(5))


def test_without_jax_the_extra_is_named(items, monkeypatch):
    monkeypatch.setattr(solver, "find_spec", lambda name: None if name == "optax" else find_spec(name))
    with pytest.raises(UsageError, match=r"^Training neumf needs optax: pip install 'rankline\[neural\]'$"):
        ALGORITHM.fit(items, TrainOptions(algorithm="neumf"))


# ---- what a user is told ----------------------------------------------------------------------


@pytest.mark.slow
def test_options_reach_the_fit_and_candidates_are_told(items):
    options = TrainOptions(
        algorithm="neumf", n_components=6, layers="8-4", dropout=0.5, negatives_per_positive=2, max_iter=3,
        learning_rate=0.002, random_state=7,
    )  # fmt: skip
    fitted = ALGORITHM.fit(items, options)
    settings = Settings(6, (8, 4), 0.5, 2, 0.002, seed=7)
    iterations = Iterations(3)
    expected = fit_neumf(items, settings, iterations)
    assert fitted.losses.tolist() == iterations.losses
    assert fitted.model.network.weights["output"].tobytes() == expected.network.weights["output"].tobytes()
    assert fitted.facts == {"n_components_used": 6, "factor_model": "als k=6", "candidates": 500}
    assert "orders the 500 unseen items that its factor model (als, k = 6) puts first" in fitted.messages[0]
    assert ALGORITHM.label(options, fitted.facts) == "NeuMF 6, 8-4"


@pytest.mark.slow
def test_why_tells_what_the_score_would_lose(fit, items):
    model, _ = fit
    user, item = 4, int(Scorer(model).recommend_rows([4], 1).items[0, 0])
    why = explain(model, user, item, n_parts=100)
    assert (why.kind, why.rank, why.candidate) == ("neural", 1, True)
    own = items.scores[user]
    for part in why.past_items[:3]:
        rest = own.copy()
        rest.data[rest.indices == part.row] = 0
        rest.eliminate_zeros()
        without = Scorer(model).for_users(UserItems(rest, IdMap([1]), items.items)).model.predict([0], [item])[0]
        assert part.contribution == pytest.approx(why.score - without, rel=1e-3, abs=1e-5)
    assert abs(why.past_items[0].contribution) >= abs(why.past_items[-1].contribution)


def test_why_names_an_item_that_is_no_candidate(rng):
    model = made_up(rng)
    listed = Scorer(model).recommend_rows([0], 4).items[0]
    seen = set(model.seen[0].indices.tolist())
    absent = next(i for i in range(9) if i not in seen and i not in listed)
    why = explain(model, 0, absent)
    assert (why.rank, why.n_unseen, why.candidate) == (None, 4, False)
    assert explain(model, 0, int(listed[1])).rank == 2
    assert explain(model, 0, min(seen)).candidate


# ---- disk -------------------------------------------------------------------------------------


def test_damaged_metadata_is_named(rng, tmp_path):
    path = made_up(rng).save(tmp_path) / "metadata.json"
    facts = json.loads(path.read_text())
    for key in ("layers", "embedding", "candidates", "n_components"):
        for value in (None, 0, 2, "4", [], [10**9], [5, 3, 2], True, -1, 2.5):
            if (key, value) != ("candidates", 2):
                path.write_text(json.dumps({**facts, key: value}))
                with pytest.raises(ArtifactError, match=r"metadata.json|network.npz"):
                    load_saved_model(tmp_path)


def test_a_network_of_another_model_is_refused(rng, tmp_path):
    model = made_up(rng)
    with pytest.raises(ArtifactError, match="for 3 factors of 8 items, the factors for 3 of 9"):
        NeuralModel(
            model.user_factors, model.item_factors, random_network(rng, n_items=8), model.users, model.items, model.seen
        )
    weights = {**model.network.weights, "output": np.full(7, np.nan, np.float32)}
    with pytest.raises(ArtifactError, match="output must be finite"):
        Network(weights, (5, 3))
    again = load_saved_model(model.save(tmp_path))
    assert again.predict([1], [2]).tobytes() == model.predict([1], [2]).tobytes()
    assert (again.candidates, again.network.layers) == (4, (5, 3))
