"""Order, duplicates, filters, transform: held to the naive twin, and to any order of the rows."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse

from pipeline.errors import BadRowsError, InputError, TooLittleDataError, UsageError
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.matrix import UserItems, aggregate, content_digest, filter_users, in_order, to_matrix

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
    return Interactions.of(users, items, scores, np.array(at, "datetime64[ms]") if timed else None)


def cells(x):
    """{(user id, item id): score}, and that no cell comes twice."""
    users, items = x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist()
    result = dict(zip(zip(users, items, strict=True), x.scores.tolist(), strict=True))
    assert len(result) == len(x)
    return result


def untimed(rows):
    return [(*row[:3], None) for row in rows]


def parts(matrix):
    """The matrix as bytes and ids: equal only when everything is, bit for bit."""
    csr = matrix.scores
    return (
        csr.shape,
        csr.indptr.tobytes(),
        csr.indices.tobytes(),
        csr.data.tobytes(),
        matrix.users.digest,
        matrix.items.digest,
    )


# ---- order ----------------------------------------------------------------------------------------


@given(timed_rows)
def test_in_order_with_times(rows):
    x = in_order(interactions(rows))
    found = list(zip(x.users.tolist(), x.items.tolist(), x.at.astype(int).tolist(), x.scores.tolist(), strict=True))
    user_rows = {v: row for row, v in enumerate(sorted({r[0] for r in rows}))}
    item_rows = {v: row for row, v in enumerate(sorted({r[1] for r in rows}))}
    assert found == sorted((user_rows[u], item_rows[i], at, score) for u, i, score, at in rows)


@given(timed_rows)
def test_in_order_without_times_keeps_positions(rows):
    x = in_order(interactions(rows, timed=False))
    found = list(zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores, strict=True))
    assert found == sorted([row[:3] for row in rows], key=lambda row: row[:2])
    assert x.at is None


def test_in_order_leaves_what_is_in_order_as_it_is():
    x = interactions([(1, "a", 1, 9), (1, "b", 1, 3), (2, "a", 1, 1)])
    assert in_order(x) is x
    x = interactions([(1, "a", 1, 9), (1, "a", 1, 3)])
    assert in_order(x) is not x


def test_in_order_does_not_change_its_input():
    x = interactions([(2, "b", 1, 9), (1, "a", 2, 3), (1, "a", 3, 2)])
    before = [column.copy() for column in (x.users, x.items, x.scores, x.at)]
    in_order(x)
    assert all(map(np.array_equal, (x.users, x.items, x.scores, x.at), before))


# ---- duplicates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@given(rows=timed_rows)
def test_aggregate_with_times(how, rows):
    assert cells(aggregate(in_order(interactions(rows)), how)) == naive.aggregate(rows, how)


@pytest.mark.parametrize("how", HOW)
@given(rows=timed_rows)
def test_aggregate_by_position(how, rows):
    found = cells(aggregate(in_order(interactions(rows, timed=False)), how))
    assert found == naive.aggregate(untimed(rows), how)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("last", 4.0), ("sum", 12.0), ("max", 5.0), ("mean", 3.0)],
)
@pytest.mark.parametrize("turn", range(4))
def test_one_right_answer(how, expected, turn):
    """The latest time has two scores, 2 and 4: the larger one wins, though 5 came before."""
    rows = [(1, "a", 5.0, 10), (1, "a", 4.0, 20), (1, "a", 2.0, 20), (1, "a", 1.0, 15)]
    x = interactions(rows[turn:] + rows[:turn])
    assert cells(aggregate(in_order(x), how)) == {(1, "a"): expected}


def test_untimed_last_is_by_position_not_by_score():
    rows = [(1, "a", 5.0, 0), (2, "a", 1.0, 0), (1, "a", 2.0, 0)]
    assert cells(aggregate(in_order(interactions(rows, timed=False)))) == {(1, "a"): 2.0, (2, "a"): 1.0}
    assert cells(aggregate(in_order(interactions(rows[::-1], timed=False)))) == {(1, "a"): 5.0, (2, "a"): 1.0}


@pytest.mark.parametrize("how", HOW)
def test_aggregate_keeps_the_latest_time(how):
    x = aggregate(in_order(interactions([(1, "a", 1.0, 30), (1, "a", 9.0, 20), (2, "a", 1.0, 5)])), how)
    assert x.at.astype(int).tolist() == [30, 5]


def test_aggregate_default_is_last():
    assert cells(aggregate(in_order(interactions([(1, "a", 1.0, 30), (1, "a", 9.0, 20)])))) == {(1, "a"): 1.0}


def test_aggregate_of_nothing_and_of_no_duplicates():
    nothing = interactions([])
    assert aggregate(nothing) is nothing
    x = interactions([(1, "a", 1.0, 1), (1, "b", 1.0, 1)])
    for how in HOW:
        assert aggregate(x, how) is x


def test_sums_are_in_float64():
    """In float32, 2**24 + 1 + 1 + … stays 2**24."""
    scores = [2.0**24] + [1.0] * 100
    x = in_order(Interactions.of([1] * 101, [1] * 101, scores))
    assert aggregate(x, "sum").scores.tolist() == [2.0**24 + 100]
    assert aggregate(x, "mean").scores.tolist() == [float(np.float32((2.0**24 + 100) / 101))]


def test_a_sum_past_float32_is_a_bad_row_and_its_mean_is_not():
    x = in_order(Interactions.of([1, 1], [1, 1], [3e38, 3e38]))
    with pytest.raises(BadRowsError, match="largest float32"):
        aggregate(x, "sum")
    assert aggregate(x, "mean").scores.tolist() == [float(np.float32(3e38))]


@pytest.mark.parametrize("how", ["first", "LAST", "", "min"])
def test_unknown_way_of_aggregation(how):
    with pytest.raises(UsageError, match="'last', 'sum', 'max', 'mean'"):
        aggregate(interactions([(1, "a", 1.0, 1)]), how)


# ---- any order of the rows ------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@given(rows=timed_rows.filter(bool), data=st.data())
def test_timed_rows_in_any_order_give_the_same_matrix_and_digest(how, rows, data):
    shuffled = data.draw(st.permutations(rows))
    one, other = (in_order(interactions(r)) for r in (rows, shuffled))
    assert content_digest(one) == content_digest(other)
    one, other = aggregate(one, how), aggregate(other, how)
    assert content_digest(one) == content_digest(other)
    assert parts(to_matrix(one)) == parts(to_matrix(other))


def test_many_rows_in_any_order(rng):
    """The same past the sizes that Hypothesis makes; scores whose sums depend on their order."""
    n = 20_000
    columns = [rng.integers(0, 50, n), rng.integers(0, 40, n), rng.random(n) * 10.0 ** rng.integers(0, 9, n)]
    at = rng.integers(0, 5, n).astype("datetime64[ms]")
    order = rng.permutation(n)
    one = in_order(Interactions.of(*columns, at))
    other = in_order(Interactions.of(*(column[order] for column in columns), at[order]))
    assert content_digest(one) == content_digest(other)
    for how in HOW:
        assert parts(to_matrix(aggregate(one, how))) == parts(to_matrix(aggregate(other, how)))


@given(timed_rows.filter(bool), st.data())
def test_untimed_distinct_rows_in_any_order(rows, data):
    rows = list({row[:2]: row for row in rows}.values())
    shuffled = data.draw(st.permutations(rows))
    one, other = (in_order(interactions(r, timed=False)) for r in (rows, shuffled))
    assert content_digest(one) == content_digest(other)
    assert parts(to_matrix(one)) == parts(to_matrix(other))


def test_minus_zero_is_zero():
    rows = [(1, "a", 0.0, 1), (1, "a", -0.0, 1)]
    one, other = (content_digest(in_order(interactions(r))) for r in (rows, rows[::-1]))
    assert one == other


# ---- digest ---------------------------------------------------------------------------------------


def test_digest_sees_every_column():
    base = [(1, "a", 1.0, 1), (2, "b", 2.0, 2)]
    other = [
        [(3, "a", 1.0, 1), (2, "b", 2.0, 2)],
        [(1, "c", 1.0, 1), (2, "b", 2.0, 2)],
        [(1, "b", 1.0, 1), (2, "a", 2.0, 2)],
        [(1, "a", 1.5, 1), (2, "b", 2.0, 2)],
        [(1, "a", 1.0, 1), (2, "b", 2.0, 3)],
        [*base, (2, "b", 2.0, 2)],
        base[:1],
        [],
    ]
    digests = {content_digest(in_order(interactions(rows))) for rows in [base, *other]}
    digests.add(content_digest(in_order(interactions(base, timed=False))))
    assert len(digests) == len(other) + 2


def test_digest_sees_the_whole_content(rng):
    """Not the first ten thousand rows, as MLflow's own."""
    n = 30_000
    users, scores = np.arange(n), rng.random(n)
    one = content_digest(Interactions.of(users, users, scores))
    scores[-1] += 1
    assert content_digest(Interactions.of(users, users, scores)) != one


