"""One client for a server and the embedded engine: what it runs, and what every kind of failure becomes."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support.listeners import says

from pipeline.errors import QueryError, ServerError
from pipeline.warehouse import RetryPolicy, connect

pytest_plugins = ["support.warehouse_fixtures"]


# ---- what it runs ---------------------------------------------------------------------------------


def test_runs_and_binds(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.command("CREATE TABLE own.t (id Int64, name String) ORDER BY id")
    hard = ["it's", "back\\slash", "tab\tline\n", "ö–漢", "'); DROP TABLE own.t --", "{x:String}", "%s"]
    warehouse.insert("own.t", pa.table({"id": list(range(len(hard))), "name": hard}))
    assert [row["name"] for row in warehouse.rows("SELECT name FROM own.t ORDER BY id")] == hard
    for i, name in enumerate(hard):
        assert warehouse.rows("SELECT id FROM own.t WHERE name = {name:String}", {"name": name}) == [{"id": i}]
    rows_read = warehouse.rows("SELECT count() AS n FROM own.t WHERE name IN {names:Array(String)}", {"names": hard})
    assert rows_read == [{"n": len(hard)}]
    assert warehouse.table("SELECT id FROM own.t ORDER BY id LIMIT {k:UInt32}", {"k": 2}).to_pydict() == {"id": [0, 1]}


def test_engine(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.command("CREATE VIEW own.v AS SELECT 1")
    warehouse.command("CREATE TABLE own.t (id Int64) ENGINE = Memory")
    assert warehouse.engine("own.v") == "View"
    assert warehouse.engine("own.t") == "Memory"
    assert warehouse.engine("own.none") is None
    assert warehouse.engine("none.t") is None


def test_ddl_takes_merge_tree_where_the_default_is_another(warehouse):
    warehouse.command("CREATE DATABASE own")
    warehouse.ddl("CREATE TABLE own.t (id Int64) ORDER BY id")
    assert warehouse.engine("own.t") == "MergeTree"
    # The setting is of that statement, not of the connection.
    changed = "SELECT value, changed FROM system.settings WHERE name = 'default_table_engine'"
    assert warehouse.rows(changed)[0]["changed"] == 0


def test_ddl_sets_the_engine_that_the_database_needs(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    http_server.clear()
    over_http.ddl("CREATE TABLE own.t (id Int64) ORDER BY id")
    assert [entry["params"]["default_table_engine"] for entry in http_server.log("CREATE TABLE")] == ["MergeTree"]
    http_server.clear()
    # The engine here runs no Replicated database: that it is there is what the server is made to say,
    # and that the setting goes along is what can be seen.
    http_server.rules({"match": "system.databases", "do": "instead", "sql": "SELECT toUInt64(1) AS n"})
    with pytest.raises(QueryError):
        over_http.ddl("CREATE TABLE own.u (id Int64) ORDER BY id")
    (entry,) = http_server.log("CREATE TABLE")
    assert entry["params"]["default_table_engine"] == "ReplicatedMergeTree"
    (asked,) = http_server.log("system.databases")
    assert "engine = 'Replicated'" in asked["statement"]


def test_blocks_are_all_the_rows_in_more_than_one_block(warehouse):
    with warehouse.blocks("SELECT number AS n FROM numbers(200000)") as blocks:
        tables = list(blocks)
    assert len(tables) > 1
    assert pa.concat_tables(tables).column("n").to_pylist() == list(range(200000))


def test_two_streams_and_a_query_at_once(warehouse):
    """The batch job inserts while it reads what is seen."""
    with (
        warehouse.blocks("SELECT number AS n FROM numbers(100000)") as first,
        warehouse.blocks("SELECT number AS n FROM numbers(100000)") as second,
    ):
        next(first)
        next(second)
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_no_session(http_server, over_http):
    """A real server refuses a second query of a session while a stream of it is open."""
    over_http.rows("SELECT 1 AS one")
    assert http_server.log()
    assert not any("session_id" in entry["params"] for entry in http_server.log())


def test_run(warehouse):
    assert warehouse.run("SELECT * FROM (SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y') ORDER BY a") == (
        ["a", "b"],
        [(1, "x"), (2, "y")],
    )
    assert warehouse.run("CREATE DATABASE own") == ([], [])
    assert warehouse.run("CREATE TABLE own.t (id Int64) ORDER BY id") == ([], [])
    assert warehouse.run("INSERT INTO own.t VALUES (1), (2)") == ([], [])
    assert warehouse.run("SELECT id FROM own.t WHERE 0")[1] == []


@pytest.mark.parametrize(
    ("statement", "columns", "rows"),
    [
        ("-- what\n  -- for\n SELECT 1 AS a", ["a"], [(1,)]),
        ("/* what */ SELECT 1 AS a", ["a"], [(1,)]),
        ("with 2 as x select x as a", ["a"], [(2,)]),
        ("(SELECT 3 AS a)", ["a"], [(3,)]),
        ("SHOW DATABASES LIKE 'own'", ["name"], [("own",)]),
        ("EXISTS DATABASE own", ["result"], [(1,)]),
        ("EXPLAIN SELECT 1", ["explain"], None),
        ("FROM numbers(2) SELECT number AS a", ["a"], [(0,), (1,)]),
    ],
)
def test_run_knows_what_has_rows(warehouse, statement, columns, rows):
    warehouse.command("CREATE DATABASE own")
    has_rows, values = warehouse.run(statement)
    assert has_rows == columns
    assert values == rows or (rows is None and values)


def test_the_default_database_of_the_address(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    with connect(http_server.dsn + "/own") as warehouse:
        assert warehouse.rows("SELECT currentDatabase() AS d") == [{"d": "own"}]


def test_a_query_that_fails(warehouse):
    with pytest.raises(QueryError) as error:
        warehouse.rows("SELECT nothing_such FROM numbers(1)")
    says(error, warehouse.address, "nothing_such", "UNKNOWN_IDENTIFIER")
    for call in (warehouse.command, warehouse.table, warehouse.run):
        with pytest.raises(QueryError):
            call("SELECT * FROM nope.t")
    with pytest.raises(QueryError), warehouse.blocks("SELECT * FROM nope.t") as blocks:
        list(blocks)
    with pytest.raises(QueryError):
        warehouse.insert("nope.t", pa.table({"a": [1]}))
    # It can be used as before.
    assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_long_message_is_cut(warehouse):
    with pytest.raises(QueryError) as error:
        warehouse.rows("SELECT " + "x" * 5000)
    assert len(says(error)) < 500


# ---- it answers, and then breaks ------------------------------------------------------------------


@pytest.mark.slow
def test_a_query_hangs(http_server):
    with connect(http_server.dsn, 5, 1, retry_policy=RetryPolicy(0)) as warehouse:
        for name, call in (
            ("rows", lambda q: warehouse.rows(q)),
            ("command", lambda q: warehouse.command(q)),
            ("table", lambda q: warehouse.table(q)),
        ):
            http_server.rules({"match": f"SELECT '{name}'", "times": 99, "do": "hang"})
            with pytest.raises(QueryError) as error:
                call(f"SELECT '{name}'")
            says(error, http_server.host, "RANKLINE_READ_TIMEOUT")
        http_server.rules({"match": "SELECT 'blocks'", "times": 99, "do": "hang"})
        with pytest.raises(QueryError), warehouse.blocks("SELECT 'blocks'") as blocks:
            list(blocks)
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]


def test_an_insert_that_hangs_is_sent_once(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    over_http.command("CREATE TABLE own.t (id Int64) ORDER BY id")
    with connect(http_server.dsn, 5, 1) as warehouse:
        http_server.rules({"match": "INSERT INTO", "times": 99, "do": "hang"})
        with pytest.raises(QueryError):
            warehouse.insert("own.t", pa.table({"id": [1]}))
    assert len(http_server.log("INSERT INTO")) == 1


@pytest.mark.parametrize("n_bytes", [0, 10, 1000, 300_000, 524_000])
def test_a_stream_is_cut(http_server, over_http, n_bytes):
    http_server.rules({"match": "numbers", "times": 9, "do": "cut", "bytes": n_bytes})
    with (
        pytest.raises(QueryError) as error,
        over_http.blocks("SELECT number FROM numbers(200000)") as blocks,
    ):
        list(blocks)
    says(error, http_server.host, "broke")


@pytest.mark.parametrize("n_batches", [0, 1, 3])
def test_a_stream_is_cut_at_a_message_boundary(http_server, over_http, n_batches):
    """The Arrow part ends well; the connection does not."""
    http_server.rules({"match": "numbers", "times": 9, "do": "batches", "n": n_batches, "clean": False})
    with (
        pytest.raises(QueryError) as error,
        over_http.blocks("SELECT number FROM numbers(200000)") as blocks,
    ):
        list(blocks)
    says(error, http_server.host, "broke")


def test_a_table_is_cut(http_server, over_http):
    http_server.rules({"match": "numbers", "times": 9, "do": "cut", "bytes": 50_000})
    with pytest.raises(QueryError) as error:
        over_http.table("SELECT number FROM numbers(200000)")
    says(error, http_server.host)


def test_the_server_goes_away_between_queries(own_server):
    with connect(own_server.dsn, 2, 2) as warehouse:
        assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
        own_server.stop()
        with pytest.raises(ServerError) as error:
            warehouse.rows("SELECT 1 AS one")
        says(error, own_server.host)


@pytest.mark.parametrize("kind", [ZeroDivisionError, BrokenPipeError, pa.ArrowInvalid])
def test_errors_of_the_body_pass_through(warehouse, kind):
    """What the caller's own code raises while it reads is not the warehouse's failure."""

    def read() -> None:
        with warehouse.blocks("SELECT 1 AS a") as blocks:
            for _ in blocks:
                raise kind

    with pytest.raises(kind):
        read()
    assert warehouse.rows("SELECT 1 AS one") == [{"one": 1}]
