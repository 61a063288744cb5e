"""A query of one's own: ids, scores and times of every type, bad rows, columns."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from support.id_columns import EVERY
from support.warehouse_cells import cells

from pipeline.data.sources.columns import Columns
from pipeline.data.sources.warehouse import as_read, read_warehouse
from pipeline.errors import InputError, MissingColumnsError, QueryError
from pipeline.warehouse import sql
from pipeline.warehouse.column_types import column_types, seen_ids

pytest_plugins = ["support.warehouse_fixtures"]


@pytest.mark.parametrize(
    ("column", "value"),
    EVERY,
)
def test_ids_of_every_type(warehouse, column, value):
    """As ClickHouse shows them, in training and in what is seen; text that looks like a number stays text."""
    own = sql.Sql(f"SELECT {column} AS user_id, {column} AS item_id, 1 AS score", "mine.sql")
    assert cells(warehouse, own) == {(value, value): (1.0, None)}
    kind = "int" if isinstance(value, int) else "str"
    (seen,) = warehouse.rows(sql.ordered_seen(own, *seen_ids(warehouse, own, kind, kind)).text)
    assert (seen["u"], seen["i"]) == (value, value)
    # Forgetting and the lists of one user find it by this text.
    assert warehouse.rows(f"SELECT toString(user_id) AS shown FROM ({own.text})") == [{"shown": str(value)}]


# What every server since 21 writes into Arrow as this one does.
SENT_ALIKE = re.compile(
    r"(LowCardinality\()?(Nullable\()?(U?Int(8|16|32|64)|Float(32|64)|String|DateTime64\(.*\)|Decimal\(.*\))\)*"
)


@pytest.mark.parametrize(
    "column",
    [
        "toUUID('0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001')",
        "toNullable(toUUID('0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001'))",
        "toLowCardinality(toFixedString('x', 3))",
        "toIPv4('10.0.0.1')",
        "toIPv6('::1')",
        "toUInt256(1)",
        "CAST('x', 'Enum8(\\'x\\' = 1)')",
        "1",
    ],
)
def test_an_older_server_is_asked_for_nothing_that_it_can_not_send(embedded, column):
    """Servers before 26.3 can't send a UUID in Arrow, and ones before 26.2 send a Date as a number."""
    query = sql.Sql(
        f"SELECT {column} AS user_id, {column} AS item_id, toDate('2024-01-02') AS at, toUInt128(3) AS score, "
        "generateUUIDv4() AS `session`, [1, 2] AS `it's a \\`list\\``",
        "mine.sql",
    )
    typed = as_read(embedded, query, Columns())
    assert [name for name, _ in column_types(embedded, typed)] == [name for name, _ in column_types(embedded, query)]
    for _, kind in column_types(embedded, typed):
        assert SENT_ALIKE.fullmatch(kind), kind


def test_a_query_that_needs_no_cast_is_sent_as_it_is(embedded):
    query = sql.Sql("SELECT 1 AS user_id, 'x' AS item_id, 2.5 AS score ORDER BY score", "mine.sql")
    assert as_read(embedded, query, Columns()) is query


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("[1] AS user_id, 2 AS item_id", r"'user_id' is Array\(UInt8\), and ids are integers or text: write toString"),
        ("1 AS user_id, true AS item_id", r"'item_id' is Bool"),
        ("toDate('2024-01-02') AS user_id, 1 AS item_id", r"'user_id' is Date"),
        ("1 AS user_id, map(1, 2) AS item_id", r"'item_id' is Map\(UInt8, UInt8\)"),
        ("1 AS user_id, 2 AS item_id, (1, 2) AS score", r"'score' is Tuple\(UInt8, UInt8\), and scores are numbers"),
        ("1 AS user_id, 2 AS item_id, CAST('a', 'Enum8(\\'a\\' = 1)') AS score", "'score' is Enum8"),
        ("1 AS user_id, 2 AS item_id, 1 AS score, [1] AS at", r"'at' is Array\(UInt8\), and a time is a Date"),
        ("1 AS user_id, 2 AS item_id, 1 AS score, toUInt8(1) AS at", "'at' is UInt8, and a time is"),
    ],
)
def test_a_type_that_is_none_for_its_column_is_refused(embedded, columns, message):
    with pytest.raises(InputError, match=message) as error:
        cells(embedded, sql.Sql(f"SELECT {columns}", "mine.sql"))
    assert error.value.exit_status == 3


def test_days_that_a_server_sends_as_numbers(warehouse):
    own = "SELECT 1 AS user_id, 2 AS item_id, 1 AS score, {} AS at"
    for column in ("toUInt16(toDate('2024-02-29'))", "toNullable(toUInt16(toDate('2024-02-29')))"):
        read = sql.Sql(own.format(column), "mine.sql")
        assert cells(warehouse, read) == {(1, 2): (1.0, datetime(2024, 2, 29))}
    with pytest.raises(QueryError, match="at is a UInt16 below 10957, no day since 2000: cast it to a Date"):
        cells(warehouse, sql.Sql(own.format("toUInt16(2024)"), "mine.sql"))


