"""Forgetting a user: gone from every table, on both kinds of warehouse, and no batch brings them back."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.fork import Forked
from support.processes import Home
from support.published import lists, publish

from pipeline.data.id_map import IdMap
from pipeline.data.sources.warehouse import init
from pipeline.errors import CheckFailedError, InputError
from pipeline.jobs.forget import ForgetResult
from pipeline.publishing import published_tables
from pipeline.publishing.batch_scoring import score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.erasure import NOTES, clear_disk, erase, find_user_rows
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.recommendations_table import RecommendationsTable
from pipeline.publishing.suppressed_users import SuppressedUsers, add, lift, read_suppressed_users
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse import Warehouse, sql

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

# Ids as people have them, and as attackers would; OTHERS must stay as they are.
HARD = ["1; DROP TABLE raw.ratings", "it's", 'say "x"', "back\\slash", "{user:String}", "ö–漢", "%s", "' OR 1=1 --"]
OTHERS = ["anna", "1", "its", "OR", "say"]
TABLES = ("raw.users", "raw.ratings", "raw.watched_movies")


def raw_tables(warehouse: Warehouse, users: list, kind: str = "String") -> None:
    """Raw tables with two rows a user, and the mart's view over them."""
    warehouse.command("CREATE DATABASE raw")
    warehouse.command(f"CREATE TABLE raw.users (user_id {kind}) ENGINE = MergeTree ORDER BY user_id")
    for table, at in (("ratings", "rating Float32, rated_at"), ("watched_movies", "watched_at")):
        columns = f"user_id {kind}, movie_id Int64, {at} DateTime64(3, 'UTC')"
        warehouse.command(f"CREATE TABLE raw.{table} ({columns}) ENGINE = MergeTree ORDER BY user_id")
    init(warehouse)
    column = pa.array(users)
    at = pa.array([1_600_000_000_000] * len(users), pa.timestamp("ms", "UTC"))
    ones, score = pa.array([1] * len(users)), pa.array([4.0] * len(users), pa.float32())
    warehouse.insert("raw.users", pa.table({"user_id": column}))
    warehouse.insert("raw.ratings", pa.table({"user_id": column, "movie_id": ones, "rating": score, "rated_at": at}))
    warehouse.insert("raw.watched_movies", pa.table({"user_id": column, "movie_id": ones, "watched_at": at}))


def forget(warehouse: Warehouse, user: str) -> list:
    """What the job does in the warehouse; returns the places where rows are left."""
    with publish_lock(warehouse, "forgetting") as lease:
        version = add(warehouse, user)
        erase(warehouse, lease, find_user_rows(warehouse, version), version)
    return find_user_rows(warehouse, version)


def everything(warehouse: Warehouse) -> dict[str, list]:
    """The users in each table of raw and analytics that has rows."""
    contents = {}
    for row in warehouse.rows(sql.load("queries/tables_with_users").text, {"tables": []}):
        names = {"database": row["database"], "table": row["name"]}
        rows = warehouse.rows("SELECT user_id FROM {database:Identifier}.{table:Identifier} ORDER BY user_id", names)
        if rows:
            contents[f"{row['database']}.{row['name']}"] = [entry["user_id"] for entry in rows]
    return contents


def test_users_of_hard_names_are_gone_everywhere_and_nobody_else(warehouse: Warehouse) -> None:
    everybody = [*HARD, *OTHERS]
    raw_tables(warehouse, everybody)
    for run in ("run-a", "run-b", "run-c"):
        publish(warehouse, run, everybody)
    # Another job's, not yet whole.
    staged = RecommendationsTable(warehouse, "str", "int", "1", "run-d")
    staged.write(lists(everybody))
    staged._companions._make("ddl/staged_seen", staged._companions.seen)
    warehouse.insert(
        f"analytics.{staged._companions.seen}",
        pa.table({"user_id": everybody, "item_id": list(range(len(everybody)))}),
    )
    before = everything(warehouse)
    assert len(before) == len(TABLES) + 1 + 3 + 2
    assert all(users == sorted(everybody) for users in before.values())
    gone = HARD if warehouse.embedded else HARD[:4]
    for user in gone:
        assert forget(warehouse, user) == []
    assert forget(warehouse, gone[0]) == [], "a second time there is nothing left"
    assert everything(warehouse) == dict.fromkeys(before, sorted({*HARD[len(gone) :], *OTHERS}))
    assert len(read_suppressed_users(warehouse)) == len(gone)
    # Neither the list, nor what the engine keeps of its mutations, says who.
    log_text = str(warehouse.rows("SELECT * FROM analytics.forgotten"))
    log_text += str(warehouse.rows("SELECT command FROM system.mutations WHERE database IN ('raw', 'analytics')"))
    assert "SHA256" in log_text
    assert not [user for user in gone if user in log_text]


