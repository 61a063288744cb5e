"""Scores and times of every type and form, as the builder of interactions reads them."""

from __future__ import annotations

import datetime as dt
import decimal
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.built_rows import read, rows_of
from support.examples import examples

from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.errors import BadRowsError, InputError


def times(column) -> list[int]:
    n = len(column)
    return [row[3] for row in rows_of(read({"user_id": [1] * n, "item_id": [1] * n, "at": column}))]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0], pa.int8()),
        pa.array([1, 0], pa.uint64()),
        pa.array([1.0, -0.0], pa.float16()),
        pa.array([1.0, -0.0]),
        pa.array([decimal.Decimal("1.0"), decimal.Decimal("0.0")]),
        pa.array(["1", " -0.0 "]),
        pa.array([1.0, 0.0]).dictionary_encode(),
    ],
)
def test_scores_of_any_type(column):
    x = read({"user_id": [1, 2], "item_id": [1, 2], "score": column}).interactions
    assert x.scores.tobytes() == np.array([1, 0], np.float32).tobytes()


def test_bad_scores_and_their_reasons():
    column = ["1", "", "abc", "nan", "inf", "-1", "1e39", "0x1", None, "2"]
    result = read({"user_id": range(10), "item_id": range(10), "rating": column}, on_bad_rows="drop")
    assert [(row["row"], row["rating"], row["reason"]) for row in result.bad_rows] == [
        (2, "", "rating is missing"),
        (3, "abc", "rating 'abc' is not a number"),
        (4, "nan", "rating 'nan' is not finite"),
        (5, "inf", "rating 'inf' is not finite"),
        (6, "-1", "rating '-1' is below 0"),
        (7, "1e39", "rating '1e39' is not finite"),
        (8, "0x1", "rating '0x1' is not a number"),
        (9, None, "rating is missing"),
    ]
    assert [row[2] for row in rows_of(result)] == [1.0, 2.0]
    with pytest.raises(InputError, match="holds bool"):
        read({"user_id": [1], "item_id": [1], "rating": [True]})


UTC_MS = 1_577_836_800_000  # 2020-01-01


@pytest.mark.parametrize(
    "column",
    [
        *(pa.array([dt.datetime(2020, 1, 1)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], pa.timestamp("us", "America/New_York")),
        pa.array([dt.date(2020, 1, 1)]),
        pa.array([dt.date(2020, 1, 1)], pa.date64()),
        pa.array([UTC_MS // 1000], pa.uint32()),  # ClickHouse's DateTime
        pa.array([UTC_MS // 1000], pa.uint64()),
        pa.array([UTC_MS]),
        pa.array([UTC_MS * 1000]),
        pa.array([UTC_MS * 1_000_000]),
        pa.array([UTC_MS / 1000]),
        pa.array([str(UTC_MS // 1000)]),
        pa.array([f"{UTC_MS // 1000}.0"]),
        pa.array(["2020-01-01"]),
        pa.array([" 2020-01-01T00:00 "]),
        pa.array(["2020-01-01 00:00:00"], pa.string_view()),
        pa.array(["2020-01-01T00:00:00.000999999"]),
        pa.array(["2020-01-01T00:00:00Z"]),
        pa.array(["2020-01-01T02:00:00+02:00"]),
        pa.array(["2019-12-31T19:00:00.000000000-0500"]),
        pa.array(["2020-01-01"]).dictionary_encode(),
    ],
)
def test_one_moment_in_every_form(column):
    assert times(column) == [UTC_MS]


def test_seconds_or_milliseconds_is_decided_for_the_whole_column():
    assert times(pa.array([10**9, 99_999_999_999])) == [10**12, 99_999_999_999_000]
    assert times(pa.array([10**11, 10**12, 5, 0])) == [10**11, 10**12, 5, 0]
    assert times(pa.array([0, 0, 0, 10**12])) == [0, 0, 0, 10**12]
    assert times(pa.array([-(10**9), 10**9, 10**11])) == [-(10**12), 10**12, 10**14]


@pytest.mark.parametrize(
    ("number", "milliseconds"),
    [
        (10**11 - 1, 10**14 - 1000),
        (10**11, 10**11),
        (10**14 - 1, 10**14 - 1),
        (10**14, 10**11),
        (10**17 - 1, 10**14 - 1),
        (10**17, 10**11),
    ],
)
def test_where_one_unit_ends_and_the_next_begins(number, milliseconds):
    assert times(pa.array([number])) == [milliseconds]


def test_parts_of_a_millisecond_are_cut_off_downwards():
    assert times(pa.array([-1, 1], pa.timestamp("us"))) == [-1, 0]
    assert times(pa.array([1.9995, -0.0005])) == [1999, -1]


def test_a_number_that_the_unit_makes_impossible_is_a_bad_row_named_by_its_key():
    table = {"user_id": ["a", "b", "c"], "item_id": [1, 2, 3], "at": [10**9, 10**17, 10**9]}
    with pytest.raises(BadRowsError, match=r"1 of 3 rows .*user b, item 2 \(at is outside the years 1 to 9999\)"):
        read(table)
    result = read(table, on_bad_rows="drop")
    assert rows_of(result) == [("a", 1, 1.0, 10**12), ("c", 3, 1.0, 10**12)]
    assert result.bad_rows[0]["row"] is None
    assert len(result.interactions.user_ids) == 2


@pytest.mark.parametrize(
    "column",
    [
        [None],
        [""],
        ["yesterday"],
        ["2023-02-29"],
        ["1900-02-29T00:00Z"],
        ["2024-02-30"],
        ["2024-13-01"],
        ["2024-01-01T24:00"],
        ["01/02/2024"],
        [math.nan],
        [math.inf],
        ["nan"],
        pa.array([2**63], pa.uint64()),
        pa.array([2**62], pa.timestamp("s")),
        pa.nulls(1),
    ],
)
def test_what_is_no_time_is_a_bad_row(column):
    table = {"user_id": [1], "item_id": [1], "at": column}
    result = read(table, on_bad_rows="drop")
    assert (result.n_bad, len(result.interactions)) == (1, 0)
    assert result.bad_rows[0]["reason"].startswith("at ")
    with pytest.raises(BadRowsError):
        read(table)


def test_times_of_other_types_are_refused():
    with pytest.raises(InputError, match="'at' holds bool"):
        times(pa.array([True]))


iso = st.from_regex(
    r"\A[0-9]{4}-(0[1-9]|1[0-3])-([0-2][0-9]|3[01])"
    r"([T ][0-2][0-9](:[0-5][0-9](:[0-6][0-9](\.[0-9]{1,11})?)?)?(Z|[+-]0[0-9](:?[0-5][0-9])?)?)?\Z"
)


@settings(max_examples=examples(150))
@given(st.lists(iso | st.sampled_from(["", "x", "1577836800", "1577836800.5"]), min_size=1, max_size=6))
def test_iso_text_is_what_python_reads(column):
    expected = []
    for text in column:
        try:
            expected.append(math.floor(float(text) * 1000))
            continue
        except ValueError:
            pass
        try:
            at = dt.datetime.fromisoformat(text)
        except ValueError:
            continue
        at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
        expected.append((at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1))
    table = {"user_id": [1] * len(column), "item_id": [1] * len(column), "at": column}
    whole = read(table, on_bad_rows="drop")
    assert [row[3] for row in rows_of(whole)] == expected
    builder = InteractionsBuilder(on_bad_rows="drop")
    for i in range(len(column)):
        builder._flush()
        builder.add(pa.table(table).slice(i, 1))
    assert rows_of(builder.finish()) == rows_of(whole)