@pytest.mark.parametrize(
    ("column", "seen"),
    [
        ("arrayJoin(['7', '007', '+7', '-0', 'x', '-8'])", [-8, 7]),
        ("toFixedString('7', 3)", [7]),
        ("toInt128(7)", [7]),
        ("arrayJoin([toUInt256(7), toUInt256('340282366920938463463374607431768211456')])", [7]),
    ],
)
def test_what_is_seen_with_ids_of_another_type_than_the_models(embedded, column, seen):
    """Text is an integer where the integer would be written so; 007 is somebody else."""
    own = sql.Sql(f"SELECT {column} AS user_id, 1 AS item_id", "mine.sql")
    rows = embedded.rows(sql.ordered_seen(own, *seen_ids(embedded, own, "int", "int")).text)
    assert [row["u"] for row in rows] == seen


@pytest.mark.parametrize("column", ["toIPv4('10.0.0.1')", "CAST('a', 'Enum8(\\'a\\' = 1)')", "generateUUIDv4()"])
def test_what_is_seen_with_ids_that_are_never_integers(embedded, column):
    own = sql.Sql(f"SELECT {column} AS user_id, 1 AS item_id", "mine.sql")
    with pytest.raises(InputError, match="whose ids are text, and the model's are integers: train it on this query"):
        seen_ids(embedded, own, "int", "int")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("toFloat32(3.5)", 3.5),
        ("toFloat64(3.5)", 3.5),
        ("toNullable(3.5)", 3.5),
        ("toDecimal32('3.5', 2)", 3.5),
        ("toNullable(toDecimal64('3.5', 4))", 3.5),
        ("toDecimal128('3.5', 10)", 3.5),
        ("toUInt8(3)", 3),
        ("toInt64(3)", 3),
        ("toFloat32(0)", 0),
    ],
)
def test_scores_of_every_type(warehouse, column, value):
    own = sql.Sql(f"SELECT 1 AS user_id, 2 AS item_id, {column} AS score", "mine.sql")
    assert cells(warehouse, own) == {(1, 2): (value, None)}


NOON = datetime(2024, 2, 29, 12)
SECONDS = 1709208000


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("toDateTime('2024-02-29 12:00:00', 'UTC')", NOON),
        ("toNullable(toDateTime('2024-02-29 12:00:00', 'UTC'))", NOON),
        ("toDateTime('2024-02-29 13:00:00', 'Europe/Berlin')", NOON),
        ("toDateTime64('2024-02-29 12:00:00', 0, 'UTC')", NOON),
        ("toDateTime64('2024-02-29 12:00:00.123', 3, 'UTC')", NOON.replace(microsecond=123000)),
        ("toDateTime64('2024-02-29 13:00:00.123', 3, 'Europe/Berlin')", NOON.replace(microsecond=123000)),
        ("toDateTime64('2024-02-29 12:00:00.123456', 6, 'UTC')", NOON.replace(microsecond=123000)),
        ("toDateTime64('2024-02-29 12:00:00.123456789', 9, 'UTC')", NOON.replace(microsecond=123000)),
        ("toDate('2024-02-29')", datetime(2024, 2, 29)),
        ("toDate32('2024-02-29')", datetime(2024, 2, 29)),
        (f"toInt64({SECONDS})", NOON),
        (f"toInt64({SECONDS}000)", NOON),
        ("'2024-02-29 12:00:00'", NOON),
    ],
)
def test_times_of_every_type(warehouse, column, value):
    own = sql.Sql(f"SELECT 1 AS user_id, 2 AS item_id, 1 AS score, {column} AS at", "mine.sql")
    assert cells(warehouse, own) == {(1, 2): (1.0, value)}


def test_bad_rows_of_a_query(warehouse):
    from pipeline.errors import BadRowsError

    own = sql.Sql(
        "SELECT toNullable(number) AS user_id, 2 AS item_id, "
        "multiIf(number = 1, nan, number = 2, -1, number = 3, NULL, 4) AS score FROM numbers(5)",
        "mine.sql",
    )
    with pytest.raises(BadRowsError, match=r"mine\.sql: 3 of 5 rows"):
        cells(warehouse, own)
    read = read_warehouse(warehouse, own, on_bad_rows="drop")
    assert (read.n_rows, read.n_bad, len(read.interactions)) == (5, 3, 2)


def test_columns_of_a_query(warehouse):
    with pytest.raises(MissingColumnsError) as error:
        cells(warehouse, sql.Sql("SELECT 1 AS u, 2 AS i", "mine.sql"))
    assert str(error.value).startswith("Missing required columns: ['user_id', 'item_id'] in mine.sql (found: ['u', 'i'")
    cells_read = cells(warehouse, sql.Sql("SELECT 1 AS u, 2 AS i", "mine.sql"), columns=Columns(user="u", item="i"))
    assert cells_read == {(1, 2): (1.0, None)}


def test_nothing_to_read(warehouse):
    own = sql.Sql("SELECT 1 AS user_id, 2 AS item_id WHERE 0", "mine.sql")
    with pytest.raises(InputError, match=r"mine\.sql gives no rows") as error:
        cells(warehouse, own)
    assert warehouse.address in str(error.value)
    assert error.value.exit_status == 3


def test_progress_ends_at_the_count(warehouse):
    own = sql.Sql("SELECT number % 100 AS user_id, intDiv(number, 100) AS item_id FROM numbers(150000)", "mine.sql")
    calls: list[tuple[int, int]] = []
    read = read_warehouse(warehouse, own, progress=lambda done, total: calls.append((done, total)))
    assert len(read.interactions) == 150000
    assert calls[-1] == (150000, 150000)
    assert len(calls) > 1
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
