"""The warehouse under fire: connections cut anywhere, servers that hang, are busy or restart.

Nothing is doubled, and no part is taken for the whole.
"""

from __future__ import annotations

import re
import time

import numpy as np
import pyarrow as pa
import pytest
from support.engine import HttpServer, start

from pipeline.data.sources.warehouse import read_warehouse
from pipeline.errors import BusyError, ConnectionLostError, QueryError, TimedOutError, UnreachableError
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.recommendations_table import PUBLISHED, Recommendations, RecommendationsTable
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse import RetryPolicy, connect, sql

pytest_plugins = ["support.warehouse_fixtures"]

MANY = sql.Sql("SELECT number % 4000 AS user_id, number AS item_id, 1 AS score FROM numbers(200000)", "mine.sql")
WINDOW = "CREATE TABLE own.t (id Int64) ORDER BY id SETTINGS non_replicated_deduplication_window = 100"


def ids(first: int, n: int) -> pa.Table:
    return pa.table({"id": list(range(first, first + n))})


@pytest.fixture
def own(over_http):
    over_http.command("CREATE DATABASE own")
    over_http.command(WINDOW)
    return over_http


def held(warehouse) -> tuple[int, int]:
    """Rows, and different rows."""
    (row,) = warehouse.rows("SELECT count() AS n, uniqExact(id) AS u FROM own.t")
    return row["n"], row["u"]


# ---- reads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [0, 100, 5000, 700_000, 2_000_000])
def test_a_read_cut_anywhere_is_made_again_whole(http_server, over_http, n_bytes, caplog):
    http_server.rules({"match": "numbers.*FORMAT ArrowStream", "do": "cut", "bytes": n_bytes, "times": 2})
    read = read_warehouse(over_http, MANY)
    assert read.n_rows == len(read.interactions) == 200_000
    assert len(http_server.log("numbers.*FORMAT ArrowStream")) == 3
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(
        re.search(rf"{http_server.host} broke \(.*\): .* is tried again in .* \(try \d of 6\)", sentence)
        for sentence in said
    )


def test_a_read_that_never_comes_whole_gives_up_and_says_so(http_server, own):
    http_server.rules({"match": "numbers.*FORMAT ArrowStream", "do": "cut", "bytes": 2_000_000, "times": 99})
    with (
        connect(http_server.dsn, retry_policy=RetryPolicy(2, 30)) as warehouse,
        pytest.raises(ConnectionLostError) as error,
    ):
        read_warehouse(warehouse, MANY)
    text = str(error.value)
    assert f"clickhouse://{http_server.host} broke" in text
    assert re.search(
        r"the whole read of mine.sql was tried 3 times in \d+ s: RANKLINE_RETRIES and RANKLINE_RETRY_SEC", text
    )
    assert "run the command again" not in text
    assert http_server.password not in text
    assert len(http_server.log("numbers.*FORMAT ArrowStream")) == 3


def test_small_reads_are_repeated_and_a_wrong_one_is_not(http_server, over_http):
    http_server.rules({"match": "SELECT 7", "do": "drop", "times": 2}, {"match": "SELECT 8", "do": "cut", "bytes": 3})
    assert over_http.rows("SELECT 7 AS a") == [{"a": 7}]
    assert over_http.table("SELECT 8 AS a").to_pydict() == {"a": [8]}
    http_server.clear()
    with pytest.raises(QueryError):
        over_http.rows("SELECT nothing_such")
    assert len(http_server.log("nothing_such")) == 1


@pytest.mark.slow
def test_a_stream_that_hangs_in_the_middle(http_server):
    http_server.rules({"match": "numbers", "do": "hang", "bytes": 700_000, "times": 9})
    with (
        connect(http_server.dsn, 5, 1, retry_policy=RetryPolicy(0)) as warehouse,
        pytest.raises(TimedOutError) as error,
    ):
        read_warehouse(warehouse, MANY)
    assert "RANKLINE_READ_TIMEOUT" in str(error.value)