def test_integer_ids_are_those_that_were_typed(warehouse: Warehouse) -> None:
    raw_tables(warehouse, [1, 7, 11, 70, -7], "Int64")
    publish(warehouse, "run-a", [1, 7, 11, 70, -7])
    assert find_user_rows(warehouse, SuppressedUsers.just("07")) == []
    assert find_user_rows(warehouse, SuppressedUsers.just("7 OR 1=1")) == []
    assert forget(warehouse, "7") == []
    assert set(map(tuple, everything(warehouse).values())) == {(-7, 1, 11, 70)}
    assert forget(warehouse, "-7") == []
    assert set(map(tuple, everything(warehouse).values())) == {(1, 11, 70)}


def test_nothing_of_them_is_left_on_disk(embedded: Warehouse, embedded_dsn: str) -> None:
    who = "zebra-4711-quagga"
    folder = Path(embedded_dsn.removeprefix("chdb://"))

    def files() -> list[str]:
        return [str(path) for path in folder.rglob("*") if path.is_file() and who.encode() in path.read_bytes()]

    raw_tables(embedded, [who, "bob"])
    publish(embedded, "run-a", [who, "bob"])
    assert len(files()) >= 4, "short text is in a file as it is"
    assert forget(embedded, who) == []
    assert files(), "the engine keeps the parts that it has replaced"
    assert clear_disk(embedded) == []
    assert files() == []
    (made,) = embedded.rows("SELECT create_table_query AS q FROM system.tables WHERE name = 'ratings'")
    assert "old_parts_lifetime" not in made["q"]


