"""svd and bpmf: each step against its slow twin, and what the models promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from support import naive_ratings as naive

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, DivergedError, InputError, UsageError
from pipeline.kernels import available
from pipeline.kernels.arguments import CsrRows, RowNoise
from pipeline.models import bayesian_mf, biased_mf
from pipeline.models.fold_in import FoldIn
from pipeline.models.fold_in.rating import RatingTerms
from pipeline.models.rating_rows import Ratings, known_rows, solve_rows
from pipeline.models.registry import find
from pipeline.models.solvers.iterations import Iterations
from pipeline.ranking.explain import explain

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")


def made_up(n_users=60, n_items=40, share=0.4, k=2, noise=0.3, seed=5):
    """Stars of users and items with biases and k tastes: the cells that are known, and all."""
    rng = np.random.default_rng(seed)
    whole = 3 + rng.normal(0, 0.4, (n_users, 1)) + rng.normal(0, 0.5, n_items)
    whole += rng.normal(0, 0.8, (n_users, k)) @ rng.normal(0, 0.8, (k, n_items))
    known = rng.random(whole.shape) < share
    scores = np.clip(whole + rng.normal(0, noise, whole.shape), 0.1, 6)
    return sparse.csr_matrix(np.where(known, scores, 0).astype(np.float32)), np.clip(whole, 0.1, 6), known


def cells_of(ratings):
    side = ratings.by_user
    return list(zip(ratings.user_of_cell.tolist(), side.indices.tolist(), side.data.tolist(), strict=True))


def user_items(x):
    return UserItems(x, IdMap(np.arange(x.shape[0])), IdMap(np.arange(x.shape[1])))


def fitted(name, x, **options):
    algorithm = find(name)
    return algorithm.fit(user_items(x), algorithm.default_options(**options))


def errors_elsewhere(model, whole, known):
    rows, cols = np.nonzero(~known)
    return float(np.sqrt(np.mean((model.predict(rows, cols) - whole[rows, cols]) ** 2)))


# ---- rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 11])
def test_a_row_solves_its_equations_with_few_cells_and_with_many(n):
    rng = np.random.default_rng(n)
    features, levels = rng.normal(0, 1, (20, 4)), rng.normal(0, 1, 20)
    items, scores = np.sort(rng.choice(20, n, replace=False)).astype(np.int32), rng.random(n).astype(np.float32)
    cells = CsrRows.of(0, 1, np.array([0, n]), items, scores)
    row = solve_rows(cells, known_rows(features, levels), np.array([0.7]), 1)[0]
    np.testing.assert_allclose(
        row, naive.solved_row(features[items], scores - levels[items], 0.7), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("n", [2, 9])
def test_drawn_rows_have_the_mean_and_the_covariance_of_their_posterior(n):
    rng = np.random.default_rng(1)
    features, times = rng.normal(0, 1, (n, 3)), 40_000
    scores = rng.normal(0, 1, n).astype(np.float32)
    indices = np.tile(np.arange(n, dtype=np.int32), times)
    cells = CsrRows.of(0, times, np.arange(times + 1) * n, indices, np.tile(scores, times))
    noise = RowNoise(rng.standard_normal((times, 3), np.float32), rng.standard_normal(n * times, np.float32))
    rows = solve_rows(cells, known_rows(features, np.zeros(n)), np.full(times, 2.0), 2, noise=noise)
    covariance = np.linalg.inv(features.T @ features + 2 * np.eye(3))
    np.testing.assert_allclose(rows.mean(axis=0), covariance @ features.T @ scores, atol=0.01)
    np.testing.assert_allclose(np.cov(rows.T), covariance, atol=0.01)


# ---- svd --------------------------------------------------------------------------------------------


def test_an_epoch_of_gradient_descent_is_that_of_its_twin():
    from pipeline.kernels import compiled
    from pipeline.kernels.arguments import RatedCells

    ratings = Ratings.of(made_up(12, 9)[0])
    rng = np.random.default_rng(2)
    P, Q = (rng.normal(0, 0.3, (n, 4)).astype(np.float32) for n in (12, 9))
    shrink = [rng.random(n).astype(np.float32) for n in (12, 9)]
    cells = cells_of(ratings)
    order = rng.permutation(len(cells)).astype(np.int32)
    twins = naive.sgd_epoch([cells[i] for i in order], P, Q, 0.05, shrink)
    scores = ratings.by_user
    compiled("rating_sgd").epoch(
        RatedCells(order, ratings.user_of_cell, scores.indices, scores.data), P, Q, np.float32(0.05), *shrink
    )
    for own, twin in zip((P, Q), twins, strict=True):
        np.testing.assert_allclose(own, twin, atol=2e-6)


def test_least_squares_are_those_of_their_twin_and_the_loss_never_rises():
    ratings = Ratings.of(made_up(15, 11)[0])
    settings = biased_mf.Settings(3, 0.8, seed=4)
    start = biased_mf.fit_by_als(ratings, settings, Iterations(0))
    twins = naive.als(cells_of(ratings), *start, 0.8, biased_mf.EXPONENT)
    once = biased_mf.fit_by_als(ratings, settings, Iterations(1))
    for own, twin in zip(once, twins, strict=True):
        np.testing.assert_allclose(own, twin, rtol=1e-4, atol=1e-5)
    iterations = Iterations(30, 0.0)
    last = biased_mf.fit_by_als(ratings, settings, iterations)
    assert (np.diff(iterations.losses) <= 1e-6 * iterations.losses[0]).all()
    assert iterations.losses[-1] == pytest.approx(
        naive.loss(cells_of(ratings), *last, 0.8, biased_mf.EXPONENT), rel=1e-5
    )


def test_both_solvers_find_errors_near_the_noise_where_biases_alone_do_not():
    x, whole, known = made_up()
    without = errors_elsewhere(fitted("svd", x, n_components=1, regularization=1e6, solver="als").model, whole, known)
    for solver in ("fast", "als"):
        model = fitted("svd", x, n_components=4, solver=solver, regularization=0.5).model
        assert errors_elsewhere(model, whole, known) < 0.6 * without


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_what_the_fits_do_has_no_unit(name):
    x = made_up()[0]
    options = {"n_components": 4, "max_iter": 20}
    stars = fitted(name, x, **options).model
    points = fitted(name, sparse.csr_matrix((20 * x.data, x.indices, x.indptr), x.shape), **options).model
    rows, cols = (side.ravel() for side in np.indices(x.shape))
    np.testing.assert_allclose(points.predict(rows, cols), 20 * stars.predict(rows, cols), rtol=0.01)


def test_svd_is_a_mean_two_biases_and_a_product():
    x = made_up()[0]
    saved = fitted("svd", x, n_components=4)
    w, h = saved.model.user_factors, saved.model.item_factors
    assert (w.shape[1], saved.facts["n_components_used"]) == (6, 4)
    assert (w[:, -1] == 1).all()  # of the mean and the item's bias
    assert np.ptp(h[-2]) == 0  # of the user's bias
    assert abs(float(h[-1].mean()) - float(x.data.mean())) < 0.5


def test_what_svd_can_not_use_is_refused_in_words():
    x = made_up()[0]
    with pytest.raises(DivergedError, match=r"--learning-rate 50 is too large, try 12\.5"):
        fitted("svd", x, learning_rate=50.0)
    with pytest.raises(UsageError, match="regularization above 0"):
        fitted("svd", x, regularization=0.0)
    with pytest.raises(UsageError, match="--solver of SVD is fast or sgd or als, got sklearn"):
        find("svd").check_options(find("svd").default_options(solver="sklearn"))
    with pytest.raises(UsageError, match="--solver of NMF is fast or sklearn, got als"):
        find("nmf").check_options(find("nmf").default_options(solver="als"))
    assert find("nmf").own_options(find("svd").default_options(solver="als")).solver == "fast"


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_scores_that_are_all_the_same_are_refused(name):
    ones = made_up()[0]
    ones.data[:] = 1
    with pytest.raises(InputError, match="every score is 1: take a model that ranks"):
        fitted(name, ones)


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_the_scale_of_scores_is_free_as_far_as_float32_goes(name):
    x = made_up(20, 12)[0]
    rows, cols = np.repeat(np.arange(20), 12), np.tile(np.arange(12), 20)
    usual = fitted(name, x, max_iter=4, n_components=2).model.predict(rows, cols)
    for scale in (2.0**-36, 2.0**36):
        scaled = fitted(name, x * np.float32(scale), max_iter=4, n_components=2).model.predict(rows, cols)
        np.testing.assert_allclose(scaled / scale, usual, rtol=1e-4)
    for scale, size in ((1e-30, "small"), (1e30, "large")):
        with pytest.raises(InputError, match=f"The scores are too {size} for .*: scale them"):
            fitted(name, x * np.float32(scale), max_iter=4)


# ---- bpmf -------------------------------------------------------------------------------------------


def test_gibbs_sampling_is_that_of_its_twin():
    ratings = Ratings.of(made_up(14, 10)[0])
    start = np.random.default_rng(8)
    P, Q = (np.zeros((n, 4), np.float32) for n in (14, 10))
    for rows in (P, Q):
        rows[:, :-1] = 0.1 * start.standard_normal((len(rows), 3), np.float32)
    twin = naive.gibbs(cells_of(ratings), P, Q, 1.0, start, 3)
    iterations = Iterations(3)
    bayesian_mf.sample(ratings, 3, iterations, seed=8)
    error = sum((r - naive._predicted(twin[0], twin[1], u, i)) ** 2 for u, i, r in cells_of(ratings))
    assert iterations.losses[-1] == pytest.approx(error / len(cells_of(ratings)), rel=1e-3)


def test_a_prior_is_drawn_around_the_mean_and_the_precision_of_the_rows():
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((5000, 3)) @ np.diag([1, 0.5, 2]) + [1, -2, 0]).astype(np.float32)
    priors = [bayesian_mf.draw_prior(rows, rng) for _ in range(200)]
    means, precisions = (np.mean([prior[part] for prior in priors], axis=0) for part in (0, 1))
    np.testing.assert_allclose(means, rows.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(precisions, np.linalg.inv(np.cov(rows.T)), rtol=0.02, atol=0.02)
    spread = np.std([prior.mean for prior in priors], axis=0)
    np.testing.assert_allclose(spread, rows.std(axis=0) / 5000**0.5, rtol=0.2)


def test_bpmf_finds_errors_near_the_noise_with_no_option_set():
    x, whole, known = made_up()
    assert errors_elsewhere(fitted("bpmf", x, max_iter=60).model, whole, known) < 0.35


def test_the_score_of_bpmf_is_the_mean_over_its_samples_and_one_regression_on_all_of_them_is_not():
    x = made_up()[0]
    saved = fitted("bpmf", x, max_iter=30, n_components=3)
    model, n = saved.model, saved.facts["n_samples_used"]
    assert (n, model.n_components) == (20, 20 * 5)
    h = model.item_factors.astype(np.float64)
    terms = RatingTerms.of_meta(model.meta, model.n_components)
    u, cells = 7, x[7]
    parts = []
    for block in np.split(h, n):
        F, level = block[:-1].T, block[-1]
        row = naive.solved_row(F[cells.indices], cells.data - level[cells.indices], terms.strength)
        parts.append(level + F @ row)
    scores = model.predict(np.full(x.shape[1], u), np.arange(x.shape[1]))
    np.testing.assert_allclose(scores, np.mean(parts, axis=0), rtol=1e-4)
    # Every sample at once: the scores are divided between the samples, and the items' levels are counted as one.
    wide, level = np.concatenate([block[:-1] for block in np.split(h, n)]).T / n, h[4::5].mean(axis=0)
    wrong = level + wide @ naive.solved_row(wide[cells.indices], cells.data - level[cells.indices], terms.strength)
    assert np.abs(wrong - scores).max() > 0.1


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_the_seed_decides_and_the_number_of_threads_does_not(name):
    x = made_up(600, 40, 0.2)[0]
    options = {"max_iter": 4, "n_components": 3} | ({"solver": "als"} if name == "svd" else {})
    first, second, other = (
        fitted(name, x, threads=threads, random_state=seed, **options).model
        for threads, seed in ((1, 7), (3, 7), (1, 8))
    )
    assert first.item_factors.tobytes() == second.item_factors.tobytes()
    assert first.user_factors.tobytes() == second.user_factors.tobytes()
    assert first.item_factors.tobytes() != other.item_factors.tobytes()


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_an_interrupted_fit_is_used_where_that_was_asked(name):
    algorithm = find(name)

    def interrupt(n, loss):
        if n == 3:
            raise KeyboardInterrupt

    x = user_items(made_up()[0])
    with pytest.raises(KeyboardInterrupt):
        algorithm.fit(x, algorithm.default_options(), on_iteration=interrupt)
    result = algorithm.fit(x, algorithm.default_options(on_interrupt="keep"), on_iteration=interrupt)
    assert (result.interrupted, result.n_iter) == (True, 3)
    assert np.isfinite(result.model.predict([0], [0])).all()


# ---- folding in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_a_new_user_gets_the_row_that_the_equations_give(compiled):
    rng = np.random.default_rng(6)
    blocks, d = 3, 4
    h = rng.normal(0, 1, (blocks * (d + 1), 25)).astype(np.float32)
    x = sparse.random(9, 25, 0.3, "csr", np.float32, rng=rng)
    x.data[:] = rng.integers(1, 6, x.nnz)
    rows = FoldIn(h, RatingTerms(blocks, 0.6, 0.5).as_meta(), compiled).fold_matrix(x)
    for u in range(9):
        own = x[u]
        for block, row in zip(np.split(h.astype(np.float64), blocks), np.split(rows[u], blocks), strict=True):
            left = own.data - block[-1, own.indices]
            expected = naive.solved_row(block[:-1, own.indices].T, left, 0.6 * max(1, own.nnz) ** 0.5)
            np.testing.assert_allclose(row[:-1], expected / blocks, rtol=2e-4, atol=1e-5)
            assert row[-1] == np.float32(1 / blocks)


def test_a_user_without_ratings_gets_the_items_levels():
    saved = fitted("svd", made_up()[0], n_components=3).model
    row = FoldIn(saved.item_factors, saved.meta).fold_matrix(sparse.csr_matrix((1, 40), dtype=np.float32))[0]
    np.testing.assert_array_equal(row @ saved.item_factors, saved.item_factors[-1])


@pytest.mark.parametrize(
    "terms",
    [None, {}, {"blocks": 0}, {"blocks": 4}, {"blocks": 2.0}, {"blocks": 3}, {"strength": 0.0},
     {"strength": float("nan")}, {"strength": True}, {"exponent": -1.0}, {"exponent": 1e20}, {"exponent": "1"},
     {"more": 1}],
)  # fmt: skip
def test_terms_that_are_none_are_refused(terms):
    right = RatingTerms(2, 1.0, 0.5).as_meta()
    assert RatingTerms.of_meta(right, 6) == RatingTerms(2, 1.0, 0.5)
    own = {**right["rating_terms"], **terms} if terms else terms
    with pytest.raises(ArtifactError, match="rating_terms"):
        RatingTerms.of_meta({**right, "rating_terms": own}, 6 if terms != {"blocks": 3} else 3)


def test_a_strength_that_is_lost_beside_the_factors_is_refused():
    h = np.full((3, 4), 1e6, np.float32)
    way = FoldIn(h, RatingTerms(1, 1e-50, 0.0).as_meta(), compiled=False)
    cells = np.array([0, 1, 2], np.int32)
    with pytest.raises(ArtifactError, match="strength"):
        way.solve(np.array([0, 3]), cells, np.ones(3, np.float32))
    with pytest.raises(ArtifactError, match="strength"):
        way.split(cells, np.ones(3, np.float32), 3)


# ---- why --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svd", "bpmf"])
def test_a_score_is_the_items_level_and_a_part_of_each_rating(name):
    x = made_up()[0]
    model = fitted(name, x, max_iter=20, n_components=3).model
    for user, item in ((0, 0), (7, 31), (59, 39)):
        explanation = explain(model, user, item, 1000)
        assert {part.row for part in explanation.past_items} == set(x[user].indices.tolist())
        assert explanation.n_past_items == x[user].nnz
        total = explanation.level + sum(part.contribution for part in explanation.past_items)
        assert total == pytest.approx(explanation.score, abs=2e-4)
    without = FoldIn(model.item_factors, model.meta).fold_matrix(sparse.csr_matrix((1, 40), dtype=np.float32))
    assert explanation.level == pytest.approx(float((without @ model.item_factors)[0, 39]), rel=1e-5)


def test_a_rating_above_the_items_level_speaks_for_items_like_it():
    # Two tastes: whoever likes the even items does not like the odd ones.
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 2, 80)
    whole = np.where((np.arange(20) % 2) == taste[:, None], 5, 1) * (rng.random((80, 20)) < 0.6)
    x = sparse.csr_matrix(whole.astype(np.float32))
    model = fitted("svd", x, n_components=2, regularization=0.3, solver="als").model
    user = int(np.flatnonzero(taste == 0)[0])
    parts = {part.row: part for part in explain(model, user, 2, 100).past_items}
    for row, part in parts.items():
        assert part.score == (5 if row % 2 == 0 else 1)
        assert part.contribution > 0  # liked even items and disliked odd ones both speak for item 2