def test_what_is_seen_goes_on_where_the_stream_broke(http_server, over_http, rng, make_model):
    """The rows handed on stay; the others come from the same place of the same table."""
    model = make_model(rng, 300, 400)
    pairs = "SELECT number % 300 AS user_id, intDiv(number, 300) AS item_id, 1 AS score FROM numbers(60000)"
    table = RecommendationsTable(over_http, "int", "int", "3", "run-a")
    http_server.rules(
        {"match": "_seen ORDER BY.*ArrowStream", "do": "batches", "n": 0, "clean": False},
        {"match": "_seen ORDER BY.*ArrowStream", "do": "cut", "bytes": 300_000},
    )
    blocks = list(table.seen_now(sql.Sql(pairs, "mine.sql")))
    users, items = (np.concatenate([block[side] for block in blocks]) for side in (0, 1))
    assert users.size == 60_000
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == 60_000
    assert (np.diff(users) >= 0).all()
    score_all(Scorer(model), table, 5, seen_now=blocks)
    assert table.publish(model, PublishLimits(5, accept_changes=True)).action == "published"


def test_what_is_seen_is_kept_once_whatever_the_answer_did(http_server, over_http):
    table = RecommendationsTable(over_http, "int", "int", "3", "run-a")
    http_server.rules({"match": "^INSERT INTO.*_seen", "do": "drop", "run": True})
    blocks = list(table.seen_now(sql.Sql("SELECT number AS user_id, number AS item_id FROM numbers(100)", "mine.sql")))
    assert sum(users.size for users, _ in blocks) == 100


# ---- inserts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "drop", "run": True},  # the rows are there, the answer is lost
        {"do": "cut", "bytes": 0},
        {"do": "drop"},
        {"do": "cut request", "bytes": 0},
        {"do": "cut request", "bytes": 100},
        {"do": "cut request", "bytes": 70_000},
        {"do": "answer", "status": 503, "body": "no upstream"},
        {"do": "answer", "status": 502, "body": "bad gateway"},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_an_insert_with_a_token_arrives_once(http_server, own, fault):
    http_server.rules({"match": "INSERT INTO", "times": 2, **fault})
    own.insert("own.t", ids(0, 20_000), token="a:1")
    own.insert("own.t", ids(20_000, 5), token="a:2")
    assert held(own) == (20_005, 20_005)
    assert len(http_server.log("INSERT INTO")) == 4
    # By its token, not by its content: the same rows under another name are other rows.
    own.insert("own.t", ids(20_000, 5), token="a:3")
    assert held(own) == (20_010, 20_005)


def test_an_insert_without_a_token_is_sent_once(http_server, own):
    http_server.rules({"match": "INSERT INTO", "do": "drop", "run": True})
    with pytest.raises(ConnectionLostError, match="run the command again"):
        own.insert("own.t", ids(0, 10))
    assert held(own) == (10, 10)
    assert len(http_server.log("INSERT INTO")) == 1


@pytest.mark.slow
def test_an_insert_that_hangs_is_stopped_and_sent_again(http_server, own):
    """The first may be running still: it is told to stop, and its token sees to the rest."""
    with connect(http_server.dsn, 5, 1) as warehouse:
        http_server.rules({"match": "INSERT INTO", "do": "hang", "run": True})
        warehouse.insert("own.t", ids(0, 10), token="a:1")
    assert held(own) == (10, 10)
    first, second = (entry["params"] for entry in http_server.log("INSERT INTO"))
    (kill,) = http_server.log("KILL QUERY")
    assert kill["params"]["param_id"] == first["query_id"] != second["query_id"]


# ---- statements -----------------------------------------------------------------------------------


def test_statements_that_are_the_same_twice_are_repeated(http_server, over_http):
    for i, text in enumerate(
        (
            "CREATE DATABASE IF NOT EXISTS own",
            "CREATE TABLE IF NOT EXISTS own.t (id Int64) ENGINE = Memory",
            "CREATE OR REPLACE VIEW own.v AS SELECT 1",
            "DROP TABLE IF EXISTS own.t",
        )
    ):
        http_server.rules({"match": "^(CREATE|DROP)", "do": "drop", "run": bool(i % 2)})
        http_server.clear()
        over_http.command(text)
        assert len(http_server.log("^(CREATE|DROP)")) == 2
    assert over_http.engine("own.v") == "View"


