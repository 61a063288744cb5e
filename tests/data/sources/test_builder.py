"""Arrow blocks → Interactions, against a row-by-row twin."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import uuid
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.built_rows import read, rows_of
from support.examples import examples

from pipeline.data.sources import builder as blocks
from pipeline.data.sources import id_column
from pipeline.data.sources.builder import SAMPLE_ROWS, Columns, InteractionsBuilder
from pipeline.data.sources.columns import find_columns
from pipeline.errors import BadRowsError, InputError, MissingColumnsError, UsageError


def naive(rows):
    """The slow, obvious way: (good rows, numbers of the bad ones)."""
    good, bad = [], []
    for number, (user, item, score, at) in enumerate(rows, 1):
        ids_fit = all(
            i is not None and (isinstance(i, int) or (0 < len(i) <= 256 and "\0" not in i)) for i in (user, item)
        )
        value = pa.scalar(math.nan if score is None else score).cast(pa.float32()).as_py()
        if ids_fit and 0 <= value < math.inf and at is not None:
            good.append((user, item, value + 0.0, at))
        else:
            bad.append(number)
    return good, bad


texts = st.one_of(st.none(), st.sampled_from(["a", "b", "", "é", "\U0001f600", "x" * 256, "x" * 257, "n\0"]), st.text())


numbers = st.one_of(st.none(), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


scores = st.one_of(st.none(), st.floats(width=64), st.floats(0, 5))


moments = st.one_of(st.none(), st.integers(-(10**13), 10**14))


@st.composite
def split_rows(draw):
    users, items = draw(st.sampled_from([(texts, numbers), (numbers, texts), (numbers, numbers), (texts, texts)]))
    rows = draw(st.lists(st.tuples(users, items, scores, moments), max_size=30))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    kinds = [
        pa.string() if kind is texts and not wide else pa.large_string() if kind is texts else pa.int64()
        for kind, wide in zip((users, items), draw(st.tuples(st.booleans(), st.booleans())), strict=True)
    ]
    return rows, cuts, kinds


def table_of(rows, kinds):
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = [*kinds, pa.float64(), pa.timestamp("ms", "Europe/Berlin")]
    return pa.table(
        [pa.array(c, t) for c, t in zip(columns, types, strict=True)], ["user_id", "item_id", "score", "at"]
    )


@settings(max_examples=examples(150))
@given(split_rows(), st.sampled_from([1, 4, 1 << 20]))
def test_blocks_of_any_size_are_the_rows_one_by_one(case, gathered):
    rows, cuts, kinds = case
    builder = InteractionsBuilder(on_bad_rows="drop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks.InteractionsBuilder, "gather_rows", gathered)
        for start, end in pairwise([0, *cuts, len(rows)]):
            builder.add(table_of(rows[start:end], kinds))
        result = builder.finish()
    good, bad = naive(rows)
    assert rows_of(result) == good
    assert (result.n_rows, result.n_bad) == (len(rows), len(bad))
    assert [row["row"] for row in result.bad_rows] == bad
    json.dumps(result.bad_rows, allow_nan=False)
    x = result.interactions
    for ids, codes_ in ((x.user_ids, x.users), (x.item_ids, x.items)):
        assert sorted(set(codes_.tolist())) == list(range(len(ids)))


@settings(max_examples=examples(100))
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5), min_size=1), st.sampled_from([0, 1 << 22]))
def test_integer_ids_by_table_and_by_hash(ids, table):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_column, "_TABLE", table)
        result = read({"user_id": pa.array(ids, pa.int64()), "item_id": pa.array(ids, pa.int64())})
    assert result.interactions.user_ids.values.tolist() == sorted(set(ids))
    assert [row[0] for row in rows_of(result)] == ids


def test_dictionaries_are_merged_on_the_way(monkeypatch):
    monkeypatch.setattr(blocks.InteractionsBuilder, "gather_rows", 1)
    column = id_column.IdColumn("user_id")
    expected = []
    for block in range(300):
        values = [f"u{(block * k) % 97}" for k in range(1, 30)]
        column.keep(*column.read(pa.chunked_array([values]))[:2], None)
        expected += values
        if block % 50 == 49:
            column._merge()
            assert len(column._merged) == len(set(expected))
    rows, ids = column.finish()
    assert ids.ids(rows).tolist() == expected
    assert ids.values.tolist() == sorted(set(expected))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 1, 3], pa.int8()),
        pa.array([3, 1, 3], pa.uint64()),
        pa.array([3.0, 1.0, 3.0]),
        pa.array([3.0, 1.0, 3.0], pa.float32()),
        pa.array([3, 1, 3]).dictionary_encode(),
        pa.array([decimal.Decimal(3), decimal.Decimal(1), decimal.Decimal(3)], pa.decimal128(20, 0)),
    ],
)
def test_integer_ids_of_any_type(ids):
    result = read({"user_id": ids, "item_id": ids})
    assert result.interactions.user_ids.values.dtype == np.int64
    assert rows_of(result) == [(3, 3, 1.0, None), (1, 1, 1.0, None), (3, 3, 1.0, None)]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["b", "a", "b"]),
        pa.array(["b", "a", "b"], pa.large_string()),
        pa.array(["b", "a", "b"], pa.string_view()),
        pa.array([b"b", b"a", b"b"]),
        pa.array([b"b", b"a", b"b"], pa.binary(1)),
        pa.array([b"b\0", b"a\0", b"b\0"], pa.binary(2)),
        pa.array(["b", "a", "b"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), pa.array(["b", "a", "b"])),
    ],
)
def test_text_ids_of_any_type(ids):
    assert [row[:2] for row in rows_of(read({"user_id": ids, "item_id": ids}))] == [("b", "b"), ("a", "a"), ("b", "b")]


def test_uuids_become_canonical_text():
    values = [uuid.UUID(int=5), uuid.UUID("00112233-4455-6677-8899-AABBCCDDEEFF"), uuid.UUID(int=2**128 - 1)]
    raw = pa.array([v.bytes for v in values], pa.binary(16))
    table = pa.table({"user_id": pa.ExtensionArray.from_storage(pa.uuid(), raw), "item_id": raw})
    assert [row[:2] for row in rows_of(read(table))] == [(str(v), str(v)) for v in values]
    assert [row[0] for row in rows_of(read(table.slice(1)))] == [str(v) for v in values[1:]]
    words = pa.array([b"0" * 16, None, values[1].bytes], pa.binary(16)).slice(1)
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0]), words)
    result = read({"user_id": column, "item_id": [1, 2]}, on_bad_rows="drop")
    assert (rows_of(result), result.n_bad) == ([(str(values[1]), 1, 1.0, None)], 1)
    gap = pa.array([None, values[0].bytes], pa.binary(16))
    assert read({"user_id": gap, "item_id": [1, 2]}, on_bad_rows="drop").bad_rows[0]["reason"] == "user_id is missing"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pa.array([2**63], pa.uint64()), "pass such ids as strings"),
        (pa.array([1.5]), "not fractions"),
        (pa.array([math.inf]), "not fractions"),
        (pa.array([2.0**53]), "not fractions"),
        (pa.array([decimal.Decimal("1.5")]), "with a fraction"),
        (pa.array([True]), "holds bool"),
        (pa.array([[1]]), "holds list"),
        (pa.array([dt.date(2024, 1, 1)]), "holds date32"),
    ],
)
def test_ids_that_would_have_to_be_guessed_at_are_refused(ids, message):
    with pytest.raises(InputError, match=message) as caught:
        read({"user_id": ids, "item_id": [1]}, where="x.parquet")
    assert str(caught.value).startswith("x.parquet: Column 'user_id' ")


def test_ids_of_two_kinds_are_refused():
    builder = InteractionsBuilder()
    builder.add(pa.table({"user_id": [1], "item_id": ["a"]}))
    builder.add(pa.table({"user_id": [2], "item_id": [7]}))
    with pytest.raises(InputError, match="'item_id' holds integers in some rows and text in others"):
        builder.finish()


def test_widths_may_change_between_blocks():
    builder = InteractionsBuilder()
    builder.add(pa.table({"user_id": pa.array([1], pa.int32()), "item_id": pa.array(["a"])}))
    builder.add(pa.table({"user_id": pa.array([2**40], pa.int64()), "item_id": pa.array(["a"]).dictionary_encode()}))
    assert [row[:2] for row in rows_of(builder.finish())] == [(1, "a"), (2**40, "a")]


def test_nulls_of_every_form_are_bad_ids():
    pandas_gap = read({"user_id": [1.0, math.nan, None], "item_id": [1, 2, 3]}, on_bad_rows="drop")
    assert [row["row"] for row in pandas_gap.bad_rows] == [2, 3]
    assert rows_of(pandas_gap) == [(1, 1, 1.0, None)]
    nothing = read({"user_id": pa.nulls(2), "item_id": [1, 2]}, on_bad_rows="drop")
    assert (nothing.n_rows, nothing.n_bad, len(nothing.interactions)) == (2, 2, 0)
    broken = read({"user_id": pa.array([b"\xff", b"a"]), "item_id": [1, 2]}, on_bad_rows="drop")
    assert broken.bad_rows[0]["reason"] == "user_id is not UTF-8"
    unchecked = pa.array([b"\xff", b"a"]).view(pa.string())
    for column in (unchecked, pa.DictionaryArray.from_arrays(pa.array([0, 1]), unchecked)):
        result = read({"user_id": column, "item_id": [1, 2]}, on_bad_rows="drop")
        assert result.bad_rows[0]["reason"] == "user_id is not UTF-8"
        assert rows_of(result) == [("a", 2, 1.0, None)]
    assert rows_of(broken) == [("a", 2, 1.0, None)]


def test_the_longest_id():
    result = read({"user_id": ["é" * 256, "é" * 257, "n\0", ""], "item_id": range(4)}, on_bad_rows="drop")
    assert [row[0] for row in rows_of(result)] == ["é" * 256]
    assert [row["reason"] for row in result.bad_rows] == [
        "user_id is longer than 256 characters",
        "user_id holds a NUL character",
        "user_id is empty",
    ]


def test_the_message_counts_all_and_shows_five():
    builder = InteractionsBuilder(where="x.csv", row_word="line")
    for _ in range(4):
        rows = {"user_id": [1, None, 3], "item_id": [1, 2, 3], "rating": [1.0, 1.0, -2.0]}
        builder.add(pa.table(rows), np.arange(3) + builder.n_rows + 2)
    with pytest.raises(BadRowsError) as caught:
        builder.finish()
    assert str(caught.value) == (
        "x.csv: 8 of 12 rows can't be used: line 3 (user_id is missing), line 4 (rating -2.0 is below 0), "
        "line 6 (user_id is missing), line 7 (rating -2.0 is below 0), line 9 (user_id is missing), …. "
        "Correct them, or --on-bad-rows drop leaves them out. "
        "--on-negative zero keeps scores below 0 as seen without a score."
    )


def test_the_sample_of_bad_rows_is_bounded_and_short():
    n = SAMPLE_ROWS + 7
    result = read({"user_id": ["x" * 5000] * n, "item_id": range(n)}, on_bad_rows="drop")
    assert (result.n_bad, len(result.bad_rows)) == (n, SAMPLE_ROWS)
    assert len(result.bad_rows[0]["user_id"]) <= 101


@settings(max_examples=examples(150))
@given(st.lists(st.sampled_from(["1", "-12", "0", "9223372036854775807", "007", "+1", "-0", "1.0", "é", "9" * 19, ""])))
def test_text_is_integers_only_where_every_kept_row_is_one(column):
    builder = InteractionsBuilder(on_bad_rows="drop", infer_ids=True)
    for i in range(len(column)):
        builder._flush()
        builder.add(pa.table({"user_id": column[i : i + 1], "item_id": [i]}))
    texts = [text for text in column if text]
    whole = [text.removesuffix(".0") for text in texts]
    canonical = all(t.lstrip("-").isdigit() and str(int(t)) == t and abs(int(t)) < 2**63 for t in whole)
    assert [row[0] for row in rows_of(builder.finish())] == ([int(t) for t in whole] if canonical else texts)


def test_a_bad_row_does_not_decide_what_ids_are():
    table = {"user_id": ["1", "x", "2"], "item_id": ["1", "1", "1"], "rating": [1.0, -1.0, 1.0]}
    assert [row[0] for row in rows_of(read(table, on_bad_rows="drop", infer_ids=True))] == [1, 2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["userId", "movieId", "rating", "timestamp"], [0, 1, 2, 3]),
        (["user_id", "movie_id", "interaction_score", "last_interaction_at"], [0, 1, 2, 3]),
        (["at", "SCORE", "Item", "USERID"], [3, 2, 1, 0]),
        (["user", "user_id", "item_id", "movie_id", "USER_ID"], [1, 2]),
    ],
)
def test_usual_spellings(names, expected):
    assert list(find_columns(names, Columns()).values()) == expected


def test_columns_that_are_missing_or_could_be_two():
    with pytest.raises(
        MissingColumnsError, match=r"^Missing required columns: \['user_id', 'item_id'\] in q \(found: "
    ):
        find_columns(["a"], Columns(), "q")
    with pytest.raises(MissingColumnsError, match=r"\['User'\]"):
        find_columns(["user", "item"], Columns(user="User"))
    with pytest.raises(MissingColumnsError, match=r"\['stars'\]"):
        find_columns(["user", "item"], Columns(rating="stars"))
    for names, option in (
        (["user_id", "movieId", "movie_id"], "--item-column"),
        (["user_id", "item_id", "rating", "score"], "--rating-column"),
        (["userid", "user", "item_id"], "--user-column"),
        (["user_id", "item_id", "at", "timestamp"], "--timestamp-column"),
    ):
        with pytest.raises(InputError, match=option):
            find_columns(names, Columns())
    # No option tells two columns of one name apart.
    with pytest.raises(InputError, match=r"\['user_id', 'user_id'\]. Give each column a name of its own"):
        find_columns(["user_id", "user_id", "item_id"], Columns())
    # A column that is named for one thing is not taken for another.
    assert find_columns(["user_id", "item_id", "item"], Columns(user="item_id")) == {"user": 1, "item": 2}
    with pytest.raises(UsageError):
        Columns(user="id", item="id")


def test_columns_must_stay_the_same():
    builder = InteractionsBuilder()
    builder.add(pa.table({"user_id": [1], "item_id": [1]}))
    with pytest.raises(InputError, match="Columns change"):
        builder.add(pa.table({"user_id": [1], "item_id": [1], "rating": [1.0]}))


def test_no_blocks_and_no_rows_are_no_error():
    assert len(InteractionsBuilder().finish().interactions) == 0
    empty = read({"user_id": pa.array([], pa.int64()), "item_id": pa.array([], pa.string())})
    assert (len(empty.interactions), empty.n_rows) == (0, 0)
    with pytest.raises(UsageError):
        InteractionsBuilder(on_bad_rows="ignore")  # type: ignore[arg-type]


def test_unreadable_rows_are_counted_in_their_place():
    builder = InteractionsBuilder(on_bad_rows="drop", row_word="line")
    builder.add(pa.table({"user_id": [1, None], "item_id": [1, 2]}), np.array([2, 9]))
    builder.add_unreadable([(5, "2 fields instead of 3")])
    result = builder.finish()
    assert [(row["line"], row["reason"]) for row in result.bad_rows] == [
        (5, "2 fields instead of 3"),
        (9, "user_id is missing"),
    ]
    assert (result.n_rows, result.n_bad) == (3, 2)


def test_a_batch_is_as_good_as_a_table():
    batch = pa.record_batch({"user_id": [2, 1], "item_id": ["b", "a"]})
    assert rows_of(read(batch)) == [(2, "b", 1.0, None), (1, "a", 1.0, None)]
