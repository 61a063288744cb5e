"""Every metric on arrays, held to its definition: densely, in loops, by hand, and by scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import ndcg_score
from support import naive, naive_metrics

from pipeline.evaluation.metrics import ndcg_at_k, recall_at_k
from pipeline.models import reconstruction
from pipeline.models.reconstruction import all_cells_errors, errors, observed_predictions


def csr(dense, stored=None):
    """The matrix of `dense` with the cells of `stored` kept, zeros among them too."""
    dense = np.asarray(dense, np.float32)
    stored = dense != 0 if stored is None else np.asarray(stored, bool)
    indptr = np.append(0, np.cumsum(stored.sum(axis=1))).astype(np.int32)
    return sparse.csr_matrix((dense[stored], np.nonzero(stored)[1].astype(np.int32), indptr), shape=dense.shape)


def measured(x, w, h):
    errors_of_cells = all_cells_errors(x, w, h)
    return {
        "reconstruction_error": errors_of_cells.reconstruction_error,
        "rmse": errors_of_cells.rmse,
        "mae": errors_of_cells.mae,
        "observed_rmse": errors_of_cells.observed.rmse,
        "observed_mae": errors_of_cells.observed.mae,
    }


def defined(x, w, h):
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    cells = dict(zip(zip(rows.tolist(), x.indices.tolist(), strict=True), x.data.tolist(), strict=True))
    result = naive.errors(cells, w, h)
    del result["sparsity"]
    return result


@st.composite
def problems(draw):
    """A matrix with stored zeros, and factors of one of several scales."""
    m, n, k = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    stored = rng.random((m, n)) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    stored[0, 0] = True
    dense = stored * rng.choice([0.0, 0.5, 1.0, 3.5, 5.0], (m, n))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
    w, h = (scale * rng.random(shape) * (rng.random(shape) < 0.8) for shape in ((m, k), (k, n)))
    return csr(dense, stored), w.astype(np.float32), h.astype(np.float32)


# ---- errors of the factors ------------------------------------------------------------------------


@given(problems())
def test_errors_are_those_of_the_dense_matrix(problem):
    x, w, h = problem
    assert measured(x, w, h) == pytest.approx(defined(x, w, h), rel=1e-9, abs=1e-12)


@given(problems())
def test_rmse_is_the_reconstruction_error_over_the_root_of_the_cells(problem):
    x, w, h = problem
    error = all_cells_errors(x, w, h)
    assert error.rmse == pytest.approx(error.reconstruction_error / math.sqrt(x.shape[0] * x.shape[1]), rel=1e-14)


def test_errors_by_hand():
    # V = [[5, ·], [·, 0]] with the 0 stored; WH = [[1, 2], [2, 4]].
    x = csr([[5, 0], [0, 0]], [[1, 0], [0, 1]])
    errors_of_cells = all_cells_errors(x, np.float32([[1], [2]]), np.float32([[1, 2]]))
    assert errors_of_cells.reconstruction_error == math.sqrt(16 + 4 + 4 + 16)
    assert errors_of_cells.rmse == math.sqrt(10)
    assert errors_of_cells.mae == (4 + 2 + 2 + 4) / 4
    assert errors_of_cells.observed == (4.0, 4.0)


def test_a_stored_zero_is_observed_and_an_empty_cell_is_not():
    dense, w, h = [[1, 0, 0]], np.float32([[1]]), np.float32([[1, 2, 0]])
    assert all_cells_errors(csr(dense), w, h).observed == (0.0, 0.0)
    with_zero = all_cells_errors(csr(dense, [[1, 1, 0]]), w, h)
    assert with_zero.observed == (math.sqrt(2), 1.0)
    assert with_zero[:3] == all_cells_errors(csr(dense), w, h)[:3]


@pytest.mark.parametrize("seed", range(8))
def test_a_full_matrix_has_the_same_errors_over_all_and_over_observed_cells(seed):
    rng = np.random.default_rng(seed)
    w, h = rng.random((40, 3), np.float32), rng.random((3, 50), np.float32)
    # So near to exact that anything else than the cells themselves would be rounding.
    x = csr((w.astype(np.float64) @ h) * (1 + 1e-6), np.ones((40, 50)))
    errors_of_cells = all_cells_errors(x, w, h)
    assert (errors_of_cells.rmse, errors_of_cells.mae) == pytest.approx(errors_of_cells.observed, rel=1e-12)
    assert measured(x, w, h) == pytest.approx(defined(x, w, h), rel=1e-9)


def test_an_exact_fit_has_no_error(checkerboard):
    w = checkerboard.model.user_factors
    exact = csr(w @ w.T)
    assert set(measured(exact, w, w.T).values()) == {0.0}
    # The withheld diagonal is all that is left: n cells of 1.
    errors_of_cells = all_cells_errors(checkerboard.matrix.scores, w, w.T)
    assert errors_of_cells.reconstruction_error == math.sqrt(checkerboard.n)
    assert errors_of_cells.mae == 1 / checkerboard.n
    assert errors_of_cells.observed == (0.0, 0.0)


@pytest.mark.parametrize("missing", [1, 30, 1000])
def test_nearly_exact_fits_of_large_numbers(rng, missing):
    """‖V‖² is 10¹⁰ times what is left: a difference of squares in float32 would show nothing of it."""
    w, h = (100 * rng.random((60, 4))).astype(np.float32), (100 * rng.random((4, 70))).astype(np.float32)
    w[:10, 1:], w[10:, 0], h[1:, :20], h[0, 20:] = 0, 0, 0, 0  # two blocks, and empty cells outside them
    dense = w.astype(np.float64) @ h
    stored = dense > 0
    off = rng.permutation(np.flatnonzero(stored))[:missing]
    dense.flat[off] += 0.01 * dense.flat[off]
    x = csr(dense, stored)
    assert measured(x, w, h) == pytest.approx(defined(x, w, h), rel=1e-6)


def test_float64_throughout(rng):
    """Sums of 200,000 terms: float32 accumulators are wrong in the fifth digit. More cells than a block, too."""
    m, n = 400, 1000
    w, h = rng.random((m, 6), np.float32), rng.random((6, n), np.float32)
    dense = np.where(rng.random((m, n)) < 0.7, rng.random((m, n)) * 5, 0).astype(np.float32)
    x, product = csr(dense), w.astype(np.float64) @ h.astype(np.float64)
    assert x.nnz > reconstruction._BLOCK
    left = dense - product
    errors_of_cells = all_cells_errors(x, w, h)
    assert errors_of_cells.reconstruction_error == pytest.approx(np.linalg.norm(left), rel=1e-11)
    assert errors_of_cells.reconstruction_error == pytest.approx(naive_metrics.dense_loss(dense, w, h), rel=1e-11)
    assert errors_of_cells.mae == pytest.approx(np.abs(left).mean(), rel=1e-11)
    assert errors_of_cells.observed.rmse == pytest.approx(np.sqrt((left[dense > 0] ** 2).mean()), rel=1e-11)
    assert errors_of_cells.observed.mae == pytest.approx(np.abs(left[dense > 0]).mean(), rel=1e-11)


@given(problems(), st.integers(1, 7))
def test_predictions_of_cells_in_blocks_of_any_size(problem, block):
    x, w, h = problem
    rows, cols = np.nonzero(np.ones(x.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "_BLOCK", block)
        patch.setattr(reconstruction, "_NUMBERS", 3 * block)  # of wide factors fewer cells at once
        predictions = observed_predictions(rows, cols, w, h)
    assert predictions.dtype == np.float64
    np.testing.assert_allclose(predictions.reshape(x.shape), w.astype(np.float64) @ h.astype(np.float64), rtol=1e-12)


def test_errors_of_pairs():
    errors_of_cells = errors(np.float32([1, 2, 3]), np.array([1, 4, 0]))
    assert errors_of_cells == (pytest.approx(math.sqrt(13 / 3)), pytest.approx(5 / 3))
    assert errors_of_cells == (errors_of_cells.rmse, errors_of_cells.mae)
    # float32 can't tell 16777217 from 16777216.
    assert errors(np.float32([1]), np.array([16777218.0])) == (16777217.0, 16777217.0)


# ---- ranking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n_relevant", "ndcg", "recall"),
    [
        ([1, 0, 0], 1, 1.0, 1.0),
        ([0, 1, 0], 1, 1 / math.log2(3), 1.0),
        ([0, 0, 1], 1, 1 / 2, 1.0),
        ([0, 0, 0], 1, 0.0, 0.0),
        ([1, 1, 1], 3, 1.0, 1.0),
        ([1, 0, 1], 2, 1.5 / (1 + 1 / math.log2(3)), 1.0),
        # More relevant than places: the ideal fills the list, recall still divides by all.
        ([1, 1, 1], 6, 1.0, 0.5),
        ([1, 0, 0], 4, 1 / (1 + 1 / math.log2(3) + 1 / 2), 0.25),
        # Fewer hits than relevant: the ideal has them all.
        ([1, 0, 0], 2, 1 / (1 + 1 / math.log2(3)), 0.5),
    ],
)
def test_ndcg_and_recall_by_hand(hits, n_relevant, ndcg, recall):
    array, n = np.array([hits], bool), np.array([n_relevant])
    assert ndcg_at_k(array, n) == pytest.approx([ndcg], rel=1e-15)
    assert recall_at_k(array, n) == pytest.approx([recall], rel=1e-15)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 30), st.integers(1, 8))
def test_ndcg_and_recall_are_the_twins_and_scikit_learns(seed, k, n_items, n_users):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(n_items), (n_users, 1)), axis=1)
    relevant = rng.random((n_users, n_items)) < 0.3
    relevant[:, 0] = True
    ranked = np.argsort(-scores, axis=1)[:, :k]
    hits = np.zeros((n_users, k), bool)
    hits[:, : ranked.shape[1]] = np.take_along_axis(relevant, ranked, axis=1)
    n_relevant = relevant.sum(axis=1)
    ndcg, recall = ndcg_at_k(hits, n_relevant), recall_at_k(hits, n_relevant)
    for u in range(n_users):
        relevant_items = set(np.flatnonzero(relevant[u]).tolist())
        assert ndcg[u] == pytest.approx(naive.ndcg(ranked[u].tolist(), relevant_items, k), rel=1e-12)
        assert recall[u] == pytest.approx(naive.recall(ranked[u].tolist(), relevant_items, k), rel=1e-12)
    if n_items > 1:  # scikit-learn refuses a list of one
        assert ndcg.mean() == pytest.approx(ndcg_score(relevant, scores, k=k), rel=1e-12)
    assert ((ndcg >= 0) & (ndcg <= 1 + 1e-12) & (recall >= 0) & (recall <= 1)).all()


def test_of_factors_with_negative_values_all_errors_but_the_mean_absolute_one_are_known(rng):
    w, h = rng.normal(0, 1, (30, 3)).astype(np.float32), rng.normal(0, 1, (3, 20)).astype(np.float32)
    dense = np.where(rng.random((30, 20)) < 0.3, 4, 0).astype(np.float32)
    errors_of_cells = all_cells_errors(csr(dense), w, h)
    left = dense - w.astype(np.float64) @ h.astype(np.float64)
    assert errors_of_cells.mae is None
    assert errors_of_cells.rmse == pytest.approx(np.sqrt((left**2).mean()), rel=1e-9)
    assert errors_of_cells.observed.mae == pytest.approx(np.abs(left[dense > 0]).mean(), rel=1e-9)