def test_a_table_of_its_own_name_that_was_made_and_not_answered_for(http_server, over_http):
    over_http.command("CREATE DATABASE own")
    http_server.rules({"match": "^CREATE TABLE", "do": "drop", "run": True})
    over_http.ddl("CREATE TABLE own.mine (id Int64) ORDER BY id")
    assert over_http.engine("own.mine") == "MergeTree"
    # That it exists is an error as ever where no answer was lost.
    with pytest.raises(QueryError, match="already exists"):
        over_http.ddl("CREATE TABLE own.mine (id Int64) ORDER BY id")


@pytest.mark.parametrize(
    "text", ["RENAME TABLE own.t TO own.u", "INSERT INTO own.t SELECT 1", "ALTER TABLE own.t DELETE WHERE 1"]
)
def test_others_are_sent_once(http_server, own, text):
    http_server.rules({"match": f"^{text[:6]}", "do": "drop", "run": True})
    with pytest.raises(ConnectionLostError):
        own.command(text)
    with pytest.raises(QueryError):
        own.run("SELECT throwIf(1)")
    http_server.rules({"match": "^SELECT 5", "do": "answer", "status": 503, "body": ""})
    with pytest.raises(ConnectionLostError):
        own.run("SELECT 5")
    for sent in (f"^{text[:6]}", "throwIf", "^SELECT 5"):
        assert len(http_server.log(sent)) == 1


def test_a_busy_server_did_nothing_and_anything_is_asked_again(http_server, own):
    busy = "SELECT throwIf(1, 'too many', 202::Int16) SETTINGS allow_custom_error_code_in_throwif = 1"
    http_server.rules({"match": "^RENAME", "do": "instead", "sql": busy, "times": 2})
    own.command("RENAME TABLE own.t TO own.u")
    assert own.engine("own.u") == "MergeTree"
    http_server.rules({"match": "^RENAME", "do": "instead", "sql": busy, "times": 99})
    with pytest.raises(BusyError, match=r"RENAME TABLE was tried 6 times in \d+ s: RANKLINE_RETRIES"):
        own.command("RENAME TABLE own.u TO own.t")


@pytest.mark.slow
def test_a_statement_that_hangs_is_told_to_stop_or_its_number_said(http_server, own):
    with connect(http_server.dsn, 5, 1, retry_policy=RetryPolicy(0)) as warehouse:
        http_server.rules({"match": "^ALTER", "do": "hang", "times": 9})
        with pytest.raises(TimedOutError, match=r"RANKLINE_READ_TIMEOUT .* it is not running there any more"):
            warehouse.command("ALTER TABLE own.t DELETE WHERE id = 1")
        http_server.rules({"match": "^ALTER|KILL", "do": "hang", "times": 9})
        with pytest.raises(TimedOutError, match=r"it may still be running there, as query [0-9a-f-]{36}"):
            warehouse.run("ALTER TABLE own.t DELETE WHERE id = 1")


def test_what_a_server_may_work_on_one_statement_is_bounded(http_server):
    with connect(http_server.dsn, query_timeout=77) as warehouse:
        http_server.clear()
        warehouse.rows("SELECT 1")
        warehouse.run("SELECT 1")
        with warehouse.blocks("SELECT 1") as blocks:
            list(blocks)
        assert {entry["params"]["max_execution_time"] for entry in http_server.log()} == {"77"}
    slow = "SELECT throwIf(1, 'slow', 159::Int16) SETTINGS allow_custom_error_code_in_throwif = 1"
    with connect(http_server.dsn, query_timeout=0) as warehouse:
        http_server.clear()
        warehouse.rows("SELECT 1")
        assert "max_execution_time" not in http_server.log()[0]["params"]
        http_server.rules({"match": "SELECT 2", "do": "instead", "sql": slow})
        with pytest.raises(QueryError, match="RANKLINE_QUERY_TIMEOUT"):
            warehouse.rows("SELECT 2")


