"""`Interactions`: parallel columns, checked once, where they are made."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.errors import BadRowsError, InputError


def columns(**changed):
    """Three good interactions, with some columns replaced."""
    good = {
        "users": np.array([0, 1, 1], np.int32),
        "items": np.array([1, 0, 1], np.int32),
        "scores": np.array([0, 0.5, 5], np.float32),
        "user_ids": IdMap([10, 20]),
        "item_ids": IdMap(["a", "b"]),
        "at": np.array([0, 1, 2], "datetime64[ms]"),
    }
    return good | changed


def external(x):
    """Rows as (user id, item id, score), in order."""
    return list(zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), strict=True))


def test_good_columns():
    x = Interactions(**columns())
    assert len(x) == 3
    assert external(x) == [(10, "b", 0.0), (20, "a", 0.5), (20, "b", 5.0)]
    assert Interactions(**columns(at=None)).at is None


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("users", "int64"),
        ("users", "uint32"),
        ("items", "int64"),
        ("items", "float32"),
        ("scores", "float64"),
        ("scores", "int32"),
        ("at", "datetime64[s]"),
        ("at", "datetime64[ns]"),
        ("at", "int64"),
    ],
)
def test_other_types_are_refused(name, dtype):
    with pytest.raises(InputError, match=rf"^{name} must be"):
        Interactions(**columns(**{name: columns()[name].astype(dtype)}))


@pytest.mark.parametrize("name", ["items", "scores", "at"])
def test_other_lengths_are_refused(name):
    with pytest.raises(InputError, match=rf"^{name} has shape \(2,\), users has \(3,\)"):
        Interactions(**columns(**{name: columns()[name][:2]}))


def test_two_dimensions_are_refused():
    with pytest.raises(InputError):
        Interactions(**columns(**{k: v[:, None] for k, v in columns().items() if isinstance(v, np.ndarray)}))


@pytest.mark.parametrize(("name", "code"), [("users", -1), ("users", 2), ("items", -1), ("items", 2)])
def test_codes_out_of_range(name, code):
    codes = columns()[name].copy()
    codes[1] = code
    with pytest.raises(InputError, match=rf"^{name} must be in range \[0, 2\)"):
        Interactions(**columns(**{name: codes}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, -1e-30])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_bad_scores_are_counted(bad, where):
    scores = columns()["scores"].copy()
    scores[where] = bad
    with pytest.raises(BadRowsError, match=r"^1 score\(s\) are not finite and ≥ 0$"):
        Interactions(**columns(scores=scores))


def test_several_bad_scores_are_counted():
    with pytest.raises(BadRowsError, match=r"^3 score"):
        Interactions.of([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [np.nan, 1, -1, np.inf, 0])


def test_a_score_past_float32_is_bad():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(BadRowsError):
            Interactions.of([1], [1], [1e39])


def test_zero_and_tiny_and_huge_scores_are_good():
    scores = [0.0, 1e-45, 3.4e38]
    assert Interactions.of([1, 2, 3], [1, 2, 3], scores).scores.tolist() == np.array(scores, np.float32).tolist()


def test_columns_can_not_be_changed():
    x = Interactions(**columns())
    for name in ("users", "items", "scores", "at"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(x, name)[0] = getattr(x, name)[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        x.scores = x.scores


def test_of_leaves_the_callers_arrays_alone():
    given_arrays = (
        np.array([2, 1]),
        np.array([4, 3]),
        np.array([1, 2], np.float32),
        np.array([5, 6], "datetime64[ms]"),
    )
    before = [a.copy() for a in given_arrays]
    x = Interactions.of(*given_arrays)
    for now, then in zip(given_arrays, before, strict=True):
        assert now.flags.writeable
        assert np.array_equal(now, then)
        now[:] = now[::-1].copy()
    assert external(x) == [(2, 4, 1.0), (1, 3, 2.0)]
    assert x.at.astype(np.int64).tolist() == [5, 6]


def test_empty():
    x = Interactions.of([], [], [])
    assert len(x) == len(x.user_ids) == len(x.item_ids) == 0
    assert len(x.compact()) == len(x.take(np.empty(0, np.intp))) == 0


def test_of_without_scores_is_one_each():
    assert Interactions.of([5, 5], ["a", "b"]).scores.tolist() == [1.0, 1.0]
    assert Interactions.of([5, 5], ["a", "b"]).scores.dtype == np.float32


def test_of_takes_times_of_any_unit():
    seconds = np.array(["2024-02-29T12:00:01"], "datetime64[s]")
    for at in (seconds, seconds.astype("datetime64[ns]"), seconds.astype("datetime64[ms]")):
        assert Interactions.of([1], [1], [1], at).at.tolist() == seconds.astype("datetime64[ms]").tolist()


@pytest.mark.parametrize(
    "arguments",
    [([1, 2], [1]), ([1], [1], [1, 2]), ([1], [1], [1], np.array([1, 2], "datetime64[ms]")), ([1], [1], 3.0)],
)
def test_of_columns_of_other_lengths(arguments):
    with pytest.raises(InputError):
        Interactions.of(*arguments)


@pytest.mark.parametrize("ids", [[1.0], [None], np.array([1, None], object)])
def test_of_refuses_ids_of_other_kinds(ids):
    with pytest.raises(InputError, match="Ids must be integers or strings"):
        Interactions.of(ids, [1])
    with pytest.raises(InputError, match="Ids must be integers or strings"):
        Interactions.of([1], ids)


ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
names = st.sampled_from(["", "a", "b", "é", "\U0001f3ac", "10", "9"])
rows = st.lists(st.tuples(ids, names, st.floats(0, 5, width=32)), min_size=1, max_size=25)


@given(rows)
def test_of_encodes_without_loss(rows):
    x = Interactions.of(*(list(column) for column in zip(*rows, strict=True)))
    assert external(x) == rows
    assert x.users.dtype == x.items.dtype == np.int32
    assert x.user_ids.values.tolist() == sorted({row[0] for row in rows})
    assert x.item_ids.values.tolist() == sorted({row[1] for row in rows})


@given(rows, st.data())
def test_take_keeps_ids_and_compact_drops_the_unused(rows, data):
    x = Interactions.of(*(list(column) for column in zip(*rows, strict=True)))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    rows_taken = [row for row, k in zip(rows, keep, strict=True) if k]
    taken = x.take(keep)
    assert external(taken) == rows_taken == external(x.take(np.flatnonzero(keep)))
    assert (taken.user_ids, taken.item_ids) == (x.user_ids, x.item_ids)
    small = taken.compact()
    assert external(small) == rows_taken
    assert small.user_ids.values.tolist() == sorted({row[0] for row in rows_taken})
    assert small.item_ids.values.tolist() == sorted({row[1] for row in rows_taken})
    assert external(x) == rows


def test_take_and_compact_carry_times():
    x = Interactions.of([1, 2, 3], [1, 2, 3], [1, 2, 3], np.array([7, 8, 9], "datetime64[ms]"))
    small = x.take(np.array([2, 0])).compact()
    assert small.at.astype(np.int64).tolist() == [9, 7]
    assert external(small) == [(3, 3, 3.0), (1, 1, 1.0)]


def test_a_missing_time_is_refused():
    with pytest.raises(BadRowsError):
        Interactions.of([1, 1], [1, 1], [1, 2], np.array(["2024-01-01", "NaT"], "datetime64[ms]"))