@pytest.mark.parametrize("stop", range(1, 6))
def test_stopped_anywhere_another_try_finishes(embedded: Warehouse, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    raw_tables(embedded, ["ann", "bob"])
    publish(embedded, "run-a", ["ann", "bob"])
    publish(embedded, "run-b", ["ann", "bob"])
    real, done = Warehouse.command, [0]

    def deadly(self: Warehouse, text: str, *arguments: object, **settings: object) -> None:
        if text.startswith("ALTER"):
            done[0] += 1
            if done[0] == stop:
                raise KeyboardInterrupt
        real(self, text, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "command", deadly)
        with pytest.raises(KeyboardInterrupt):
            forget(embedded, "ann")
    assert find_user_rows(embedded, SuppressedUsers.just("ann"))
    assert "ann" in read_suppressed_users(embedded), "no batch brings them back meanwhile"
    assert forget(embedded, "ann") == []
    assert set(map(tuple, everything(embedded).values())) == {("bob",)}
    assert len(read_suppressed_users(embedded)) == 1


def test_a_set_of_nobody_else_is_dropped_and_the_others_stay_in_order(embedded: Warehouse) -> None:
    for run, users in (("run-a", ["bob"]), ("run-b", ["ann"]), ("run-c", ["ann", "bob"])):
        publish(embedded, run, users)
    assert published_tables.head(embedded, "recommendations_previous").run_id == "run-b"
    assert forget(embedded, "ann") == []
    with publish_lock(embedded, "tidying up") as lease:
        published_tables.tidy(embedded, 5, lease)
    assert published_tables.head(embedded, "recommendations").run_id == "run-c"
    assert published_tables.head(embedded, "recommendations_previous").run_id == "run-a"


def test_notes_of_the_log_name_them_no_more(warehouse: Warehouse) -> None:
    publish(warehouse, "run-a", ["bob"])
    notes = [
        "list_length (2 found: user_id=ann n_items=3 n_due=10; user_id=bob n_items=1 n_due=10)",
        "distinct_items (9 found: user_id=bob n_rows=3; user_id=ann …)",
        "seen (1 found: user_id=annabel item_id=3 seen_by=artifact)",
        "scores (1 found: user_id=ann)",
    ]
    for note in notes:
        published_tables.log_event(
            warehouse, "refused", published_tables.PublishedSet("recommendations_staged_x", 0, "run", "1"), note=note
        )
    assert [place.table for place in find_user_rows(warehouse, SuppressedUsers.just("ann"))] == [NOTES]
    assert forget(warehouse, "ann") == []
    after = [row["note"] for row in warehouse.rows("SELECT note FROM analytics.publications WHERE action = 'refused'")]
    assert sorted(after) == sorted(
        [
            "list_length (2 found: user_id=– n_items=3 n_due=10; user_id=– n_items=1 n_due=10)",
            "distinct_items (9 found: user_id=– n_rows=3; user_id=– …)",
            notes[2],
            "scores (1 found: user_id=–)",
        ]
    )


def test_tables_of_others_are_named_and_left(embedded: Warehouse) -> None:
    raw_tables(embedded, ["ann", "bob"])
    embedded.command(
        "CREATE TABLE analytics.features ENGINE = MergeTree ORDER BY user_id AS SELECT user_id FROM raw.users"
    )
    embedded.command("DROP TABLE raw.watched_movies")
    embedded.command(
        "CREATE VIEW raw.watched_movies AS "
        "SELECT user_id, 1 AS movie_id, now64(3) AS watched_at FROM analytics.features"
    )
    left = forget(embedded, "ann")
    assert {(place.table, place.ours, place.deletable) for place in left} == {
        ("analytics.features", False, False),
        ("raw.watched_movies", True, False),
        ("analytics.mart_user_movie_matrix", True, False),
    }
    result = ForgetResult("here", (), tuple(left), True)
    with pytest.raises(InputError, match=r"still in .*raw\.watched_movies \(View, 1 rows\)"):
        result.check()
    ForgetResult("here", (), tuple(place for place in left if not place.ours), True).check()


def test_who_came_back_may_be_lifted(warehouse: Warehouse) -> None:
    publish(warehouse, "run-a", ["ann", "bob"])
    forget(warehouse, "ann")
    forget(warehouse, "bo")
    suppressed = read_suppressed_users(warehouse)
    assert suppressed.mask(np.array(["ann", "bob", "bo", "an"])).tolist() == [True, False, True, False]
    assert suppressed.mask(np.array([1, 2])).tolist() == [False, False]
    assert not lift(warehouse, "bob")
    assert lift(warehouse, "ann")
    assert read_suppressed_users(warehouse).mask(np.array(["ann", "bo"])).tolist() == [False, True]


def test_a_model_that_still_has_them_publishes_nothing_for_them(warehouse: Warehouse, make_model, rng) -> None:
    model = make_model(rng, 40, 30)
    gone = model.users.values[[0, 7, 39]]
    for user in [*gone.tolist(), 555]:
        add(warehouse, str(user))
    scorer = Scorer(model)
    # 555 and 556 are no users of the model; 555 was forgotten.
    seen = [(np.array([555, 556]), model.items.values[:2])]

    def batch(run: str, **options: object) -> RecommendationsTable:
        table = RecommendationsTable(warehouse, "int", "int", "1", run)
        table.summary = score_all(scorer, table, 5, seen_now=seen, unknown_popular=True, **options)
        return table

    table = batch("run-a", forgotten=read_suppressed_users(warehouse).mask)
    assert (table.summary.n_forgotten, table.summary.n_unknown, table.summary.n_with_items) == (4, 1, 37)
    assert table.summary.n_rows == table.n_rows
    limits = PublishLimits(5, strangers=False, max_fallback=1.0)
    # The check of who is known takes strangers from what the warehouse has as seen: none here.
    warehouse.command(
        "ALTER TABLE analytics.{t:Identifier} DELETE WHERE user_id = 556", {"t": table.staged}, mutations_sync=2
    )
    table.n_rows -= 5
    assert table.publish(model, limits).action == "published"
    published = {row["user_id"] for row in warehouse.rows("SELECT DISTINCT user_id FROM analytics.recommendations")}
    assert published == set(model.users.values.tolist()) - set(gone.tolist())

    # A job that did not leave them out (it began before they were forgotten) is refused.
    table = batch("run-b")
    with pytest.raises(CheckFailedError) as refused:
        table.publish(model, limits)
    assert refused.value.check in ("known_users", "forgotten")
    assert "forgotten" in str(refused.value)
    assert not [user for user in gone.tolist() if f"={user} " in str(refused.value)]
    # The table that is kept for a look has everybody but them.
    staged_users = warehouse.rows("SELECT DISTINCT user_id FROM analytics.{t:Identifier}", {"t": table.staged})
    assert {row["user_id"] for row in staged_users} == (set(model.users.values.tolist()) | {556}) - set(gone.tolist())
    names = warehouse.rows("SELECT name FROM system.tables WHERE startsWith(name, {t:String})", {"t": table.staged})
    assert names == [{"name": table.staged}]


def test_a_missing_list_is_a_fault_but_of_who_was_forgotten(warehouse: Warehouse, make_model, rng) -> None:
    model = make_model(rng, 40, 30)
    add(warehouse, str(model.users.values[3]))
    table = RecommendationsTable(warehouse, "int", "int", "1", "run-a")
    missing = np.isin(model.users.values, model.users.values[[3, 4]])
    score_all(Scorer(model), table, 5, forgotten=lambda ids: missing[IdMap(model.users.values).rows(ids)])
    with pytest.raises(CheckFailedError, match=rf"list_length \(1 found: user_id={model.users.values[4]} "):
        table.publish(model, PublishLimits(5))


# ---- as a command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_user_is_forgotten_and_no_later_batch_brings_them_back(trained_copy: Home) -> None:
    home = trained_copy
    client = home.client()
    (version,) = client.search_model_versions("name='rankline'")
    count = (
        "SELECT (SELECT count() FROM raw.ratings WHERE user_id = 42) AS ratings, "
        "(SELECT count() FROM analytics.mart_user_movie_matrix WHERE user_id = 42) AS mart, "
        "(SELECT count() FROM analytics.recommendations WHERE user_id = 42) AS lists, "
        "(SELECT count() FROM analytics.recommendations) AS n"
    )
    refused, injected, nobody, dry, before, done, after, again, scored, same, listed, events = home.many(
        ["forget", "42"],
        ["forget", "42; DROP TABLE raw.ratings", "--yes"],
        ["forget", "4242424242", "--yes"],
        ["forget", "42", "--dry-run"],
        ["sql", count],
        ["forget", "42", "--yes"],
        ["sql", count],
        ["forget", "42", "--yes", "--log-format", "json"],
        ["score"],
        ["sql", count],
        ["sql", "SELECT * FROM analytics.forgotten"],
        ["sql", "SELECT action, note FROM analytics.publications ORDER BY at"],
    )
    assert refused[0] == 2
    assert "--yes" in refused[2]
    for status, out, err in (injected, nobody):
        assert (status, out) == (3, "")
        assert "Nobody of that id is known" in err
    assert dry[0] == 0
    assert "to delete" in dry[1]
    ratings, mart, served, n = map(int, before[1].split("\n")[1].split("\t"))
    assert min(ratings, mart) > 0
    assert served == 10
    assert done[0] == 0, done[2]
    assert f"raw.ratings: {ratings} row(s) deleted" in done[1]
    assert f"run {version.run_id}, rankline/1 still holds the user: metadata.json" in done[1]
    assert after[1].split("\n")[1] == f"0\t0\t0\t{n - 10}"
    assert again[0] == 0
    said = json.loads(again[2].splitlines()[-1])
    assert said["metadata"]["already"]
    assert said["metadata"]["rows"] == {}
    assert said["metadata"]["runs"][0]["versions"] == ["1"]
    assert scored[0] == 0, scored[2]
    assert "1 user(s) who were forgotten are left out" in scored[2]
    assert same[1] == after[1], "not back, although the version still has them"
    assert "forgot" in events[1]
    assert "42" not in events[1].split("forgot")[1].split("\n")[0]
    assert listed[1].count("\n") == 2

    # What it says is to be done is what does it.
    python, gc = (line.strip() for line in done[1].splitlines() if line.startswith("  "))
    for command in (python, gc):
        ended = home.run("bash", "-ec", command)
        assert ended.returncode == 0, ended.stderr
    left = [str(path) for path in (home.folder / "artifacts").rglob("*") if path.is_file()]
    assert not [path for path in left if Path(path).name in ("metadata.json", "per_user.parquet")], left
    (gone,) = home.many(["forget", "42", "--yes"])
    assert gone[0] == 0
    assert "no run in" in gone[1]
    # With nothing to look it up in, what is the warehouse's part is done, and it is said that more is to do.
    (half,) = home.many(["forget", "7", "--yes"], MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert half[0] == 4
    assert "The rows are deleted, but which runs hold the user" in half[2]
    assert home.sql("SELECT count() FROM raw.ratings WHERE user_id = 7") == ["0"]


@pytest.mark.slow
def test_on_a_terminal_it_asks_first(home: Home) -> None:
    made = home.many(["init"], ["sql", "INSERT INTO raw.users VALUES (41), (42)"])
    assert [status for status, _, _ in made] == [0, 0]
    for answer, status, left in (("n", 2, "2"), ("y", 0, "1")):
        outer, inner = pty.openpty()
        process = Forked(["rankline", "forget", "42"], home.env, home.folder, (inner, subprocess.PIPE, inner))
        os.write(outer, f"{answer}\n".encode())
        process.communicate(timeout=300)
        os.close(inner)
        shown = b""
        with os.fdopen(outer, "rb", buffering=0) as terminal, suppress(OSError):  # the other end is closed
            while piece := terminal.read(4096):
                shown += piece
        assert b"Delete 1 rows of user '42' in" in shown
        assert process.returncode == status, shown
        assert home.sql("SELECT count() FROM raw.users") == [left]
