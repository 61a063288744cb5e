"""Order, duplicates, bounds: held to the naive twin, and to any order of the rows."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.cells import cells, parts, untimed

from pipeline.data import mapped
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import TRANSFORMS, to_matrix
from pipeline.data.prepare import (
    DUPLICATES,
    PreparedInteractions,
    aggregate,
    content_digest,
    filter_users,
    prepare_interactions,
    sort_interactions,
)
from pipeline.errors import BadRowsError, InputError, TooLittleDataError, UsageError
from pipeline.options import Duplicates, Transform

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


# ---- order ----------------------------------------------------------------------------------------


@given(timed_rows)
def test_in_order_with_times(rows):
    x = sort_interactions(interactions(rows))
    cells = list(zip(x.users.tolist(), x.items.tolist(), x.at.astype(int).tolist(), x.scores.tolist(), strict=True))
    user_rows = {v: row for row, v in enumerate(sorted({r[0] for r in rows}))}
    item_rows = {v: row for row, v in enumerate(sorted({r[1] for r in rows}))}
    assert cells == sorted((user_rows[u], item_rows[i], at, score) for u, i, score, at in rows)


@given(timed_rows)
def test_in_order_without_times_keeps_positions(rows):
    x = sort_interactions(interactions(rows, timed=False))
    cells = list(zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores, strict=True))
    assert cells == sorted([row[:3] for row in rows], key=lambda row: row[:2])
    assert x.at is None


def test_in_order_leaves_what_is_in_order_as_it_is():
    x = interactions([(1, "a", 1, 9), (1, "b", 1, 3), (2, "a", 1, 1)])
    assert sort_interactions(x) is x
    x = interactions([(1, "a", 1, 9), (1, "a", 1, 3)])
    assert sort_interactions(x) is not x


def test_in_order_does_not_change_its_input():
    x = interactions([(2, "b", 1, 9), (1, "a", 2, 3), (1, "a", 3, 2)])
    before = [column.copy() for column in (x.users, x.items, x.scores, x.at)]
    sort_interactions(x)
    assert all(map(np.array_equal, (x.users, x.items, x.scores, x.at), before))


# ---- duplicates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@given(rows=timed_rows)
def test_aggregate_with_times(how, rows):
    assert cells(aggregate(sort_interactions(interactions(rows)), how)) == naive.aggregate(rows, how)


@pytest.mark.parametrize("how", HOW)
@given(rows=timed_rows)
def test_aggregate_by_position(how, rows):
    aggregated = cells(aggregate(sort_interactions(interactions(rows, timed=False)), how))
    assert aggregated == naive.aggregate(untimed(rows), how)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("last", 4.0), ("sum", 12.0), ("max", 5.0), ("mean", 3.0)],
)
@pytest.mark.parametrize("turn", range(4))
def test_one_right_answer(how, expected, turn):
    """The latest time has two scores, 2 and 4: the larger one wins, though 5 came before."""
    rows = [(1, "a", 5.0, 10), (1, "a", 4.0, 20), (1, "a", 2.0, 20), (1, "a", 1.0, 15)]
    x = interactions(rows[turn:] + rows[:turn])
    assert cells(aggregate(sort_interactions(x), how)) == {(1, "a"): expected}


def test_untimed_last_is_by_position_not_by_score():
    rows = [(1, "a", 5.0, 0), (2, "a", 1.0, 0), (1, "a", 2.0, 0)]
    assert cells(aggregate(sort_interactions(interactions(rows, timed=False)))) == {(1, "a"): 2.0, (2, "a"): 1.0}
    assert cells(aggregate(sort_interactions(interactions(rows[::-1], timed=False)))) == {(1, "a"): 5.0, (2, "a"): 1.0}


@pytest.mark.parametrize("how", HOW)
def test_aggregate_keeps_the_latest_time(how):
    x = aggregate(sort_interactions(interactions([(1, "a", 1.0, 30), (1, "a", 9.0, 20), (2, "a", 1.0, 5)])), how)
    assert x.at.astype(int).tolist() == [30, 5]


def test_aggregate_default_is_last():
    assert cells(aggregate(sort_interactions(interactions([(1, "a", 1.0, 30), (1, "a", 9.0, 20)])))) == {(1, "a"): 1.0}


def test_aggregate_of_nothing_and_of_no_duplicates():
    assert len(aggregate(interactions([]))) == 0
    x = interactions([(1, "a", 1.0, 1), (1, "b", 1.0, 1)])
    for how in HOW:
        unique = aggregate(x, how)
        assert np.shares_memory(unique.scores, x.scores)
        assert aggregate(unique, how) is unique


def test_sums_are_in_float64():
    """In float32, 2**24 + 1 + 1 + … stays 2**24."""
    scores = [2.0**24] + [1.0] * 100
    x = sort_interactions(Interactions.of([1] * 101, [1] * 101, scores))
    assert aggregate(x, "sum").scores.tolist() == [2.0**24 + 100]
    assert aggregate(x, "mean").scores.tolist() == [float(np.float32((2.0**24 + 100) / 101))]


def test_a_sum_past_float32_is_a_bad_row_and_its_mean_is_not():
    x = sort_interactions(Interactions.of([1, 1], [1, 1], [3e38, 3e38]))
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
    first, other = (sort_interactions(interactions(r)) for r in (rows, shuffled))
    assert content_digest(first) == content_digest(other)
    first, other = aggregate(first, how), aggregate(other, how)
    assert content_digest(first) == content_digest(other)
    assert parts(to_matrix(first)) == parts(to_matrix(other))


def test_many_rows_in_any_order(rng):
    """The same past the sizes that Hypothesis makes; scores whose sums depend on their order."""
    n = 20_000
    columns = [rng.integers(0, 50, n), rng.integers(0, 40, n), rng.random(n) * 10.0 ** rng.integers(0, 9, n)]
    at = rng.integers(0, 5, n).astype("datetime64[ms]")
    order = rng.permutation(n)
    first = sort_interactions(Interactions.of(*columns, at))
    other = sort_interactions(Interactions.of(*(column[order] for column in columns), at[order]))
    assert content_digest(first) == content_digest(other)
    for how in HOW:
        assert parts(to_matrix(aggregate(first, how))) == parts(to_matrix(aggregate(other, how)))


@given(timed_rows.filter(bool), st.data())
def test_untimed_distinct_rows_in_any_order(rows, data):
    rows = list({row[:2]: row for row in rows}.values())
    shuffled = data.draw(st.permutations(rows))
    first, other = (sort_interactions(interactions(r, timed=False)) for r in (rows, shuffled))
    assert content_digest(first) == content_digest(other)
    assert parts(to_matrix(aggregate(first))) == parts(to_matrix(aggregate(other)))


def test_minus_zero_is_zero():
    rows = [(1, "a", 0.0, 1), (1, "a", -0.0, 1)]
    first, other = (content_digest(sort_interactions(interactions(r))) for r in (rows, rows[::-1]))
    assert first == other


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
    digests = {content_digest(sort_interactions(interactions(rows))) for rows in [base, *other]}
    digests.add(content_digest(sort_interactions(interactions(base, timed=False))))
    assert len(digests) == len(other) + 2


def test_digest_sees_the_whole_content(rng):
    """Not the first ten thousand rows, as MLflow's own."""
    n = 30_000
    users, scores = np.arange(n), rng.random(n)
    first = content_digest(Interactions.of(users, users, scores))
    scores[-1] += 1
    assert content_digest(Interactions.of(users, users, scores)) != first


