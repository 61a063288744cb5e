"""Several models side by side in one warehouse: each has its own table, previous set, rollback and lock."""

from __future__ import annotations

import time

import pytest
from support.published import lists, publish

from pipeline.errors import InputError, LockedError, UsageError
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing import published_tables, stale_tables
from pipeline.publishing.erasure import erase, find_user_rows
from pipeline.publishing.lock import publish_lock, publish_locks
from pipeline.publishing.recommendations_table import RecommendationsTable
from pipeline.publishing.suppressed_users import add
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import Warehouse, connect, sql

pytest_plugins = ["support.warehouse_fixtures"]

SHOP, SHOP_2 = Names("shop"), Names("shop_2")
# Tables of somebody's own, under names that look like ours.
MINE = (
    "recommendations_mine", "recommendations_staged_mine", "recommendations_published_mine",
    "recommendations_shop_staged_mine", "recommendations_shop_published_mine",
)  # fmt: skip


def run_of(warehouse: Warehouse, table: str) -> str | None:
    """The run whose set the table holds; None where it is not there."""
    if warehouse.engine(f"analytics.{table}") is None:
        return None
    held = published_tables.head(warehouse, table)
    return held.run_id if held is not None else ""


def roll_back(
    warehouse: Warehouse, names: Names
) -> tuple[published_tables.PublishedSet, published_tables.PublishedSet]:
    with publish_lock(warehouse, "rolling back", names=names) as lease:
        return published_tables.roll_back(warehouse, 5, lease)


def state(warehouse: Warehouse, names: Names) -> tuple[str | None, str | None]:
    """The published run and the one before."""
    return run_of(warehouse, names.sets), run_of(warehouse, names.previous_set)


@pytest.mark.parametrize(
    "name",
    ["", "Shop", "1shop", "_shop", "shop-2", "shop.2", "a b", "x" * 41, "shop; DROP", "previous", "shop_previous",
     "published_20260131", "staged_1", "my_staged_shop", "moving", "café", "shop\n"],
)  # fmt: skip
def test_names_that_are_not_allowed(name: str) -> None:
    with pytest.raises(UsageError, match="name must be a lower-case letter"):
        Names(name)


def test_what_belongs_to_a_name() -> None:
    assert (DEFAULT.model, DEFAULT.table) == ("rankline", "analytics.recommendations")
    assert DEFAULT.previous == "analytics.recommendations_previous"
    assert (DEFAULT.tickets, DEFAULT.typed) == ("publish_lock_", "")
    assert (SHOP.model, SHOP.table) == ("shop", "analytics.recommendations_shop")
    assert SHOP.previous == "analytics.recommendations_shop_previous"
    assert SHOP.typed == " --name shop"
    assert Names("a" * 40).name == "a" * 40


def test_each_has_its_own_table_previous_set_and_rollback(warehouse: Warehouse, monkeypatch) -> None:
    publish(warehouse, "rank1", [1, 2, 3])
    for table in MINE:
        warehouse.command(
            "CREATE TABLE analytics.{t:Identifier} ENGINE = MergeTree ORDER BY user_id "
            "AS SELECT * FROM analytics.recommendations",
            {"t": table},
        )
    # What is left behind is dropped at once: only what is the name's own.
    monkeypatch.setattr(stale_tables, "_STALE_HOURS", 0)
    running = RecommendationsTable(warehouse, "int", "int", "1", "running", SHOP_2)
    running.write(lists([9]))
    for run in ("shop1", "shop2", "shop3"):
        publish(warehouse, run, [int(run[-1]), 7], SHOP)
    publish(warehouse, "rank2", [1, 2, 4])
    assert running.publish().action == "published"
    assert state(warehouse, DEFAULT) == ("rank2", "rank1")
    assert state(warehouse, SHOP) == ("shop3", "shop2")
    assert state(warehouse, SHOP_2) == ("running", None)
    assert {published.run_id for published in published_tables.sets(warehouse).values()} == {"rank1", "rank2"}
    assert {published.run_id for published in published_tables.sets(warehouse, SHOP).values()} == {
        "shop1",
        "shop2",
        "shop3",
    }
    assert all(table.startswith("recommendations_shop") for table in published_tables.sets(warehouse, SHOP))
    assert published_tables.published_names(warehouse) == [DEFAULT, SHOP, SHOP_2]

    now, before = roll_back(warehouse, SHOP)
    assert (now.run_id, before.run_id) == ("shop3", "shop2")
    assert state(warehouse, SHOP) == ("shop2", "shop1")
    assert state(warehouse, DEFAULT) == ("rank2", "rank1")
    assert state(warehouse, SHOP_2) == ("running", None)
    with pytest.raises(InputError, match="rankline score --name shop_2"):
        roll_back(warehouse, SHOP_2)

    # What the default keeps is the default's alone.
    publish(warehouse, "rank3", [5], keep=1)
    assert state(warehouse, DEFAULT) == ("rank3", "rank2")
    assert state(warehouse, SHOP) == ("shop2", "shop1")
    roll_back(warehouse, DEFAULT)
    assert state(warehouse, DEFAULT) == ("rank2", None)
    assert state(warehouse, SHOP) == ("shop2", "shop1")
    for table in MINE:
        assert run_of(warehouse, table) == "rank1", table