# ---- the server restarts --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_restarts_in_the_middle(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pipeline.runtime.retry.FIRST_WAIT", 0.2)
    server = start(tmp_path / "engine")
    again: list[HttpServer] = []
    try:
        with connect(server.dsn) as warehouse:
            warehouse.command("CREATE DATABASE own")
            warehouse.command(WINDOW)
            warehouse.insert("own.t", ids(0, 10), token="a:1")
            server.process.kill()
            server.process.wait()
            say = caplog.handler.emit

            def restart(record):
                say(record)
                if not again:
                    again.append(start(tmp_path / "engine", server.port))

            monkeypatch.setattr(caplog.handler, "emit", restart)
            warehouse.insert("own.t", ids(10, 10), token="a:2")
            assert held(warehouse) == (20, 20)
            assert "Connection refused".lower() in caplog.text.lower()
    finally:
        for entry in again:
            entry.stop()
        server.process.communicate()


def test_a_server_that_stays_away_ends_in_one_clear_sentence(own_server):
    with connect(own_server.dsn, 2, 2, retry_policy=RetryPolicy(2, 30)) as warehouse:
        own_server.stop()
        with pytest.raises(UnreachableError) as error:
            warehouse.command("RENAME TABLE a.b TO a.c")
    assert re.fullmatch(
        rf"No warehouse answers at clickhouse://{own_server.host} \(connection refused\). RANKLINE_WAREHOUSE names it; "
        r"RENAME TABLE was tried 3 times in \d+ s: RANKLINE_RETRIES and RANKLINE_RETRY_SECONDS allow more",
        str(error.value),
    )


def test_no_try_begins_after_the_time_is_up(own_server):
    with connect(own_server.dsn, 2, 2, retry_policy=RetryPolicy(50, 0)) as warehouse:
        own_server.stop()
        with pytest.raises(UnreachableError) as error:
            warehouse.rows("SELECT 1")
    assert "was tried" not in str(error.value)


def test_nothing_listens_at_the_start_is_said_at_once(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    with pytest.raises(UnreachableError):
        connect("clickhouse://u:p@127.0.0.1:9", 2, 2)


# ---- a whole publication, cut everywhere ----------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [0, 1000, 20_000])
@pytest.mark.parametrize("do", ["cut", "cut request", "drop"])
def test_publishing_with_every_third_statement_cut(http_server, over_http, do, n_bytes, rng, make_model):
    """Reads, inserts, statements and moves alike, each cut once and again: one whole and checked set, once."""
    if do == "drop" and n_bytes:
        pytest.skip("a connection without an answer has no bytes")
    model = make_model(rng, 200, 60)
    before = RecommendationsTable(over_http, "int", "int", "2", "run-0")
    rows = np.arange(200)
    before.write(Recommendations(rows, np.ones(200, np.uint16), rows, np.ones(200, np.float32), np.full(200, "nmf")))
    before.publish()
    inserts = {"match": "^INSERT INTO [^\n]* FORMAT", "do": do, "bytes": n_bytes, "run": True, "skip": 1, "times": 3}
    others = {"match": "^(SELECT|DROP|EXCHANGE|CREATE TABLE IF)", "do": "drop", "run": True, "skip": 2, "times": 4}
    reads = {"match": "FORMAT (Native|ArrowStream)", "do": "cut", "bytes": n_bytes, "skip": 4, "times": 5}
    http_server.rules(inserts, *([reads] if do == "cut" else [others]))
    table = RecommendationsTable(over_http, "int", "int", "3", "run-a")
    seen = sql.Sql("SELECT number AS user_id, number % 60 AS item_id FROM numbers(200)", "mine.sql")
    score_all(Scorer(model), table, 5, seen_now=table.seen_now(seen))
    assert table.publish(model, PublishLimits(5, accept_changes=True)).action == "published"
    http_server.rules()
    assert over_http.rows(
        f"SELECT count() AS n, uniqExact(user_id, item_id) AS pairs, uniqExact(run_id) AS runs FROM {PUBLISHED}"
    ) == [{"n": 1000, "pairs": 1000, "runs": 1}]
    assert over_http.rows("SELECT any(run_id) AS run FROM analytics.recommendations_previous") == [{"run": "run-0"}]
    events = over_http.rows("SELECT action, count() AS n FROM analytics.publications GROUP BY action ORDER BY action")
    assert events == [{"action": "published", "n": 2}, {"action": "started", "n": 2}]