def test_digest_stays_the_same_from_version_to_version():
    """It is a tag on every run, compared between runs."""
    x = sort_interactions(interactions([(1, "a", 1.0, 1), (2, "b", 2.5, 2)]))
    assert content_digest(x) == "b7c02893c58bfadc4f4795392f81f5b079a9ef886513916a1868a329ac098ca1"


# ---- filters --------------------------------------------------------------------------------------


@given(
    timed_rows.filter(bool),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 5),
)
def test_filter_users(rows, least, most):
    x = filter_users(aggregate(sort_interactions(interactions(rows))), least, most)
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
    x = aggregate(sort_interactions(interactions(rows)))
    filtered = filter_users(x, 2, 3)
    assert filtered.user_ids.values.tolist() == [20, 30]
    assert filtered.item_ids.values.tolist() == ["i2", "i3", "i4"]
    assert to_matrix(filtered).scores.toarray().tolist() == [[0, 21, 21], [31, 31, 31]]
    assert filter_users(x, 1, 4) is x
    assert filter_users(x) is x
    assert filter_users(x, 2).user_ids.values.tolist() == [20, 30, 40]
    assert filter_users(x, None, 3).user_ids.values.tolist() == [10, 20, 30]


def test_filter_that_leaves_nobody():
    x = filter_users(aggregate(interactions([(1, "a", 1.0, 1)])), 2)
    assert len(x) == len(x.user_ids) == len(x.item_ids) == 0
    with pytest.raises(TooLittleDataError, match=r"^Too little data: 0 interaction\(s\)"):
        to_matrix(x)


