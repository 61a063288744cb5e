"""From the warehouse to interactions: the tables, the mart's score, cut reads, titles."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from support.warehouse_cells import cells

from pipeline.data.sources.warehouse import (
    MART,
    history,
    init,
    read_warehouse,
    titles,
)
from pipeline.errors import InputError, QueryError
from pipeline.warehouse import connect, sql

pytest_plugins = ["support.warehouse_fixtures"]


def at(hour: int, millisecond: int = 0) -> datetime:
    return datetime(2024, 2, 29, hour, 0, 0, millisecond * 1000, tzinfo=UTC)


def rate(warehouse, *rows: tuple[int, int, float, datetime]) -> None:
    _insert(warehouse, "raw.ratings", ("user_id", "movie_id", "rating", "rated_at"), rows)


def watch(warehouse, *rows: tuple[int, int, datetime]) -> None:
    _insert(warehouse, "raw.watched_movies", ("user_id", "movie_id", "watched_at"), rows)


def _insert(warehouse, table, names, rows) -> None:
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    if "rating" in columns:
        columns["rating"] = pa.array(columns["rating"], pa.float32())
    for name in columns:
        if name.endswith("_at"):
            columns[name] = pa.array(columns[name], pa.timestamp("ms", "UTC"))
    warehouse.insert(table, pa.table(columns))


# ---- tables ---------------------------------------------------------------------------------------


def test_init_makes_what_is_missing_and_twice_is_once(warehouse):
    assert init(warehouse) == [f"{MART} is made in {warehouse.address}"]
    rate(warehouse, (1, 2, 3.5, at(1)))
    listing = (
        "SELECT database, name, engine, uuid FROM system.tables WHERE database IN ('raw', 'analytics') "
        "AND engine != 'View' ORDER BY ALL"
    )
    before = warehouse.rows(listing)
    assert [(row["database"], row["name"], row["engine"]) for row in before] == [
        *(("analytics", name, "MergeTree") for name in ("exposure_shipments", "exposures", "outcomes")),
    ] + [("raw", name, "MergeTree") for name in ("movies", "ratings", "shipments", "users", "watched_movies")]
    assert init(warehouse) == [f"{MART} is up to date in {warehouse.address}"]
    assert warehouse.rows(listing) == before
    assert cells(warehouse) == {(1, 2): (3.5, at(1).replace(tzinfo=None))}


def test_init_makes_no_empty_table_of_recommendations(warehouse):
    init(warehouse)
    assert warehouse.engine("analytics.recommendations") is None


def test_tables_and_columns_say_what_they_are(warehouse):
    init(warehouse)
    bare = "SELECT name FROM system.{what:Identifier} WHERE {where:Identifier} = 'raw' AND comment = ''"
    assert warehouse.rows(bare, {"what": "tables", "where": "database"}) == []
    assert warehouse.rows(bare, {"what": "columns", "where": "database"}) == []


def test_init_brings_an_older_view_up_to_date(warehouse):
    init(warehouse)
    warehouse.command(f"CREATE OR REPLACE VIEW {MART} AS SELECT 1 AS old")
    init(warehouse)
    rate(warehouse, (1, 2, 3.5, at(1)))
    assert cells(warehouse) == {(1, 2): (3.5, at(1).replace(tzinfo=None))}


@pytest.mark.parametrize("engine", ["MergeTree ORDER BY user_id", "Memory"])
def test_a_mart_that_is_a_table_is_left_alone(warehouse, engine):
    warehouse.command("CREATE DATABASE analytics")
    warehouse.command(
        f"CREATE TABLE {MART} ENGINE = {engine} AS "
        "SELECT 1 AS user_id, 2 AS movie_id, 4.5 AS interaction_score, now64(3) AS last_interaction_at"
    )
    (said,) = init(warehouse)
    assert "a table of your own" in said
    assert engine.split()[0] in said
    assert warehouse.engine(MART) == engine.split()[0]
    assert [score for score, _ in cells(warehouse).values()] == [4.5]


def test_a_servers_view_of_the_users_own_is_read_as_it_is(http_server, over_http):
    """Only the embedded engine's view follows the file by itself; a server's changes by `rankline init`."""
    over_http.command("CREATE DATABASE analytics")
    over_http.command(
        f"CREATE VIEW {MART} AS "
        "SELECT 1 AS user_id, 2 AS movie_id, 4.5 AS interaction_score, now64(3) AS last_interaction_at"
    )
    http_server.clear()
    assert [score for score, _ in cells(over_http).values()] == [4.5]
    assert http_server.log("CREATE") == []


def test_the_embedded_view_follows_its_file(embedded):
    embedded.command("CREATE DATABASE analytics")
    embedded.command(f"CREATE VIEW {MART} AS SELECT 1 AS old")
    init(embedded)
    embedded.command(f"CREATE OR REPLACE VIEW {MART} AS SELECT 1 AS old")
    rate(embedded, (1, 2, 3.5, at(1)))
    assert len(cells(embedded)) == 1


def test_reading_makes_the_mart_where_it_is_missing(warehouse):
    with pytest.raises(InputError, match="gives no rows"):
        cells(warehouse)
    assert warehouse.engine(MART) == "View"


def test_a_query_of_ones_own_makes_nothing(warehouse):
    own = sql.Sql("SELECT 1 AS user_id, 2 AS item_id, 3 AS score", "mine.sql")
    assert cells(warehouse, own) == {(1, 2): (3.0, None)}
    assert warehouse.rows("SELECT name FROM system.databases WHERE name IN ('raw', 'analytics')") == []


# ---- the score ------------------------------------------------------------------------------------


def test_the_marts_score(warehouse):
    init(warehouse)
    rate(
        warehouse,
        (1, 1, 5.0, at(1)), (1, 1, 0.5, at(3)), (1, 1, 4.0, at(2)),  # the latest rating
        (1, 2, 2.0, at(1)), (1, 2, 4.5, at(1)), (1, 2, 3.0, at(1)),  # equal times: the larger
        (1, 4, 3.5, at(2)),  # rated, and watched later
        (1, 5, 2.5, at(4)),  # rated after it was watched
        (1, 6, 0.5, at(1)),  # rated below a viewing's 1, at the time of the viewing
        (2, 1, 3.0, at(1, 1)), (2, 1, 1.0, at(1, 0)),  # a millisecond apart
    )  # fmt: skip
    watch(
        warehouse,
        (1, 3, at(1)), (1, 3, at(5)),  # watched only, twice
        (1, 4, at(6)),
        (1, 5, at(3)),
        (1, 6, at(1)),
    )  # fmt: skip
    cells_read = {cell: (score, when.replace(tzinfo=UTC)) for cell, (score, when) in cells(warehouse).items()}
    assert cells_read == {
        (1, 1): (0.5, at(3)),
        (1, 2): (4.5, at(1)),
        (1, 3): (1.0, at(5)),
        (1, 4): (3.5, at(6)),
        (1, 5): (2.5, at(4)),
        (1, 6): (0.5, at(1)),
        (2, 1): (3.0, at(1, 1)),
    }


def test_the_mart_is_as_python_has_it(warehouse):
    """The same events as rows of a file, aggregated in Python: `last`, and equal times take the larger."""
    from support import naive

    rng = np.random.default_rng(5)
    rows = [
        (int(u), int(i), float(s), at(int(h)))
        for u, i, s, h in zip(
            rng.integers(1, 4, 300),
            rng.integers(1, 6, 300),
            rng.choice([0.5, 1, 2.5, 5], 300),
            rng.integers(0, 6, 300),
            strict=True,
        )
    ]
    init(warehouse)
    rate(warehouse, *rows)
    assert {cell: score for cell, (score, _) in cells(warehouse).items()} == naive.aggregate(rows, "last")


def test_raw_tables_of_the_users_own_with_text_ids(warehouse):
    warehouse.command("CREATE DATABASE raw")
    warehouse.command("CREATE TABLE raw.users (user_id UUID) ENGINE = MergeTree ORDER BY user_id")
    warehouse.command("CREATE TABLE raw.movies (movie_id String, title String, genres String) ENGINE = Memory")
    warehouse.command(
        "CREATE TABLE raw.ratings (user_id UUID, movie_id String, rating Decimal(3, 1), rated_at DateTime) "
        "ENGINE = MergeTree ORDER BY user_id"
    )
    warehouse.command(
        "CREATE TABLE raw.watched_movies (user_id UUID, movie_id LowCardinality(String), watched_at DateTime) "
        "ENGINE = MergeTree ORDER BY user_id"
    )
    user = "0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001"
    warehouse.command(f"INSERT INTO raw.ratings VALUES ('{user}', 'b', 4.5, '2024-02-29 01:00:00')")
    warehouse.command(f"INSERT INTO raw.watched_movies VALUES ('{user}', 'a', '2024-02-29 02:00:00')")
    cells_read = cells(warehouse)
    assert {cell: score for cell, (score, _) in cells_read.items()} == {(user, "a"): 1.0, (user, "b"): 4.5}
    assert cells_read[user, "b"][1] == datetime(2024, 2, 29, 1)


# ---- reads that are cut ---------------------------------------------------------------------------

MANY = sql.Sql("SELECT number AS user_id, 1 AS item_id FROM numbers(200000)", "mine.sql")


@pytest.mark.parametrize("n_batches", [0, 1, 3])
def test_a_stream_that_ends_early_without_a_sign_is_noticed(http_server, over_http, n_batches):
    """The connection ends as it should after whole Arrow messages: only the count tells."""
    http_server.rules({"match": "FORMAT ArrowStream", "do": "batches", "n": n_batches, "clean": True, "times": 99})
    with pytest.raises(QueryError, match="cut short") as error:
        read_warehouse(over_http, MANY)
    assert "200000" in str(error.value)
    assert http_server.host in str(error.value)


@pytest.mark.parametrize("rule", [{"do": "cut", "bytes": 700_000}, {"do": "batches", "n": 2, "clean": False}])
def test_a_stream_that_breaks_is_noticed(http_server, over_http, rule):
    http_server.rules({"match": "FORMAT ArrowStream", "times": 99, **rule})
    with pytest.raises(QueryError, match="broke"):
        read_warehouse(over_http, MANY)


@pytest.mark.parametrize(("before", "arrived", "after", "fine"), [
    (10, 10, 10, True),
    (10, 12, 12, True),  # It grew before the read,
    (10, 12, 15, True),  # and went on.
    (10, 7, 5, True),  # It shrank.
    (10, 7, 10, False),
    (10, 12, 10, False),
    (10, 9, 12, False),
])  # fmt: skip
def test_a_table_that_changes_is_no_fault(http_server, over_http, before, arrived, after, fine):
    counts = [
        {"match": r"SELECT count\(\)", "do": "instead", "sql": f"SELECT toUInt64({n}) AS n"}
        for n in 6 * (before, after, *([after] if before != after else []))
    ]
    http_server.rules(*counts)
    own = sql.Sql(f"SELECT number AS user_id, 1 AS item_id FROM numbers({arrived})", "mine.sql")
    if fine:
        assert read_warehouse(over_http, own).n_rows == arrived
    else:
        with pytest.raises(QueryError, match=f"{arrived} rows"):
            read_warehouse(over_http, own)


def test_a_query_that_gives_other_rows_each_time(http_server, over_http):
    """Its counts go up and down; nothing is read again."""
    http_server.rules(
        *({"match": r"SELECT count\(\)", "do": "instead", "sql": f"SELECT toUInt64({n}) AS n"} for n in (10, 20, 15))
    )
    own = sql.Sql("SELECT number AS user_id, 1 AS item_id FROM numbers(12)", "mine.sql")
    with pytest.raises(InputError, match=r"of rows each time \(10, 20, 15\).*rand\(\), now\(\) or LIMIT"):
        read_warehouse(over_http, own)
    assert len(http_server.log("FORMAT ArrowStream")) == 1


def test_a_query_that_fails_on_the_way(warehouse):
    own = sql.Sql("SELECT number AS user_id, throwIf(number = 150000) AS item_id FROM numbers(200000)", "mine.sql")
    with pytest.raises(QueryError):
        read_warehouse(warehouse, own)


# ---- titles -------------------------------------------------------------------------------------------


def test_titles_and_history(warehouse):
    assert titles(warehouse, [1]) == {}
    assert history(warehouse, 1) == []
    init(warehouse)
    movies = {"movie_id": [1, 2, 3], "title": ["It's", "Two", ""], "genres": ["A|B", "", ""]}
    warehouse.insert("raw.movies", pa.table(movies))
    assert titles(warehouse, [1, 3, 4]) == {"1": "It's"}
    assert titles(warehouse, []) == {}
    rate(warehouse, (7, 2, 3.0, at(1)), (7, 1, 4.5, at(1)), (7, 9, 3.0, at(2)), (8, 1, 5.0, at(1)))
    liked = history(warehouse, 7, 10)
    assert [(row["item_id"], row["title"], row["score"]) for row in liked] == [
        ("1", "It's", 4.5),
        ("9", "", 3.0),
        ("2", "Two", 3.0),
    ]
    assert [row["item_id"] for row in history(warehouse, 7, 1)] == ["1"]
    assert history(warehouse, "7'; DROP TABLE raw.movies --") == []


def test_over_a_second_connection(dsn):
    """What one connection writes another reads."""
    with connect(dsn) as first:
        init(first)
        rate(first, (1, 2, 3.5, at(1)))
    with connect(dsn) as other:
        assert len(cells(other)) == 1
