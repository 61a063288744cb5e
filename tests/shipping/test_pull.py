"""What one host ships, another pulls: each interaction once, and none that the served version has read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.ship_and_die import shipped_rows

from pipeline.data.sources.warehouse import init
from pipeline.interaction_log import Interaction, InteractionLog, Logged
from pipeline.publishing import suppressed_users
from pipeline.publishing.erasure import erase, find_user_rows
from pipeline.publishing.lock import publish_lock
from pipeline.shipping import pull as pull_module
from pipeline.shipping.pull import Puller
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]

AT = datetime(2026, 1, 31, tzinfo=UTC)
NOTHING_READ: list[dict[str, int]] = [{}]


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[list[InteractionLog]]:
    """Of three hosts."""
    opened = [InteractionLog.open(tmp_path / name / "interactions.db") for name in "abc"]
    yield opened
    for log in opened:
        log.close()


def events(rows: list[Logged]) -> list[tuple]:
    return [(row.seq, row.user_id, row.item_id, row.rating, row.at) for row in rows]


def rate(log: InteractionLog, user: int, *items: int) -> None:
    log.append(
        [Interaction(user, item, 3.7 if item % 2 else None, AT + timedelta(milliseconds=item)) for item in items]
    )


def test_what_others_shipped_is_pulled_once_and_not_shipped_again(
    over_http: Warehouse, logs: list[InteractionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "_TOGETHER", 2)
    init(over_http)
    a, b, c = logs
    rate(a, 1, *range(10, 17))
    rate(b, 1, 90)
    rate(c, 2, 10, 11)
    for log in logs:
        ship(over_http, log)
    puller = Puller()
    assert puller.pull(over_http, b, NOTHING_READ, most=3, at_once=2) == 5, "three of one log, two of the other"
    assert puller.pull(over_http, b, NOTHING_READ, most=3, at_once=4) == 4
    assert puller.pull(over_http, b, NOTHING_READ) == Puller().pull(over_http, b, NOTHING_READ) == 0
    assert events(b.pulled_of_user(1)) == events(a.of_user(1)), "ids, rounded ratings and times are the same"
    assert events(b.pulled_of_user(2)) == events(c.of_user(2))
    before = shipped_rows(over_http)
    assert ship(over_http, b).n_shipments == 0
    assert shipped_rows(over_http) == before
    rate(a, 1, 20)
    assert puller.pull(over_http, b, NOTHING_READ) == 0, "it waits on its host"
    ship(over_http, a)
    assert puller.pull(over_http, b, NOTHING_READ) == 1
    assert puller.pull(over_http, c, [{a.log_id: 7, b.log_id: 0}, {a.log_id: 8, b.log_id: 5}]) == 2
    assert {row.item_id for row in c.pulled_of_user(1)} == {20, 90}, "above what a version that is served has read"


def test_nothing_is_pulled_without_the_tags_and_init_adds_them(
    over_http: Warehouse, logs: list[InteractionLog]
) -> None:
    init(over_http)
    for table in ("ratings", "watched_movies"):
        for column in ("log_id", "seq", "sent_log_id", "sent_seq"):
            over_http.command(f"ALTER TABLE raw.{table} DROP COLUMN {column}")
    a, b, _ = logs
    rate(a, 1, 10, 11)
    assert ship(over_http, a).n_ratings == 1
    assert Puller().pull(over_http, b, NOTHING_READ) == 0
    init(over_http)
    init(over_http)
    over_http.command("INSERT INTO raw.ratings VALUES (5, 12, 3, 0)")  # of who knows nothing of the tags
    rate(a, 1, 12, 13)
    ship(over_http, a)
    assert Puller().pull(over_http, b, NOTHING_READ) == 2
    assert [row.seq for row in b.pulled_of_user(1)] == [3, 4]
    assert over_http.rows("SELECT log_id, seq FROM raw.ratings WHERE user_id = 5") == [{"log_id": "", "seq": 0}]


def test_nothing_is_pulled_from_an_embedded_warehouse_or_where_nothing_is_served(
    embedded: Warehouse, over_http: Warehouse, logs: list[InteractionLog]
) -> None:
    for warehouse, log, served in ((embedded, logs[0], NOTHING_READ), (over_http, logs[2], [])):
        init(warehouse)
        rate(log, 1, 10)
        ship(warehouse, log)
        assert Puller().pull(warehouse, logs[1], served) == 0


def test_who_was_forgotten_on_another_host_is_gone_here(over_http: Warehouse, logs: list[InteractionLog]) -> None:
    init(over_http)
    a, b, c = logs
    for user in (1, 2, 3):
        rate(a, user, 10, 11)
    ship(over_http, a)
    puller = Puller()
    assert puller.pull(over_http, b, NOTHING_READ) == 6
    with publish_lock(over_http, "forgetting") as lock:
        users = suppressed_users.add(over_http, "1")
        assert Puller().pull(over_http, c, NOTHING_READ) == 4, "listed, and not yet deleted"
        erase(over_http, lock, find_user_rows(over_http, users), users)
    assert over_http.rows("SELECT countIf(log_id = '') AS n FROM raw.ratings") == [{"n": 0}], "the rest keeps its tags"
    puller.pull(over_http, b, NOTHING_READ)
    assert (b.pulled_of_user(1), b.is_forgotten(1), b.is_forgotten(2)) == ([], True, False)
    assert [len(log.pulled_of_user(2)) for log in (b, c)] == [2, 2]
    b.set_preference(1_000, ["War"])
    puller.pull(over_http, b, NOTHING_READ)
    with publish_lock(over_http, "forgetting"):
        suppressed_users.add(over_http, "2000")
    puller.pull(over_http, b, NOTHING_READ)
    b.set_preference(2000, ["War"])  # of whom this host has not known
    puller.pull(over_http, b, NOTHING_READ)
    assert (b.preference(2000), b.is_forgotten(2000), b.is_forgotten(1_000)) == (None, True, False)
    c.forget(3)
    assert Puller().pull(over_http, c, [{}]) == 0
    assert c.pulled_of_user(3) == []
