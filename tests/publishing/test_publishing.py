"""Jobs that publish, as processes: killed anywhere and started again, two at once, rolled back, explained, compared."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.processes import Home

from pipeline.errors import LockedError
from pipeline.publishing import published_tables
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.recommendations_table import PREVIOUS, PUBLISHED, Recommendations, RecommendationsTable
from pipeline.runtime import process as owner
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import connect

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

# `rankline`, which kills itself before, or after, the first statement that matches.
_DRIVER = """
import os, re, signal, sys
from pipeline import warehouse
from pipeline.cli import main as cli
when, pattern = os.environ["KILL_WHEN"], os.environ["KILL_AT"]
def deadly(function):
    def call(self, text, *arguments, **options):
        names = {**(arguments[0] if arguments and isinstance(arguments[0], dict) else {})}
        said = re.sub(r"\\{(\\w+):Identifier\\}", lambda found: str(names.get(found[1], found[0])), text)
        hit = re.search(pattern, said, re.DOTALL)
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = function(self, text, *arguments, **options)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call
for name in ("command", "insert"):
    setattr(warehouse.Warehouse, name, deadly(getattr(warehouse.Warehouse, name)))
cli.main(sys.argv[1:])
"""
ROWS = f"SELECT user_id, rank, item_id, score, source FROM {PUBLISHED} ORDER BY user_id, rank"


def block(n: int = 50, first: int = 0) -> Recommendations:
    ids = np.arange(first, first + n)
    return Recommendations(ids, np.ones(n, np.uint16), ids * 2, np.full(n, 0.5, np.float32), np.full(n, "nmf"))


def publish(warehouse, run: str, rows: Recommendations | None = None, **options):
    table = RecommendationsTable(warehouse, "int", "int", "3", run)
    table.write(block() if rows is None else rows)
    return table.publish(**options)


def roll_back(warehouse, keep: int):
    with publish_lock(warehouse, "rolling back") as lease:
        return published_tables.roll_back(warehouse, keep, lease)


def current(warehouse) -> str:
    return published_tables.head(warehouse, "recommendations").run_id


@pytest.mark.takes(30)
@pytest.mark.slow
def test_killed_anywhere_and_started_again_it_finishes_with_the_same_rows(home: Home, http_server, make_model, rng):
    model = make_model(rng, 200, 60)
    folder = model.save(home.folder / "model")
    env = {"RANKLINE_WAREHOUSE": http_server.dsn}
    command = ["score", "--model", str(folder), "--accept-changes", "yes"]
    points = [
        ("after", "recommendations_staged_[^_]+_[^_]+$"),  # rows are in the staged table
        ("before", "^EXCHANGE"),
        ("after", "^EXCHANGE"),  # what was published lies under the staged name
        ("after", "^RENAME.*recommendations_published_"),
    ]
    with connect(http_server.dsn) as warehouse:
        expected = None
        publish(warehouse, "first")
        for when, pattern in points:
            before = current(warehouse)
            done = home.python(_DRIVER, *command, env={**env, "KILL_WHEN": when, "KILL_AT": pattern})
            assert done.returncode == -signal.SIGKILL, (pattern, done.stderr)
            again = home.rankline(*command, env=env)
            assert again.returncode == 0, (pattern, again.stderr)
            rows = warehouse.rows(ROWS)
            expected = expected or rows
            assert rows == expected
            assert len(rows) == 2000
            left = [r["name"] for r in warehouse.rows("SELECT name FROM system.tables WHERE database = 'analytics'")]
            assert not [name for name in left if "staged" in name or "lock" in name], (pattern, left)
            assert "recommendations_previous" in left
            # Another set in between, so that the next round has something to put in its place.
            publish(warehouse, f"after {before}")


def test_the_same_twice_is_one(warehouse):
    publish(warehouse, "run-a")
    publish(warehouse, "run-b")
    before = published_tables.sets(warehouse)
    assert publish(warehouse, "run-b").action == "already published"
    assert published_tables.sets(warehouse) == before
    assert publish(warehouse, "run-b", block(51)).action == "published", "other rows of the same run are another set"


def test_an_insert_sent_twice_leaves_its_rows_once(http_server, over_http):
    """The rows arrive, the answer does not: nobody knows, so the chunk is sent again."""
    table = RecommendationsTable(over_http, "int", "int", "3", "run-a")
    http_server.rules({"match": f"INSERT INTO.*{table.staged}", "do": "cut", "bytes": 0})
    table.write(block())
    table.write(block(first=50))
    sent = http_server.log(f"INSERT INTO.*{table.staged}")
    tokens = [statement["params"]["insert_deduplication_token"].rpartition(":")[2] for statement in sent]
    assert tokens == ["1", "1", "2"]
    table.publish()
    assert over_http.rows(f"SELECT count() AS n, uniqExact(user_id) AS u FROM {PUBLISHED}") == [{"n": 100, "u": 100}]


def test_an_exchange_whose_answer_is_lost(http_server, over_http):
    publish(over_http, "run-a")
    http_server.rules({"match": "^EXCHANGE", "do": "cut", "bytes": 0})
    assert publish(over_http, "run-b").action == "published"
    assert (current(over_http), published_tables.head(over_http, "recommendations_previous").run_id) == (
        "run-b",
        "run-a",
    )


def test_the_last_ones_are_kept_and_rolled_back_to_one_by_one(warehouse):
    for i in range(6):
        publish(warehouse, f"run{i}", keep=3)
    assert {published.run_id for published in published_tables.sets(warehouse).values()} == {
        "run5",
        "run4",
        "run3",
        "run2",
    }
    for expected, previous in (("run4", "run3"), ("run3", "run2")):
        roll_back(warehouse, 3)
        assert current(warehouse) == expected
        assert published_tables.head(warehouse, "recommendations_previous").run_id == previous
    roll_back(warehouse, 3)
    assert current(warehouse) == "run2"
    assert warehouse.engine(PREVIOUS) is None
    from pipeline.errors import InputError

    with pytest.raises(InputError, match="No set before"):
        roll_back(warehouse, 3)
    publish(warehouse, "run6", keep=3)
    # What people went back from is never the one before again.
    assert (current(warehouse), published_tables.head(warehouse, "recommendations_previous").run_id) == ("run6", "run2")


def test_one_at_a_time(http_server, over_http):
    calls: list[str] = []
    over_http.command("CREATE DATABASE analytics")
    with connect(http_server.dsn) as second:
        with publish_lock(over_http, "publishing", expiry=1):
            refused = pytest.raises(LockedError, match=r"held by another job \(publishing, process \d+ on")
            with refused, publish_lock(second, "rolling back", calls.append, patience=0.5):
                raise AssertionError("both hold it")
        assert len(calls) == 1
        with publish_lock(second, "rolling back"):
            pass
    assert over_http.rows("SELECT name FROM system.tables WHERE name LIKE 'publish_lock%'") == []


def test_two_jobs_at_once_both_publish_one_after_the_other(http_server):
    """Both write meanwhile; their moves never mix."""
    inside, most = [0], [0]
    settle = published_tables.tidy

    def publish_one(run: str, outcomes: list[str]) -> None:
        with connect(http_server.dsn) as own:
            outcomes.append(publish(own, run).action)

    def counted(warehouse, keep, lease):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        settle(warehouse, keep, lease)
        inside[0] -= 1

    outcomes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_tables, "tidy", counted)
        jobs = [threading.Thread(target=publish_one, args=(f"run{i}", outcomes)) for i in range(3)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(240)
    assert outcomes == ["published"] * 3
    assert most == [1]
    with connect(http_server.dsn) as warehouse:
        assert {published.run_id for published in published_tables.sets(warehouse).values()} == {"run0", "run1", "run2"}


def test_jobs_that_begin_in_the_same_millisecond_lose_no_set(over_http, monkeypatch):
    monkeypatch.setattr(RecommendationsTable, "_now", lambda self: 1_700_000_000_000)
    tables = [RecommendationsTable(over_http, "int", "int", "3", f"run{i}") for i in range(3)]
    for table in tables:
        table.write(block())
    for table in tables:
        assert table.publish().action == "published"
    assert {each.run_id for each in published_tables.sets(over_http).values()} == {"run0", "run1", "run2"}
    assert current(over_http) == "run2"
    roll_back(over_http, 3)
    assert current(over_http) in ("run0", "run1")
    assert {each.run_id for each in published_tables.sets(over_http).values()} == {"run0", "run1", "run2"}


def test_a_dead_process_holds_nothing(http_server, over_http):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = owner._started(process.pid)
        gone = ProcessIdentity(ProcessIdentity.me().host, process.pid, started)
        assert not gone.dead
        process.communicate(b"\n")
    assert gone.dead
    assert not ProcessIdentity("another machine", gone.pid, started).dead, "of another machine nothing is known"
    over_http.command("CREATE DATABASE IF NOT EXISTS analytics")
    from pipeline.warehouse.sql import load

    for i, host in enumerate((gone.host, "another machine")):
        over_http.ddl(
            load("ddl/publish_lock").text, {"table": f"publish_lock_{i}", **gone.values, "host": host, "what": "x"}
        )
    with pytest.raises(LockedError, match="on another"), publish_lock(over_http, "publishing", patience=0):
        pass
    time.sleep(0.3)
    with publish_lock(over_http, "publishing", expiry=0.2) as held:
        held.check()
        over_http.command("DROP TABLE analytics.{t:Identifier}", {"t": held._ticket.table})
        with pytest.raises(LockedError, match="was lost"):
            held.check()


def test_two_sets_compared_by_hand(warehouse):
    from pipeline.warehouse.sql import load

    def rows(lists: dict[int, list[int]]) -> Recommendations:
        flat = [(u, r, i) for u, items in lists.items() for r, i in enumerate(items, 1)]
        users, ranks, items = (np.array(column) for column in zip(*flat, strict=True))
        return Recommendations(
            users, ranks.astype(np.uint16), items, np.ones(len(flat), np.float32), np.full(len(flat), "nmf")
        )

    publish(warehouse, "run-a", rows({1: [10, 11], 2: [10, 12], 3: [10, 13], 4: [10, 11]}))
    publish(warehouse, "run-b", rows({1: [10, 11], 2: [12, 10], 3: [14, 15], 5: [14, 11]}))
    names = {"a": "recommendations_previous", "b": "recommendations"}
    (users,) = warehouse.rows(load("queries/diff_users").text, names)
    assert users == {
        "n_before": 4, "n_after": 4, "n_gained": 1, "n_lost": 1, "n_both": 3, "n_changed": 2,
        "jaccard": pytest.approx((1 + 1 + 0) / 3),
    }  # fmt: skip
    items = warehouse.rows(load("queries/diff_items").text, {**names, "n": 2})
    assert [tuple(row.values()) for row in items] == [
        ("14", 0, 2, 2),
        ("15", 0, 1, 1),
        ("13", 1, 0, -1),
        ("10", 4, 2, -2),
    ]


@pytest.mark.slow
def test_why_makes_the_row_again_to_the_last_bit(trained_copy: Home):
    home, rankline = trained_copy, trained_copy.rankline
    shown = rankline("sql", f"SELECT user_id, item_id, score FROM {PUBLISHED} WHERE user_id = 42 AND rank = 2")
    user, item, _ = shown.stdout.splitlines()[1].split("\t")
    done = rankline("why", user, item)
    assert done.returncode == 0, done.stderr
    assert f"is number 2 in the list of user {user}" in done.stdout
    assert "seen items that weigh most in it" in done.stdout
    done = rankline("why", user, "318")
    assert done.returncode == 0, done.stderr
    changed = f"ALTER TABLE {PUBLISHED} UPDATE score = nextafter(score, 9) WHERE user_id = {user} AND rank = 2"
    changed = changed.replace("nextafter(score, 9)", "reinterpretAsFloat32(reinterpretAsUInt32(score) + 1)")
    assert rankline("sql", changed + " SETTINGS mutations_sync = 2").returncode == 0
    done = rankline("why", user, item)
    assert done.returncode == 3
    assert "the row was changed, or made by other artifacts" in done.stderr
    assert Path(home.folder).is_dir()
