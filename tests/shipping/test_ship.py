"""What waits in the log arrives in the warehouse once, whatever is killed, lost, forgotten or sent again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fork import run_forked
from support.naive_log import NaiveLog
from support.ship_and_die import shipped_rows
from support.warehouse_cells import cells

from pipeline.data.sources.warehouse import init
from pipeline.errors import InputError, LockedError
from pipeline.interaction_log import Columns, Interaction, InteractionLog
from pipeline.interaction_log import log as log_module
from pipeline.publishing import suppressed_users
from pipeline.publishing.erasure import erase, find_user_rows
from pipeline.publishing.lock import publish_lock
from pipeline.shipping import ship as ship_module
from pipeline.shipping.ledger import record, watermark
from pipeline.shipping.ship import raw_columns, ship, shipping_lock
from pipeline.warehouse import Warehouse, connect

pytest_plugins = ["support.warehouse_fixtures"]

AT = datetime(2026, 1, 31, tzinfo=UTC)
PROGRAM = Path(__file__).parents[1] / "support" / "ship_and_die.py"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InteractionLog]:
    with InteractionLog.open(tmp_path / "live" / "interactions.db") as opened:
        yield opened


def some(first: int, n: int = 3) -> list[Interaction]:
    """Interactions of which every third is a viewing; no two are alike."""
    return [
        Interaction(i % 5, i, None if i % 3 == 0 else 0.5 * (i % 10), AT + timedelta(seconds=i))
        for i in range(first, first + n)
    ]


def held(interactions: list[Interaction]) -> dict[str, list]:
    """What the warehouse holds of them."""
    rows = [(i.user_id, i.item_id, i.rating, int(i.at.timestamp() * 1000)) for i in interactions]
    return {
        "ratings": sorted([u, i, r, at] for u, i, r, at in rows if r is not None),
        "watched": sorted([u, i, at] for u, i, r, at in rows if r is None),
    }


def arrived(warehouse: Warehouse) -> dict[str, list]:
    rows = shipped_rows(warehouse)
    return {name: rows[name] for name in ("ratings", "watched")}


def forget(warehouse: Warehouse, log: InteractionLog, user: int) -> None:
    """What the job does, in its order."""
    log.forget(user)
    with shipping_lock(log.path), publish_lock(warehouse, "forgetting") as lock:
        users = suppressed_users.add(warehouse, str(user))
        erase(warehouse, lock, find_user_rows(warehouse, users), users)


def test_what_waits_arrives_and_a_training_reads_it(warehouse: Warehouse, log: InteractionLog) -> None:
    init(warehouse)
    assert watermark(warehouse) == {}
    log.append([Interaction(1, 10, 4.0, AT), Interaction(1, 11, None, AT), Interaction(2, 10, 2.5, AT)])
    log.append([Interaction(1, 10, 3.0, AT + timedelta(seconds=1))])
    done = ship(warehouse, log, most=3)
    assert (done.n_ratings, done.n_watched, done.n_shipments, done.last_seq) == (3, 1, 2, 4)
    assert watermark(warehouse) == {log.log_id: 4}
    assert {pair: score for pair, (score, _) in cells(warehouse).items()} == {(1, 10): 3.0, (1, 11): 1.0, (2, 10): 2.5}
    assert shipped_rows(warehouse)["ledger"] == [[1, 3, 2, 1], [4, 4, 1, 0]]
    again = ship(warehouse, log)
    assert (again.n_ratings, again.n_watched, again.n_shipments) == (0, 0, 0)
    assert log.pending() == (0, None)
    assert len(log.of_user(1)) == 3, "it stays in the log for 7 days"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "http"])
def test_a_process_killed_at_any_step_loses_and_doubles_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, log: InteractionLog
) -> None:
    """A real process is killed after each call; the next one starts where it was, and is killed one call later."""
    dsn = f"chdb://{tmp_path / 'engine'}" if kind == "embedded" else request.getfixturevalue("http_server").dsn
    if kind == "http":
        with connect(dsn) as warehouse:
            init(warehouse)
    sent: list[Interaction] = []

    def run(step: int) -> tuple[int, str, str]:
        # More waits each time: bounds that move would be seen.
        batch = some(len(sent), 3)
        sent.extend(batch)
        log.append(batch, idempotency_key=str(step))
        log.append(batch, idempotency_key=str(step))
        done = run_forked(["python", str(PROGRAM), dsn, str(log.path), str(step)], dict(os.environ), tmp_path, 120)
        return done.returncode, done.stdout, done.stderr

    for step in range(1, 7):
        status, _, err = run(step)
        assert status == -9, err
    status, out, err = run(0)
    assert status == 0, err
    found = json.loads(out)
    assert found["steps"] >= 6
    assert {name: found[name] for name in ("ratings", "watched")} == held(sent)
    ledger = found["ledger"]
    assert [first for first, *_ in ledger[1:]] == [last + 1 for _, last, *_ in ledger[:-1]], "no gap, none twice"
    assert (ledger[0][0], ledger[-1][1]) == (1, len(sent) == log.latest_seq() and len(sent))


@pytest.mark.parametrize("table", [r"raw`?\.`?ratings", r"raw`?\.`?watched_movies", r"raw`?\.`?shipments"])
def test_an_answer_that_is_lost_doubles_nothing(over_http: Warehouse, http_server, log: InteractionLog, table) -> None:
    init(over_http)
    log.append(some(0))
    http_server.rules({"match": rf"INSERT INTO `?{table}", "do": "drop", "run": True})
    http_server.clear()
    ship(over_http, log)
    assert len(http_server.log(rf"INSERT INTO `?{table}")) == 2
    assert arrived(over_http) == held(some(0))
    assert shipped_rows(over_http)["ledger"] == [[1, 3, 2, 1]]


def test_rows_that_are_inserted_without_a_token_all_count(warehouse: Warehouse) -> None:
    init(warehouse)
    rows = pa.table({"user_id": [1], "movie_id": [1], "watched_at": pa.array([AT], pa.timestamp("ms", "UTC"))})
    for _ in range(2):
        warehouse.insert("raw.watched_movies", rows)
    assert len(arrived(warehouse)["watched"]) == 2


def test_what_the_ledger_has_is_not_sent_again(embedded: Warehouse, log: InteractionLog) -> None:
    """Killed before the log marked it; meanwhile so much was inserted that the tokens are gone from the window."""
    init(embedded)
    log.append(some(0))
    shipment = log.next_shipment()
    record(embedded, shipment, 2, 1)
    assert ship(embedded, log).n_shipments == 0
    assert arrived(embedded) == {"ratings": [], "watched": []}
    assert log.shipped_seq() == 3


def test_a_token_without_its_rows_loses_nothing(warehouse: Warehouse, log: InteractionLog) -> None:
    """The engine was killed between the note of the token and the rows."""
    init(warehouse)
    log.append(some(1, 2))
    shipment = log.next_shipment()
    rows = {"user_id": [0], "movie_id": [0], "rating": pa.array([1.0], pa.float32())}
    other = pa.table({**rows, "rated_at": pa.array([AT], pa.timestamp("ms", "UTC"))})
    warehouse.insert("raw.ratings", other, token=f"{shipment.token}:raw.ratings")
    warehouse.command("TRUNCATE TABLE raw.watched_movies")
    ship(warehouse, log)
    assert [row[:2] for row in arrived(warehouse)["ratings"]] == [[0, 0], [1, 1], [2, 2]]


def test_an_older_warehouse_is_brought_up_to_date_by_init(warehouse: Warehouse, log: InteractionLog) -> None:
    init(warehouse)
    warehouse.command("DROP TABLE raw.shipments")
    for table in ("ratings", "watched_movies"):
        warehouse.command(f"ALTER TABLE raw.{table} RESET SETTING non_replicated_deduplication_window")
    log.append(some(0))
    if not warehouse.embedded:
        with pytest.raises(InputError, match="rankline init"):
            ship(warehouse, log)
        init(warehouse)
    ship(warehouse, log)
    assert arrived(warehouse) == held(some(0))
    definitions = warehouse.rows("SELECT engine_full FROM system.tables WHERE database = 'raw' AND name != 'movies'")
    assert [("fsync_after_insert = 1" in row["engine_full"]) for row in definitions].count(True) == 3


def test_columns_are_those_of_the_warehouse(embedded: Warehouse, log: InteractionLog) -> None:
    log.append([Interaction(7, 1, 4.0, AT)])
    own = "ENGINE = MergeTree ORDER BY user_id SETTINGS non_replicated_deduplication_window = 10"
    embedded.command("CREATE DATABASE raw")
    for table, columns in (("ratings", "rating Float64, rated_at"), ("watched_movies", "watched_at")):
        typed = f"user_id LowCardinality(String), movie_id UInt32, {columns} DateTime64(3, 'UTC')"
        embedded.command(f"CREATE TABLE raw.{table} ({typed}) ENGINE = MergeTree ORDER BY user_id")
    ship(embedded, log)
    assert arrived(embedded)["ratings"][0][:2] == ["7", 1]
    assert log.columns == raw_columns(embedded) == Columns("LowCardinality(String)", "UInt32", "Float64")
    log.append([Interaction("anna", 1)])
    embedded.command("CREATE OR REPLACE TABLE raw.ratings (user_id Int64, movie_id UInt32, rating Float32, rated_at "
                     f"DateTime64(3, 'UTC')) {own}")  # fmt: skip
    with pytest.raises(InputError, match="give both the same type"):
        raw_columns(embedded)
    embedded.command("CREATE OR REPLACE TABLE raw.watched_movies (user_id Int64, movie_id UInt32, watched_at "
                     f"DateTime64(3, 'UTC')) {own}")  # fmt: skip
    with pytest.raises(InputError, match="'anna' is text"):
        ship(embedded, log)
    assert log.pending()[0] == 1, "nothing is lost"


def test_a_table_of_another_kind_is_refused(embedded: Warehouse, log: InteractionLog) -> None:
    init(embedded)
    embedded.command("RENAME TABLE raw.ratings TO raw.own")
    embedded.command("CREATE VIEW raw.ratings AS SELECT * FROM raw.own")
    with pytest.raises(InputError, match="is a View"):
        ship(embedded, log)


def test_two_shippers_wait_for_each_other(
    embedded: Warehouse, log: InteractionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship_module, "_LOCK_SECONDS", 0.01)
    with shipping_lock(log.path), pytest.raises(LockedError, match=r"interactions\.db\.ship"):
        ship(embedded, log)


def test_an_old_copy_of_the_log_and_another_warehouse_are_named(
    embedded: Warehouse, log: InteractionLog, tmp_path: Path
) -> None:
    log.append(some(0))
    log.erase()
    copy = tmp_path / "copy" / "interactions.db"
    copy.parent.mkdir()
    copy.write_bytes(log.path.read_bytes())
    log.append(some(3))
    ship(embedded, log)
    with InteractionLog.open(copy) as old, pytest.raises(InputError, match="an old copy of it was put back"):
        ship(embedded, old)
    embedded.command("TRUNCATE TABLE raw.shipments")
    said: list[str] = []
    ship(embedded, log, said.append)
    assert "went to another warehouse" in said[0]


# ---- forgetting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", ["forget ship", "ship forget", "ship forget resend ship", "fix forget ship", "die forget ship"]
)
def test_no_order_brings_a_forgotten_user_back(embedded: Warehouse, log: InteractionLog, order: str) -> None:
    init(embedded)
    batch = [Interaction(1, 1, 4.0, AT), Interaction(2, 1, 4.0, AT)]
    log.append(batch, idempotency_key="k")
    for step in order.split():
        if step == "ship":
            ship(embedded, log)
        elif step == "forget":
            forget(embedded, log, 1)
        elif step == "fix":
            log.next_shipment()
        elif step == "die":
            _ship_and_die(embedded, log, 4)  # after the ratings: they are sent again without the user
            assert len(arrived(embedded)["ratings"]) == 2
        else:
            assert log.append(batch, idempotency_key="k").duplicate
            with pytest.raises(InputError, match="forgotten"):
                log.append(batch)
            log.append(batch[1:])
    assert [row[0] for row in arrived(embedded)["ratings"]] == [2] * (1 + order.count("resend"))
    assert set(cells(embedded)) == {(2, 1)}


def test_a_user_forgotten_elsewhere_is_left_out_and_forgotten_here(embedded: Warehouse, log: InteractionLog) -> None:
    init(embedded)
    suppressed_users.add(embedded, "1")
    log.append([Interaction(1, 1, 4.0, AT), Interaction(2, 1, 4.0, AT)])
    assert ship(embedded, log).n_forgotten == 1
    assert {row[0] for row in arrived(embedded)["ratings"]} == {2}
    assert log.is_forgotten(1)
    assert log.of_user(1) == []


# ---- against the twin ----------------------------------------------------------------------------


class KilledError(BaseException):
    """Stands for a kill: no code of ours may catch it."""


USERS = st.integers(1, 3)
BATCH = st.lists(st.tuples(USERS, st.integers(1, 3), st.sampled_from([None, 3.0, 4.5])), min_size=1, max_size=4)
STEP = st.one_of(
    st.tuples(st.just("append"), BATCH, st.sampled_from(["", "", "a", "b"])),
    st.tuples(st.just("append"), BATCH, st.just("")),
    st.tuples(st.just("ship"), st.sampled_from([0, 0, *range(1, 12)])),
    st.tuples(st.sampled_from(["forget", "lift"]), USERS),
    st.tuples(st.just("trim")),
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=3, max_size=9))
def test_any_sequence_is_what_the_twin_says(
    embedded: Warehouse, tmp_path_factory: pytest.TempPathFactory, steps: list
) -> None:
    init(embedded)
    for table in ("raw.ratings", "raw.watched_movies", "raw.shipments"):
        embedded.command(f"TRUNCATE TABLE {table}")
    embedded.command("TRUNCATE TABLE IF EXISTS analytics.forgotten")
    path, twin, now = tmp_path_factory.mktemp("live") / "interactions.db", NaiveLog(), [1_800_000_000_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "_now_ms", lambda: now[0])
        for step in [*steps, ("ship", 0)]:
            with InteractionLog.open(path) as log:
                _take(step, embedded, log, twin, now)
    with InteractionLog.open(path, create=False) as log:
        at = {row.seq: row for row in log.rows(0, 10**9)}
        assert sorted(at) == [row[0] for row in twin.rows]
        assert [(r.user_id, r.item_id, r.rating) for r in at.values()] == [row[1:4] for row in twin.rows]
        for user in range(1, 4):
            assert [row.seq for row in log.of_user(user)] == [row[0] for row in twin.rows if row[1] == user]
            assert log.is_forgotten(user) == (user in twin.forgotten)
        rows = [Interaction(u, i, r, datetime.fromtimestamp(ms / 1000, UTC)) for _, u, i, r, ms in twin.warehouse]
        assert arrived(embedded) == held(rows)
        assert watermark(embedded) == ({log.log_id: twin.newest} if twin.newest else {})


def _take(step: tuple, warehouse: Warehouse, log: InteractionLog, twin: NaiveLog, now: list[int]) -> None:
    now[0] += 1000
    if step[0] == "append":
        _, batch, key = step
        try:
            answer = log.append([Interaction(*entry) for entry in batch], idempotency_key=key)
            got = (answer.first_seq, answer.last_seq, answer.duplicate)
        except InputError as error:
            got = type(error).__name__
        expected = twin.append(batch, key)
        twin.rows = [row if len(row) == 5 else (*row, now[0]) for row in twin.rows]
        assert got == expected
    elif step[0] == "ship":
        _ship_and_die(warehouse, log, step[1])
        if not step[1]:
            twin.ship()
    elif step[0] == "forget":
        # What a killed shipper left on the way arrives or not; the user is gone from it either way.
        forget(warehouse, log, step[1])
        twin.forget(step[1])
    elif step[0] == "lift":
        log.lift(step[1])
        suppressed_users.lift(warehouse, str(step[1]))
        twin.lift(step[1])
    else:
        _ship_and_die(warehouse, log, 0)
        twin.ship()
        now[0] += 8 * 24 * 3600 * 1000
        log.trim()
        twin.trim()


def _ship_and_die(warehouse: Warehouse, log: InteractionLog, step: int) -> None:
    """Ship, and stop at the step as if killed; 0: don't."""
    steps = 0
    with pytest.MonkeyPatch.context() as patch:

        def deadly(function):
            def call(*arguments, **options):
                nonlocal steps
                for done in (False, True):
                    result = function(*arguments, **options) if done else None
                    steps += 1
                    if steps == step:
                        raise KilledError
                return result

            return call

        patch.setattr(Warehouse, "insert", deadly(Warehouse.insert))
        for name in ("next_shipment", "mark_shipped"):
            patch.setattr(InteractionLog, name, deadly(getattr(InteractionLog, name)))
        with suppress(KilledError):
            ship(warehouse, log, most=3)
