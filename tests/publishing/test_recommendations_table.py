"""Publishing: readers see the whole old table or the whole new one, whatever fails on the way."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from pipeline.errors import InputError, QueryError
from pipeline.publishing import published_tables, stale_tables
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.recommendations_table import PREVIOUS, PUBLISHED, Recommendations, RecommendationsTable
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import connect, sql

pytest_plugins = ["support.warehouse_fixtures"]

N = 500


def block(first: int = 0, n: int = N, text: bool = False) -> Recommendations:
    """`n` users with one item each, from `first` on."""
    ids = np.arange(first, first + n)
    if text:
        names = np.array([f"u{v}" for v in ids.tolist()])
        return Recommendations(names, np.ones(n, np.uint16), names, np.ones(n, np.float32), np.full(n, "nmf"))
    return Recommendations(ids, np.ones(n, np.uint16), ids * 2, np.full(n, 0.5, np.float32), np.full(n, "nmf"))


def publish(warehouse, run_id: str, *blocks: Recommendations, user_kind: str = "int", item_kind: str = "int") -> None:
    table = RecommendationsTable(warehouse, user_kind, item_kind, "3", run_id)
    for entry in blocks or (block(),):
        table.write(entry)
    table.publish()


def runs(warehouse, table: str = PUBLISHED) -> dict[str, int]:
    """Rows by run."""
    rows = warehouse.rows(f"SELECT run_id, count() AS n FROM {table} GROUP BY run_id")
    return {row["run_id"]: row["n"] for row in rows}


def tables(warehouse) -> set[str]:
    """Every table of analytics but the log and the list of the forgotten; sets that are kept as their run alone."""
    names = {row["name"] for row in warehouse.rows("SELECT name FROM system.tables WHERE database = 'analytics'")}
    names -= {"publications", "forgotten"}
    return {re.sub(r"^recommendations_published_\d{8}T\d{9}_", "kept_", name) for name in names}


def test_what_is_written_is_what_is_there(warehouse):
    rows = Recommendations(
        np.array([-5, 2**62]),
        np.array([1, 65535], np.uint16),
        np.array([7, -7]),
        np.array([0.1, -2.5e30], np.float32),
        np.array(["nmf", "popular"]),
    )
    publish(warehouse, "run-a", rows)
    rows_read = warehouse.rows(f"SELECT *, abs(dateDiff('hour', generated_at, now64(3))) AS age FROM {PUBLISHED}")
    assert [row.pop("age") for row in rows_read] == [0, 0]
    at = rows_read[0]["generated_at"]
    both = {"model_version": "3", "run_id": "run-a", "generated_at": at}
    assert rows_read == [
        {"user_id": -5, "rank": 1, "item_id": 7, "score": float(np.float32(0.1)), "source": "nmf", **both},
        {"user_id": 2**62, "rank": 65535, "item_id": -7, "score": float(np.float32(-2.5e30)), "source": "popular"}
        | both,
    ]
    assert list(rows_read[0]) == [
        "user_id", "rank", "item_id", "score", "source", "model_version", "run_id", "generated_at",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("user_kind", "item_kind", "types"),
    [
        ("int", "int", ("Int64", "Int64")),
        ("str", "str", ("String", "String")),
        ("int", "str", ("Int64", "String")),
        ("str", "int", ("String", "Int64")),
    ],
)
def test_types(warehouse, user_kind, item_kind, types):
    numbers, text = block(n=3), block(n=3, text=True)
    rows = Recommendations(
        (text if user_kind == "str" else numbers).user_ids,
        numbers.ranks,
        (text if item_kind == "str" else numbers).item_ids,
        numbers.scores,
        numbers.sources,
    )
    publish(warehouse, "run-a", rows, user_kind=user_kind, item_kind=item_kind)
    columns = warehouse.rows(
        "SELECT name, type FROM system.columns WHERE database = 'analytics' AND table = 'recommendations'"
    )
    types_by_name = {row["name"]: row["type"] for row in columns}
    assert (types_by_name["user_id"], types_by_name["item_id"]) == types
    assert (types_by_name["rank"], types_by_name["score"]) == ("UInt16", "Float32")
    assert types_by_name["generated_at"] == "DateTime64(3, 'UTC')"
    assert warehouse.engine(PUBLISHED) == "MergeTree"
    assert [row["user_id"] for row in warehouse.rows(f"SELECT user_id FROM {PUBLISHED} ORDER BY user_id")] == (
        rows.user_ids.tolist()
    )


def test_kinds_of_id_may_change_from_one_to_the_next(warehouse):
    publish(warehouse, "run-a")
    publish(warehouse, "run-b", block(text=True), user_kind="str", item_kind="str")
    publish(warehouse, "run-c")
    assert runs(warehouse) == {"run-c": N}


def test_the_one_before_stays_and_older_ones_are_kept(warehouse):
    publish(warehouse, "run-a")
    assert runs(warehouse) == {"run-a": N}
    assert tables(warehouse) == {"recommendations"}
    publish(warehouse, "run-b", block(n=3))
    assert (runs(warehouse), runs(warehouse, PREVIOUS)) == ({"run-b": 3}, {"run-a": N})
    publish(warehouse, "run-c")
    assert (runs(warehouse), runs(warehouse, PREVIOUS)) == ({"run-c": N}, {"run-b": 3})
    publish(warehouse, "run-d")
    assert (runs(warehouse), runs(warehouse, PREVIOUS)) == ({"run-d": N}, {"run-c": N})
    assert tables(warehouse) == {"recommendations", "recommendations_previous", "kept_runa", "kept_runb"}


def test_the_first_publish_is_a_rename_and_the_next_an_exchange(http_server, over_http):
    publish(over_http, "run-a")
    http_server.clear()
    publish(over_http, "run-b")
    publish(over_http, "run-c")
    moves = [entry["statement"].split() for entry in http_server.log("^(EXCHANGE|RENAME)")]
    published_prefix, claimed = "analytics.recommendations_published_", "analytics.recommendations_moving_"
    short = r"(_moving_|_published_)[0-9a-zA-Z_]+"
    statements = [(move[0], re.sub(short, r"\1", move[2]), re.sub(short, r"\1", move[-1])) for move in moves]
    staged = re.compile(r"analytics\.recommendations_staged_\w+")
    assert [(move, staged.sub("staged", one), other) for move, one, other in statements] == [
        # What is moved is claimed first: so a move that comes too late finds nothing to move.
        ("RENAME", "staged", claimed),
        ("EXCHANGE", claimed, PUBLISHED),
        ("RENAME", claimed, PREVIOUS),
        ("RENAME", "staged", claimed),
        ("EXCHANGE", claimed, PUBLISHED),
        ("EXCHANGE", claimed, PREVIOUS),
        ("RENAME", claimed, published_prefix),
    ]
    assert http_server.log("CREATE OR REPLACE|TRUNCATE|ALTER") == []
    assert all(len(entry["statement"].split(",")) == 1 for entry in http_server.log("RENAME"))


def test_nothing_is_never_published(warehouse):
    publish(warehouse, "run-a")
    table = RecommendationsTable(warehouse, "int", "int", "3", "run-b")
    table.write(block(n=0))
    with pytest.raises(InputError, match="nothing to publish"):
        table.publish()
    table.discard()
    assert runs(warehouse) == {"run-a": N}
    assert tables(warehouse) == {"recommendations"}


def test_before_publish_nothing_changes(warehouse):
    publish(warehouse, "run-a")
    table = RecommendationsTable(warehouse, "int", "int", "3", "run-b")
    table.write(block())
    assert runs(warehouse) == {"run-a": N}
    table.discard()
    table.discard()
    assert runs(warehouse) == {"run-a": N}
    assert tables(warehouse) == {"recommendations"}


@pytest.mark.parametrize(
    "spoil",
    ["ALTER TABLE {t} DELETE WHERE user_id = 3 SETTINGS mutations_sync = 2", "INSERT INTO {t} SELECT * FROM {t}"],
)
def test_another_count_than_was_written_is_refused(warehouse, spoil):
    publish(warehouse, "run-a")
    table = RecommendationsTable(warehouse, "int", "int", "3", "run-b")
    table.write(block())
    warehouse.command(spoil.format(t=f"analytics.{table.staged}"))
    with pytest.raises(QueryError, match=f"and {N} were written: not published"):
        table.publish()
    assert runs(warehouse) == {"run-a": N}
    table.discard()
    assert tables(warehouse) == {"recommendations"}


def test_an_insert_that_breaks_is_no_publication(http_server, over_http):
    publish(over_http, "run-a")
    table = RecommendationsTable(over_http, "int", "int", "3", "run-b")
    table.write(block())
    http_server.rules(
        {"match": "INSERT INTO", "do": "instead", "sql": "SELECT throwIf(1)"},
    )
    with pytest.raises(QueryError):
        table.write(block(N))
    table.discard()
    assert runs(over_http) == {"run-a": N}
    assert tables(over_http) == {"recommendations"}


@pytest.mark.parametrize("statement", ["EXCHANGE", r"count\(\) AS n FROM analytics"])
def test_a_publish_that_fails_leaves_the_old_table(http_server, over_http, statement):
    publish(over_http, "run-a")
    table = RecommendationsTable(over_http, "int", "int", "3", "run-b")
    table.write(block())
    http_server.rules({"match": statement, "do": "instead", "sql": "SELECT throwIf(1)"})
    with pytest.raises(QueryError):
        table.publish()
    assert runs(over_http) == {"run-a": N}
    table.discard()
    assert runs(over_http) == {"run-a": N}


def test_a_failure_after_the_exchange_loses_neither(http_server, over_http):
    """The new table is published; an older one waits under the staged name, and the next publish works."""
    publish(over_http, "run-a")
    publish(over_http, "run-b")
    table = RecommendationsTable(over_http, "int", "int", "3", "run-c")
    table.write(block())
    http_server.rules(
        {"match": "^(RENAME|EXCHANGE).*recommendations_published_", "do": "instead", "sql": "SELECT throwIf(1)"}
    )
    with pytest.raises(QueryError):
        table.publish()
    # As the batch job does after any failure: what was published before must outlive it.
    table.discard()
    assert runs(over_http) == {"run-c": N}
    assert runs(over_http, PREVIOUS) == {"run-b": N}
    assert runs(over_http, f"analytics.{table.staged}") == {"run-a": N}
    publish(over_http, "run-d")
    assert (runs(over_http), runs(over_http, PREVIOUS)) == ({"run-d": N}, {"run-c": N})
    assert tables(over_http) >= {"kept_runa", "kept_runb"}, "the next put it away"
    assert not [name for name in tables(over_http) if name == table.staged]


def test_two_jobs_at_once_write_into_tables_of_their_own(warehouse, dsn):
    with connect(dsn) as second:
        first = RecommendationsTable(warehouse, "int", "int", "3", "run-a")
        other = RecommendationsTable(second, "int", "int", "4", "run-b")
        first.write(block(n=100))
        other.write(block(n=40))
        first.write(block(100, 100))
        first.publish()
        assert runs(warehouse) == {"run-a": 200}
        other.write(block(40, 40))
        other.publish()
    assert (runs(warehouse), runs(warehouse, PREVIOUS)) == ({"run-b": 80}, {"run-a": 200})
    assert tables(warehouse) == {"recommendations", "recommendations_previous"}


def test_two_first_publishes_at_once(warehouse, dsn):
    """The second waits for the first, and finds the table that the first made a moment ago."""
    with connect(dsn) as second, ExitStack() as first:
        entry = RecommendationsTable(warehouse, "int", "int", "3", "run-a")
        other = RecommendationsTable(second, "int", "int", "4", "run-b")
        entry.write(block(n=10))
        other.write(block(n=20))
        lock = first.enter_context(publish_lock(warehouse, "publishing"))
        waited_for = []

        def first_publishes(who: str) -> None:
            waited_for.append(who)
            published_tables.swap_in(warehouse, entry.staged, lock)
            first.close()

        if warehouse.embedded:  # one process has the folder, and nobody waits
            first_publishes("")
        other.publish(say=first_publishes)
    assert len(waited_for) == 1
    assert runs(warehouse) == {"run-b": 20}
    assert runs(warehouse, PREVIOUS) == {"run-a": 10}


def test_staged_tables_that_a_job_left_behind(warehouse, monkeypatch):
    """A day later, and only where their job is not known to live; a table of somebody's own never."""
    publish(warehouse, "run-a")
    with monkeypatch.context() as patch:
        patch.setattr(ProcessIdentity, "me", classmethod(lambda _: ProcessIdentity("another machine", 7, "1")))
        old = RecommendationsTable(warehouse, "int", "int", "3", "run-b")
        old.write(block())
    living = RecommendationsTable(warehouse, "int", "int", "3", "run-l")
    living.write(block())
    warehouse.command(f"CREATE TABLE analytics.{old.staged}_users ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a")
    own = {"recommendations_mine", "recommendations_staged_mine", f"{old.staged}_mine", f"{living.staged}x_mine"}
    for name in own:
        warehouse.command(f"CREATE TABLE analytics.{name} ENGINE = Memory AS SELECT 1 AS a")
    publish(warehouse, "run-c")
    assert old.staged in tables(warehouse), "it is young: its job may be running"
    load = sql.load

    def later(hours: int) -> None:
        query = load("queries/staged_tables")
        assert "now()" in query.text
        moved = sql.Sql(query.text.replace("now()", f"(now() + toIntervalHour({hours}))"), query.name)
        monkeypatch.setattr(stale_tables.sql, "load", lambda name: moved if "staged_tab" in name else load(name))

    later(23)
    publish(warehouse, "run-d")
    assert old.staged in tables(warehouse)
    later(25)
    publish(warehouse, "run-e")
    assert old.staged not in tables(warehouse)
    assert f"{old.staged}_users" not in tables(warehouse), "what it was to be checked against went too"
    assert living.staged in tables(warehouse), "its process lives, as a batch does that takes longer than a day"
    assert own <= tables(warehouse)
    assert (runs(warehouse), runs(warehouse, PREVIOUS)) == ({"run-e": N}, {"run-d": N})
    living.publish()
    assert runs(warehouse) == {"run-l": N}


_READER = """
import sys
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import connect, sql
with connect(sys.argv[1]) as warehouse:
    print("reading", flush=True)
    seen = set()
    while True:
        rows = warehouse.rows("SELECT run_id, count() AS n FROM analytics.recommendations GROUP BY run_id")
        new = str([(row["run_id"], row["n"]) for row in rows])
        if new not in seen:
            seen.add(new)
            print(new, flush=True)
        if rows and rows[0]["run_id"] == "last":
            break
"""


@pytest.mark.slow
def test_a_reader_meanwhile_sees_whole_sets_alone(http_server, over_http):
    publish(over_http, "run-0")
    with subprocess.Popen(
        [sys.executable, "-c", _READER, http_server.dsn], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "reading\n"
        for i in range(1, 9):
            publish(over_http, f"run-{i}", block(), block(N))
        publish(over_http, "last")
        seen = reader.communicate(timeout=300)[0].split("\n")
    assert reader.returncode == 0
    allowed = {f"[('run-{i}', {2 * N if i else N})]" for i in range(9)} | {f"[('last', {N})]"}
    assert set(filter(None, seen)) <= allowed
    assert len(set(filter(None, seen))) > 2, "it read while tables were published"