def test_digest_stays_the_same_from_version_to_version():
    """It is a tag on every run, compared between runs."""
    x = in_order(interactions([(1, "a", 1.0, 1), (2, "b", 2.5, 2)]))
    assert content_digest(x) == "b7c02893c58bfadc4f4795392f81f5b079a9ef886513916a1868a329ac098ca1"


# ---- filters --------------------------------------------------------------------------------------


@given(
    timed_rows.filter(bool),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 5),
)
def test_filter_users(rows, least, most):
    x = filter_users(aggregate(in_order(interactions(rows))), least, most)
    expected = naive.filter_users(naive.aggregate(rows), least, most)
    assert cells(x) == expected
    if expected:
        # Ids that are left over are gone, and the matrix is that of the rest.
        users, items, *_ = naive.csr(expected)
        assert x.user_ids.values.tolist() == users
        assert x.item_ids.values.tolist() == items
        assert np.array_equal(to_matrix(x).scores.indptr, naive.csr(expected)[2])


def test_filter_bounds_are_inclusive_and_ids_encoded_again():
    rows = [(u, f"i{i}", 1.0 + u, 0) for u, n in ((10, 1), (20, 2), (30, 3), (40, 4)) for i in range(5 - n, 5)]
    x = aggregate(in_order(interactions(rows)))
    kept = filter_users(x, 2, 3)
    assert kept.user_ids.values.tolist() == [20, 30]
    assert kept.item_ids.values.tolist() == ["i2", "i3", "i4"]
    assert to_matrix(kept).scores.toarray().tolist() == [[0, 21, 21], [31, 31, 31]]
    assert filter_users(x, 1, 4) is x
    assert filter_users(x) is x
    assert filter_users(x, 2).user_ids.values.tolist() == [20, 30, 40]
    assert filter_users(x, None, 3).user_ids.values.tolist() == [10, 20, 30]


def test_filter_that_leaves_nobody():
    x = filter_users(interactions([(1, "a", 1.0, 1)]), 2)
    assert len(x) == len(x.user_ids) == len(x.item_ids) == 0
    with pytest.raises(TooLittleDataError, match=r"^Too little data: 0 interaction\(s\)"):
        to_matrix(x)


# ---- the matrix -----------------------------------------------------------------------------------


@given(timed_rows.filter(bool))
@example([(1, "a", 0.0, 1)])
def test_to_matrix(rows):
    matrix = to_matrix(aggregate(in_order(interactions(rows))))
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
    found = naive.errors({(0, 0): 2.0, (0, 1): 0.0}, [[1.0], [1.0]], [[1.0, 1.0]])
    assert found == {
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
