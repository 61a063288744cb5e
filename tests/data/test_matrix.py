"""The matrix and its transforms, held to the naive twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse
from support import naive

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.errors import InputError, TooLittleDataError, UsageError

HOW = ["last", "sum", "max", "mean"]

# Few ids, times and scores, so that duplicates and equal times are common.
timed_rows = st.lists(
    st.tuples(
        st.integers(-2, 3),
        st.sampled_from(["", "a", "é", "\U0001f3ac"]),
        st.sampled_from([0.0, 0.5, 1.0, 3.5, 5.0]),
        st.integers(-2, 2),
    ),
    max_size=40,
)


def interactions(rows, timed=True):
    users, items, scores, at = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    x = Interactions.of(users, items, scores, np.array(at, "datetime64[ms]") if timed else None)
    return prepare_interactions(x).interactions


# ---- the matrix -----------------------------------------------------------------------------------


@given(timed_rows.filter(bool))
@example([(1, "a", 0.0, 1)])
def test_to_matrix(rows):
    matrix = to_matrix(interactions(rows))
    users, items, indptr, indices, data = naive.csr(naive.aggregate(rows))
    csr = matrix.scores
    assert csr.format == "csr"
    assert csr.dtype == np.float32
    assert csr.indices.dtype == csr.indptr.dtype == np.int32
    assert matrix.users.values.tolist() == users
    assert matrix.items.values.tolist() == items
    assert (csr.indptr.tolist(), csr.indices.tolist(), csr.data.tolist()) == (indptr, indices, data)
    assert csr.shape == (len(users), len(items))
    csr = sparse.csr_matrix((csr.data, csr.indices, csr.indptr), shape=csr.shape)
    assert csr.has_canonical_format
    assert matrix.sparsity == pytest.approx(1 - len(data) / (len(users) * len(items)))


def test_zero_scores_stay_seen():
    x = interactions([(1, "a", 0.0, 1), (1, "b", 2.0, 1), (2, "a", 0.0, 1)])
    for transform, expected in (("none", [0, 2, 0]), ("log1p", [0, np.log1p(np.float32(2)), 0]), ("binary", [0, 1, 0])):
        csr = to_matrix(x, transform).scores
        assert csr.nnz == 3
        assert csr.indices.tolist() == [0, 1, 0]
        assert csr.data.tolist() == expected
        assert csr.dtype == np.float32


def test_transforms_leave_the_interactions_alone():
    x = interactions([(1, "a", 0.5, 1), (1, "b", 2.0, 1)])
    for transform in ("log1p", "binary"):
        to_matrix(x, transform)
    assert x.scores.tolist() == [0.5, 2.0]
    assert to_matrix(x, "binary").scores.data.tolist() == [1, 1]
    assert to_matrix(x, "log1p").scores.data == pytest.approx(np.log([1.5, 3.0]), rel=1e-6)
    with pytest.raises(UsageError, match="'none', 'log1p', 'binary'"):
        to_matrix(x, "log")


def test_log1p_of_tiny_scores_is_not_zero():
    assert to_matrix(interactions([(1, "a", 1e-10, 1)]), "log1p").scores.data[0] == np.float32(1e-10)


@pytest.mark.parametrize(("n", "least", "refused"), [(5, 6, True), (5, 5, False), (5, 0, False), (0, 0, True)])
def test_too_little_data(n, least, refused):
    x = interactions([(u, "a", 1.0, 1) for u in range(n)])
    if refused:
        with pytest.raises(TooLittleDataError) as caught:
            to_matrix(x, min_data=least)
        assert str(caught.value) == (
            f"Too little data: {n} interaction(s), and at least {max(least, 1)} are needed. "
            "Give more data, or lower --min-data."
        )
    else:
        assert to_matrix(x, min_data=least).scores.nnz == n


def test_user_items_holds_ids_that_fit():
    csr = sparse.csr_matrix((2, 3), dtype=np.float32)
    assert UserItems(csr, IdMap([1, 2]), IdMap([1, 2, 3])).sparsity == 1.0
    for users, items in ((IdMap([1]), IdMap([1, 2, 3])), (IdMap([1, 2]), IdMap([1, 2]))):
        with pytest.raises(InputError, match=r"\(2, 3\) matrix"):
            UserItems(csr, users, items)
    assert UserItems(sparse.csr_matrix((0, 0)), IdMap([]), IdMap([])).sparsity == 0.0


def test_checkerboard(checkerboard):
    dense = checkerboard.matrix.scores.toarray()
    n = checkerboard.n
    for u in range(n):
        for i in range(n):
            assert dense[u, i] == (u != i and (u + i) % 2 == 0)
    # Its factors rebuild it, with ones on the diagonal that was withheld.
    rebuilt = checkerboard.model.user_factors @ checkerboard.model.item_factors
    assert np.array_equal(rebuilt - dense, np.eye(n))


# ---- the twin itself ------------------------------------------------------------------------------


def test_naive_metrics_on_one_right_answer():
    """V = [[2, 0], [·, ·]], every prediction 1, a dot for a cell without an interaction."""
    errors_of_cells = naive.errors({(0, 0): 2.0, (0, 1): 0.0}, [[1.0], [1.0]], [[1.0, 1.0]])
    assert errors_of_cells == {
        "reconstruction_error": 2.0,
        "rmse": 1.0,
        "mae": 1.0,
        "sparsity": 0.5,
        "observed_rmse": 1.0,
        "observed_mae": 1.0,
    }
    assert naive.ndcg(["a", "b"], {"a"}) == 1.0
    assert naive.ndcg(["b", "a"], {"a"}) == pytest.approx(0.6309297535714574)
    assert naive.recall(["b", "a"], {"a", "z"}) == 0.5
    assert naive.recall(["b", "a"], {"a"}, k=1) == 0.0