# ---- the prepared interactions --------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs", [[(2, 1), (1, 1)], [(1, 2), (1, 1)], [(1, 1), (1, 1)]], ids=["users", "items", "twice"]
)
@pytest.mark.parametrize("rows_at_once", [1, 2, 1 << 20])
def test_what_is_not_sorted_or_has_a_pair_twice_is_not_prepared(pairs, rows_at_once, monkeypatch):
    monkeypatch.setattr(mapped, "AT_ONCE", rows_at_once)
    for before in ([], [(0, 0)], [(0, 0), (0, 1)]):
        users, items = zip(*before, *pairs, (3, 3), strict=True)
        with pytest.raises(InputError, match="make them with prepare_interactions"):
            PreparedInteractions.of(users, items)
        assert len(prepare_interactions(Interactions.of(users, items)).interactions) == len({*before, *pairs}) + 1


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 1 << 20])
@given(timed_rows)
def test_prepared_stays_prepared(rows_at_once, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "AT_ONCE", rows_at_once)
        x = prepare_interactions(interactions(rows)).interactions
        assert sort_interactions(x) is x
        some = x.take(x.scores > 0.5).compact()
        assert type(some) is type(x) is PreparedInteractions
        assert x.user_starts().tolist() == naive.csr(naive.aggregate(rows))[2]


@given(timed_rows.filter(bool), st.sampled_from(HOW), st.none() | st.integers(0, 3), st.none() | st.integers(0, 3))
def test_prepare_is_its_steps_and_counts_what_they_leave_out(rows, how, least, most):
    x = interactions(rows)
    prepared = prepare_interactions(x, how, least, most)
    unique = aggregate(sort_interactions(x), how)
    left = filter_users(unique, least, most)
    assert prepared.data_digest == content_digest(sort_interactions(x))
    assert content_digest(prepared.interactions) == content_digest(left)
    assert prepared.n_read == len(rows)
    assert prepared.n_duplicates == len(rows) - len(unique)
    users_left = {user for user, _ in cells(left)}
    assert prepared.n_users_left_out == len({row[0] for row in rows} - users_left)
    assert prepared.n_interactions_left_out == len(unique) - len(left)


def test_too_little_to_prepare():
    x = interactions([(1, "a", 1.0, 1), (1, "a", 2.0, 1)])
    assert prepare_interactions(x, min_data=2).n_duplicates == 1
    with pytest.raises(TooLittleDataError, match=r"^Too little data: 2 interaction\(s\), and at least 3 are needed\."):
        prepare_interactions(x, min_data=3)


def test_the_words_are_those_of_the_options():
    assert get_args(Duplicates) == DUPLICATES
    assert get_args(Transform) == TRANSFORMS
