"""Alternating least squares: the alternation as it is written down, what is told of it, and users folded in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from support import naive_als
from support.contract_data import make_interactions
from support.naive_weighted import loss

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError
from pipeline.models.als import fit_als, start_als
from pipeline.models.objective import Objective
from pipeline.models.registry import find
from pipeline.models.solvers import als
from pipeline.models.starts import uniform_rows
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer

pytest.importorskip("numba")

GOALS = [
    Objective(1.0, alpha_W=0.01, alpha_H=0.02),
    Objective(0.1, 2.0, alpha_W=0.05, alpha_H=0.05, reg_exponent=0.5),
    Objective(0.03, 0.5, alpha_W=0.3, alpha_H=0.1, reg_exponent=0.0, dislike_weight=4.0),
    Objective(0.0, 0.0, alpha_W=0.1, alpha_H=0.1),
]


def matrix(n_users=40, n_items=30, density=0.25, seed=0):
    rng = np.random.default_rng(seed)
    X = sparse.random(n_users, n_items, density, "csr", np.float32, rng=rng)
    X.data = np.ceil(X.data * 10).astype(np.float32) / 2
    return UserItems(X, IdMap(np.arange(n_users)), IdMap(100 + np.arange(n_items)))


def observed(matrix):
    dense = np.full(matrix.scores.shape, np.nan)
    rows = np.repeat(np.arange(dense.shape[0]), np.diff(matrix.scores.indptr))
    dense[rows, matrix.scores.indices] = matrix.scores.data
    return dense


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("k", [1, 5, 17])
def test_with_enough_steps_it_is_the_exact_alternation(goal, k, monkeypatch):
    monkeypatch.setattr(als, "STEPS", 200)
    x = matrix()
    x.scores.data[::7] = 0  # dislikes
    _, result = fit_als(x, k, goal, 3, max_iter=6, tol=0)
    _, losses = naive_als.alternate(observed(x), *start_als(x, k, goal, 3), goal, 6)
    np.testing.assert_allclose(result.losses, losses, rtol=2e-4)


@pytest.mark.parametrize("goal", GOALS)
def test_the_loss_that_is_told_never_rises_and_the_last_rows_are_exact(goal):
    x = matrix()
    model, result = fit_als(x, 5, goal, 0, max_iter=30, tol=0)
    assert (np.diff(result.losses) <= 1e-6 * result.losses[0]).all()
    dense = observed(x)
    exact = naive_als.solve(dense, model.item_factors.T, goal)
    np.testing.assert_allclose(model.user_factors, exact, rtol=1e-3, atol=1e-4)
    last = np.sqrt(2 * loss(dense, model.user_factors, model.item_factors, goal))
    assert last <= result.losses[-1] * (1 + 1e-5)  # W is solved once more
    assert (model.user_factors < 0).any()


@pytest.fixture
def iterates(monkeypatch):
    """(W, H) after each iteration."""
    pairs = []
    half_step = als._half_step

    def watched(engine, solved, fixed, objective, k, beyond):
        sums = half_step(engine, solved, fixed, objective, k, beyond)
        pairs.extend((fixed.rows[:, :k].astype(float), found[:, :k].T.astype(float)) for found in solved.out)
        return sums

    monkeypatch.setattr(als, "_half_step", watched)
    return lambda: pairs


def test_the_loss_is_that_of_the_iterate(iterates):
    x, goal = matrix(), GOALS[1]
    result = als.factorize_als(x.scores, *start_als(x, 4, goal, 1), goal, max_iter=3, tol=0)
    for told, (W, H) in zip(result.losses, iterates(), strict=True):
        assert told == pytest.approx(np.sqrt(2 * loss(observed(x), W, H, goal)), rel=1e-5)


def test_any_number_of_threads_gives_the_same_bits():
    x = matrix(3000, 400, 0.02)
    one, two, five = (fit_als(x, 20, GOALS[1], 0, max_iter=4, tol=0, n_threads=n) for n in (1, 2, 5))
    for model, result in (two, five):
        assert model.item_factors.tobytes() == one[0].item_factors.tobytes()
        assert model.user_factors.tobytes() == one[0].user_factors.tobytes()
        assert result.losses == one[1].losses


def test_an_item_with_more_cells_than_are_copied_at_once(iterates):
    n = 40_000
    rows = np.repeat(np.arange(n), 2)
    cols = np.stack([np.zeros(n, int), 1 + np.arange(n) % 2], 1).ravel()
    X = sparse.csr_matrix((np.ones(2 * n, np.float32), (rows, cols)), shape=(n, 3))
    goal = Objective(0.1, alpha_W=0.01, alpha_H=0.01, reg_exponent=0)
    start = start_als(UserItems(X, IdMap(np.arange(n)), IdMap(np.arange(3))), 2, goal, 0)
    result = als.factorize_als(X, *start, goal, max_iter=8, tol=0)
    dense = X.toarray()
    weights = np.where(dense > 0, 1, 0.1)
    losses = [(weights * (dense - W @ H) ** 2).sum() + 0.01 * ((W**2).sum() + (H**2).sum()) for W, H in iterates()]
    rounding = 1e-6 * (weights * dense**2).sum()
    np.testing.assert_allclose(np.square(result.losses), np.minimum.accumulate(losses), rtol=0, atol=rounding)


@pytest.mark.parametrize("transform", ["none", "log1p", "binary"])
def test_a_training_users_own_row_comes_back(transform):
    known = prepare_interactions(make_interactions("str"), "last", None, None, 0).interactions
    raw, x = to_matrix(known), to_matrix(known, transform)
    model, _ = fit_als(x, 7, GOALS[1], 0, transform=transform, max_iter=10)
    scorer = Scorer(model, compiled=True)
    assert scorer.fold_in_rows(raw.scores).tobytes() == model.user_factors.tobytes()
    in_numpy = Scorer(model, compiled=False)
    np.testing.assert_allclose(in_numpy.fold_in_rows(raw.scores), model.user_factors, rtol=1e-4, atol=1e-5)
    rows = np.arange(len(x.users))
    compiled, plain = scorer.recommend_rows(rows, 6), in_numpy.recommend_rows(rows, 6)
    assert (compiled.items.tobytes(), compiled.scores.tobytes()) == (plain.items.tobytes(), plain.scores.tobytes())


def test_a_score_is_explained_by_the_users_items():
    x = matrix()
    model, _ = fit_als(x, 5, GOALS[1], 0, max_iter=10)
    item = int(Scorer(model).recommend_rows([3], 1).items[0, 0])
    explanation = explain(model, 3, item, 1000)
    assert explanation.rank == 1
    assert not explanation.factors
    assert {part.row for part in explanation.past_items} == set(x.scores[3].indices.tolist())
    assert sum(part.contribution for part in explanation.past_items) == pytest.approx(explanation.score, rel=1e-4)
    sizes = [abs(part.contribution) for part in explanation.past_items]
    assert sizes == sorted(sizes, reverse=True)


def test_an_interrupt_ends_the_fit_with_the_factors_so_far(iterates):
    def stop(n, loss):
        if n == 3:
            raise KeyboardInterrupt

    x = matrix()
    model, result = fit_als(x, 4, GOALS[0], 0, max_iter=50, tol=0, on_iteration=stop, keep_interrupted=True)
    assert result.interrupted
    assert not result.converged
    assert len(result.losses) == 3
    assert np.array_equal(model.item_factors, iterates()[2][1])
    with pytest.raises(KeyboardInterrupt):
        fit_als(x, 4, GOALS[0], 0, max_iter=50, on_iteration=stop)


def test_it_stops_when_the_loss_stalls():
    _, result = fit_als(matrix(), 4, GOALS[0], 0, max_iter=500, tol=1e-3)
    assert result.converged
    assert 10 < len(result.losses) < 500


def test_scores_of_zero_and_scores_past_float32():
    x = matrix()
    zeros = UserItems(x.scores * np.float32(0), x.users, x.items)
    model, result = fit_als(zeros, 3, Objective(), 0, max_iter=5)
    assert not model.user_factors.any()
    assert result.losses[-1] == 0
    tiny = UserItems(x.scores * np.float32(1e-30), x.users, x.items)
    with pytest.raises(InputError, match=r"too small.*--transform binary"):
        fit_als(tiny, 3, Objective(), 0, max_iter=5)
    with pytest.raises(InputError, match=r"too large.*--transform log1p"):
        fit_als(UserItems(x.scores * np.float32(1e30), x.users, x.items), 3, Objective(), 0)


def test_twice_the_scores_give_the_same_lists():
    """The penalty is in units of the mean score."""
    algorithm = find("als")
    options = algorithm.default_options(n_components=4, unobserved_weight=0.3)
    x = matrix()
    lists = []
    for size in (1, 4):
        model = algorithm.fit(UserItems(x.scores * np.float32(size), x.users, x.items), options).model
        lists.append(Scorer(model).recommend_rows(np.arange(40), 5).items.tolist())
    assert lists[0] == lists[1]


def test_a_penalty_that_leaves_nothing_is_said():
    algorithm, x = find("als"), matrix()
    fitted = algorithm.fit(x, algorithm.default_options(n_components=4, regularization=1000.0))
    assert fitted.messages == (
        "the penalty leaves next to nothing of the factors: lower --regularization or --unobserved-weight",
    )
    assert algorithm.fit(x, algorithm.default_options(n_components=4)).messages == ()


def test_an_empty_cell_counts_a_tenth_by_default():
    algorithm, x = find("als"), matrix()
    model = algorithm.fit(x, algorithm.default_options(n_components=4)).model
    assert model.meta["objective"]["unobserved_weight"] == 0.1
    assert algorithm.defaults["unobserved_weight"] == 0.1
    assert find("nmf").defaults["unobserved_weight"] == 1.0


# ---- the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[5, 9, -3, 2**62], ["a", "ab", "żółw", "7"]])
def test_a_start_depends_on_the_id_alone(ids):
    whole = uniform_rows(IdMap(sorted(ids)), 6, 42, "users")
    assert whole.dtype == np.float32
    assert (whole >= 0).all()
    assert (whole < 1).all()
    for row, known in enumerate(sorted(ids)):
        assert uniform_rows(IdMap([known]), 6, 42, "users").tobytes() == whole[row].tobytes()
        assert uniform_rows(IdMap([known]), 3, 42, "users").tobytes() == whole[row, :3].tobytes()
    assert (
        len(
            {
                uniform_rows(IdMap(sorted(ids)), 6, seed, side).tobytes()
                for seed in (1, 42)
                for side in ("users", "items")
            }
        )
        == 4
    )


def test_a_start_is_uniform():
    numbers = uniform_rows(IdMap(np.arange(20_000)), 8, 0, "items")
    assert np.abs(numbers.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(numbers.T) - np.eye(8)).max() < 0.03
    counts = np.histogram(numbers, 20, (0, 1))[0] / numbers.size
    assert np.abs(counts - 0.05).max() < 0.002


def test_a_start_of_other_rows_is_refused():
    x, goal = matrix(), GOALS[0]
    W, H = start_als(x, 4, goal, 1)
    with pytest.raises(ValueError, match=r"A start of 30 rows is needed, got \(4, 30\)"):
        als.factorize_als(x.scores, W, np.ascontiguousarray(H.T), goal, max_iter=1)