def test_a_dead_jobs_table_is_dropped_by_its_own_name_alone(warehouse: Warehouse, monkeypatch) -> None:
    publish(warehouse, "rank1", [1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(ProcessIdentity, "me", classmethod(lambda _: ProcessIdentity("another machine", 7, "1")))
        left = RecommendationsTable(warehouse, "int", "int", "1", "dead", SHOP)
    monkeypatch.setattr(stale_tables, "_STALE_HOURS", 0)
    time.sleep(1.1)  # the times of tables are whole seconds
    publish(warehouse, "rank2", [1, 3])
    assert warehouse.engine(f"analytics.{left.staged}") is not None
    publish(warehouse, "shop1", [1], SHOP)
    assert warehouse.engine(f"analytics.{left.staged}") is None


def test_nobody_waits_for_another_names_lock(http_server, over_http) -> None:
    over_http.ddl(sql.load("ddl/02_analytics").text)
    with connect(http_server.dsn) as second, publish_lock(over_http, "publishing", names=SHOP):
        for other in (DEFAULT, SHOP_2, Names("sho")):
            with publish_lock(second, "publishing", patience=0, names=other):
                pass
        with pytest.raises(LockedError), publish_lock(second, "publishing", patience=0, names=SHOP):
            pass
    with connect(http_server.dsn) as second, publish_lock(over_http, "publishing"):
        with publish_lock(second, "publishing", patience=0, names=SHOP):
            pass
        with pytest.raises(LockedError), publish_lock(second, "publishing", patience=0):
            pass
    with connect(http_server.dsn) as second, publish_locks(over_http, "forgetting", [DEFAULT, SHOP]) as held:
        held.check()
        for entry in (DEFAULT, SHOP):
            with pytest.raises(LockedError), publish_lock(second, "publishing", patience=0, names=entry):
                pass
    assert over_http.rows("SELECT name FROM system.tables WHERE name LIKE 'publish_lock%'") == []


def test_forgetting_reaches_every_name(warehouse: Warehouse) -> None:
    for run in ("run1", "run2", "run3"):
        for names in (DEFAULT, SHOP):
            publish(warehouse, f"{run}{names.model}", [int(run[-1]), 7, 8], names)
    warehouse.command(
        "CREATE TABLE analytics.recommendations_mine ENGINE = MergeTree ORDER BY user_id "
        "AS SELECT * FROM analytics.recommendations"
    )
    staged = RecommendationsTable(warehouse, "int", "int", "1", "other", SHOP_2)
    staged.write(lists([7, 8]))
    with publish_locks(warehouse, "forgetting", published_tables.published_names(warehouse)) as lease:
        user = add(warehouse, "7")
        before = find_user_rows(warehouse, user)
        erase(warehouse, lease, before, user)
    assert len([place for place in before if place.deletable]) == 3 + 3 + 1
    (left,) = find_user_rows(warehouse, user)
    assert (left.table, left.ours) == ("analytics.recommendations_mine", False)
    for names in (DEFAULT, SHOP):
        for table in published_tables.sets(warehouse, names):
            rows = warehouse.rows("SELECT user_id FROM analytics.{t:Identifier}", {"t": table})
            assert 8 in {row["user_id"] for row in rows}, table
            assert 7 not in {row["user_id"] for row in rows}, table


def test_a_set_that_has_no_others_is_dropped_but_never_the_published_one(warehouse: Warehouse) -> None:
    for users in ([7], [8, 9], [7]):
        publish(warehouse, f"run{users[0]}{len(users)}", users, SHOP)
    with publish_locks(warehouse, "forgetting", published_tables.published_names(warehouse)) as lease:
        user = add(warehouse, "7")
        erase(warehouse, lease, find_user_rows(warehouse, user), user)
    assert warehouse.engine(SHOP.table) is not None
    assert state(warehouse, SHOP) == ("", "run82")
