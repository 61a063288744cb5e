"""The ways of folding in besides the non-negative one, and how metadata chooses between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import naive
from support.examples import examples

from pipeline.errors import ArtifactError
from pipeline.kernels import available
from pipeline.models.fold_in import FoldIn
from pipeline.models.objective import Objective

WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="needs numba"))]


def ridge(H, objective, compiled):
    return FoldIn(H, {"fold_in": "ridge", "objective": objective.as_json()}, compiled)


def rows_of(users):
    """CSR arrays of users, each a dict of item → score."""
    indptr = np.cumsum([0, *(len(user) for user in users)])
    indices = np.array([i for user in users for i in sorted(user)], np.int32)
    return indptr, indices, np.array([user[i] for user in users for i in sorted(user)], np.float32)


objectives = st.builds(
    Objective,
    unobserved_weight=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    confidence=st.sampled_from([0.0, 2.0, 40.0]),
    alpha_W=st.sampled_from([0.01, 0.3]),
    reg_exponent=st.sampled_from([0.0, 0.5, 1.0]),
    dislike_weight=st.sampled_from([1.0, 7.0]),
)


@pytest.mark.parametrize("compiled", WAYS)
@settings(max_examples=examples(60))
@given(
    objective=objectives,
    k=st.integers(2, 5),
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_the_gradient_of_a_ridge_row_is_zero(compiled, objective, k, counts, seed):
    rng = np.random.default_rng(seed)
    H = rng.normal(0, 1, (k, 9)).astype(np.float32)
    users = [{int(i): float(rng.integers(0, 6)) for i in rng.permutation(9)[:n]} for n in counts]
    rows = ridge(H, objective, compiled).solve(*rows_of(users))
    assert (rows.shape, rows.dtype) == ((len(users), k), np.float32)
    for row, user in zip(rows, users, strict=True):
        w = [float(v) for v in row]
        _, slope, curvature = naive.user_objective(objective, H, user, w)
        for t in range(k):
            assert abs(slope[t]) <= 3e-5 * curvature[t] * (1 + max(map(abs, w))), (t, w, slope)


@pytest.mark.parametrize("compiled", WAYS)
def test_a_ridge_row_is_the_solution_of_the_equations(compiled):
    rng = np.random.default_rng(3)
    H = rng.normal(0, 1, (37, 150)).astype(np.float32)
    X = sparse.random(300, 150, 0.2, "csr", np.float32, rng=rng)
    goal = Objective(unobserved_weight=0.1, confidence=3, alpha_W=0.2, reg_exponent=0.5)
    rows = ridge(H, goal, compiled).solve(X.indptr, X.indices, X.data, 2)
    dense, h = X.toarray().astype(float), H.astype(float)
    for u in (0, 7, 255, 256, 299):
        c = np.where(dense[u] > 0, 1 + 3 * dense[u], 0.1)
        n = X[u].nnz
        A = (h * c) @ h.T + 0.2 * (n + 0.1 * (150 - n)) ** 0.5 * np.eye(37)
        np.testing.assert_allclose(rows[u], np.linalg.solve(A, (h * c) @ dense[u]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compiled", WAYS)
def test_a_ridge_without_regularisation_leaves_out_what_nothing_is_known_of(compiled):
    H = np.array([[1, 2, 0, 1], [2, 4, 0, 3], [0, 0, 5, 0]], np.float32)
    rows = ridge(H, Objective(unobserved_weight=0), compiled).solve(*rows_of([{}, {0: 3.0, 1: 6.0}, {0: 3.0, 3: 5.0}]))
    assert rows[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(rows[1], [3, 0, 0], atol=1e-5)  # one equation for two components
    np.testing.assert_allclose(rows[2], [-1, 2, 0], atol=1e-4)


@pytest.mark.skipif(not available(), reason="needs numba")
def test_ridge_rows_on_any_number_of_threads_are_single_rows():
    rng = np.random.default_rng(4)
    H = rng.normal(0, 1, (20, 90)).astype(np.float32)
    X = sparse.random(700, 90, 0.2, "csr", np.float32, rng=rng)
    folder = ridge(H, Objective(0.3, alpha_W=0.1), True)
    one, two, five = (folder.fold_matrix(X, n) for n in (1, 2, 5))
    assert one.tobytes() == two.tobytes() == five.tobytes()
    for row in (0, 255, 256, 699):
        assert folder.fold_matrix(X[[row]]).tobytes() == one[row].tobytes()


def test_linear_rows_are_sums_of_item_factors_by_score():
    H = np.array([[1, -2, 4, 0], [0, 1, 0, 7]], np.float32)
    folder = FoldIn(H, {"fold_in": "linear", "parameters": {"transform": "binary"}})
    X = sparse.csr_matrix(np.array([[3, 5, 0, 0], [0, 0, 0, 0], [0, 0, 2, 1]], np.float32))
    assert folder.fold_matrix(X).tolist() == [[-1, 1], [0, 0], [4, 7]]
    raw = FoldIn(H, {"fold_in": "linear"})
    assert raw.fold_matrix(X).tolist() == [[-7, 5], [0, 0], [8, 7]]
    assert raw.fold_matrix(X[:0]).shape == (0, 2)


@pytest.mark.parametrize("name", ["magic", 3, ["ridge"]])
def test_an_unknown_way_is_refused(name):
    with pytest.raises(ArtifactError, match="fold_in is not one of non_negative, ridge, linear, rating"):
        FoldIn(np.ones((1, 1), np.float32), {"fold_in": name})


@pytest.mark.parametrize("goal", [Objective(alpha_W=1, l1_ratio=0.5), Objective(0.0, biases=True)])
def test_a_ridge_has_neither_l1_nor_biases(goal):
    with pytest.raises(ArtifactError, match="neither L1 nor biases"):
        ridge(np.ones((2, 1), np.float32), goal, False)


@pytest.mark.parametrize("name", ["ridge", "linear"])
def test_the_parts_of_a_score_are_its_sum(name):
    rng = np.random.default_rng(5)
    H = rng.normal(0, 1, (6, 40)).astype(np.float32)
    goal = Objective(0.2, confidence=1.5, alpha_W=0.1)
    folder = FoldIn(H, {"fold_in": name, "objective": goal.as_json()})
    items, scores = np.array([3, 8, 9, 30], np.int32), np.array([1, 4, 0, 2.5], np.float32)
    w = folder.solve(np.array([0, 4]), items, scores)[0]
    for item in (0, 8, 39):
        parts, level = folder.split(items, scores, item)
        assert parts.sum() == pytest.approx(float(w @ H[:, item]), rel=1e-5, abs=1e-6)
        assert parts[2] == 0
        assert level == 0


GOALS = {
    "plain": Objective(),
    "l2": Objective(alpha_W=0.02),
    "l1": Objective(alpha_W=0.02, l1_ratio=0.7),
    "weighted": Objective(0.1, confidence=2.0, alpha_W=0.01, reg_exponent=0.5),
    "biases": Objective(0.0, alpha_W=0.05, biases=True, bias_prior=1.5),
}


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", GOALS)
def test_non_negative_scores_split_by_item(name, kernels):
    goal, rng = GOALS[name], np.random.default_rng(8)
    H = (rng.random((5, 30)) * (rng.random((5, 30)) < 0.6)).astype(np.float32)
    if goal.biases:
        H[-1] = 1
    folder = FoldIn(H, {"objective": goal.as_json()}, compiled=kernels)
    with_level = goal.l1_ratio > 0 or goal.biases
    for _ in range(20):
        items = np.sort(rng.choice(30, 6, replace=False)).astype(np.int32)
        scores = rng.integers(0, 6, 6).astype(np.float32)
        w = folder.solve(np.array([0, 6]), items, scores)[0].astype(np.float64)
        for item in (0, int(items[0]), 29):
            parts, level = folder.split(items, scores, item)
            assert parts.sum() + level == pytest.approx(float(w @ H[:, item]), rel=1e-4, abs=1e-5)
            assert (parts[scores == 0] == 0).all()
            assert with_level or level == 0


def test_parts_follow_from_the_equations_that_hold_in_the_free_factors():
    # One factor an item's group: the user's score of an item of a group is the mean of what they gave to the group.
    H = np.kron(np.eye(2), np.ones(3)).astype(np.float32)
    parts, level = FoldIn(H, {}).split(np.array([0, 1, 3]), np.array([6, 3, 9], np.float32), 2)
    assert parts.tolist() == pytest.approx([2, 1, 0])
    assert level == 0


def test_factors_that_are_twins_still_split():
    H = np.repeat(np.random.default_rng(1).random((1, 8)), 3, axis=0).astype(np.float32)
    folder = FoldIn(H, {})
    items, scores = np.array([1, 5], np.int32), np.array([2, 1], np.float32)
    w = folder.solve(np.array([0, 2]), items, scores)[0]
    parts, level = folder.split(items, scores, 3)
    assert parts.sum() == pytest.approx(float(w @ H[:, 3]), rel=1e-5)
    assert level == 0


def test_a_user_without_items_has_no_parts():
    parts, level = FoldIn(np.ones((2, 4), np.float32), {}).split(np.zeros(0, np.int32), np.zeros(0, np.float32), 1)
    assert parts.shape == (0,)
    assert level == 0
