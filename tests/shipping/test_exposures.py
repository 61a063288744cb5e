"""What was shown, and what followed, arrives in the warehouse once, without those who were forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.exposures import shown

from pipeline.data.sources.warehouse import init
from pipeline.errors import InputError
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.interaction_log.exposures import ExposureLog
from pipeline.publishing import suppressed_users
from pipeline.publishing.erasure import find_user_rows
from pipeline.publishing.lock import publish_lock
from pipeline.shipping.exposures import EXPOSURES, make_tables, ship_exposures
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]
AT = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ExposureLog]:
    with ExposureLog.open(tmp_path / "exposures.db") as opened:
        yield opened


def arrived(warehouse: Warehouse) -> list[tuple[int, str, str]]:
    rows = warehouse.rows("SELECT seq, user_id, channel FROM analytics.exposures ORDER BY seq")
    return [(row["seq"], row["user_id"], row["channel"]) for row in rows]


class Died(BaseException):
    """The process is gone."""


def dying(call: Callable[..., Any], at: int, *, before: bool) -> Callable[..., Any]:
    """The call, which kills the process at its n-th time: before it has an effect, or after."""
    times = [0]

    def called(*args: Any, **more: Any) -> Any:
        times[0] += 1
        if times[0] == at and before:
            raise Died
        result = call(*args, **more)
        if times[0] == at:
            raise Died
        return result

    return called


def test_a_process_that_dies_at_any_step_loses_and_doubles_nothing(
    embedded: Warehouse, log: ExposureLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tables(embedded)
    n = 0
    for at in (1, 2, 3):
        for before in (True, False):
            log.append([shown(n), shown(n + 1), shown(n + 2)], "w")
            n += 3
            with monkeypatch.context() as patched:
                patched.setattr(embedded, "insert", dying(embedded.insert, at, before=before))
                patched.setattr(log, "mark_shipped", dying(log.mark_shipped, 1, before=before))
                with pytest.raises(Died):
                    ship_exposures(embedded, log, most=2)
    assert ship_exposures(embedded, log, most=2) > 0
    assert arrived(embedded) == [(seq, str(seq - 1), "api") for seq in range(1, n + 1)]
    assert (log.waiting(), ship_exposures(embedded, log)) == (0, 0)
    row = embedded.rows("SELECT * FROM analytics.exposures WHERE seq = 1")[0]
    assert (row["items"], row["micros"], row["status"], row["propensity"]) == (["1", "2"], 150, 200, None)
    ledger = embedded.rows(
        "SELECT sum(n_rows) AS n, sum(last_seq - first_seq + 1) AS m FROM analytics.exposure_shipments"
    )
    assert ledger == [{"n": n, "m": n}]


def manifests(warehouse: Warehouse) -> list[str]:
    return [row["manifest"] for row in warehouse.rows("SELECT manifest FROM analytics.exposures ORDER BY seq")]


def test_a_servers_table_of_before_there_were_manifests_takes_exposures_and_init_mends_it(
    over_http: Warehouse, log: ExposureLog
) -> None:
    init(over_http)
    over_http.command("ALTER TABLE analytics.exposures DROP COLUMN manifest")
    log.append([shown(1)], "w")
    assert ship_exposures(over_http, log) == 1
    make_tables(over_http)  # as an experiment begins: its user may have no right to ALTER
    assert over_http.rows("SELECT user_id FROM analytics.exposures") == [{"user_id": "1"}]
    init(over_http)
    log.append([shown(2)], "w", 1, "x")
    assert ship_exposures(over_http, log) == 1
    assert manifests(over_http) == ["", "0f" * 8, ""]


def test_an_embedded_table_gets_the_column_when_it_is_shipped_to(embedded: Warehouse, log: ExposureLog) -> None:
    make_tables(embedded)
    embedded.command("ALTER TABLE analytics.exposures DROP COLUMN manifest")
    log.append([shown(1)], "w")
    ship_exposures(embedded, log)
    assert manifests(embedded) == ["0f" * 8]


def test_losses_and_the_forgotten(embedded: Warehouse, log: ExposureLog, tmp_path: Path) -> None:
    with InteractionLog.open(tmp_path / "interactions.db") as interactions:
        interactions.forget(2)
        make_tables(embedded)
        with publish_lock(embedded, "forgetting"):
            users = suppressed_users.add(embedded, "3")
        log.append([shown(1), shown(2), shown(3)], "w", 4, "x")
        assert ship_exposures(embedded, log, interactions) == 1
    assert arrived(embedded) == [(1, "1", "api"), (4, "", "lost")]
    assert embedded.rows("SELECT sum(n_lost) AS n FROM analytics.exposures") == [{"n": 4}]
    embedded.command("INSERT INTO analytics.exposures (experiment, user_id) VALUES ('x', '3')")
    assert [(place.table, place.deletable) for place in find_user_rows(embedded, users)] == [(EXPOSURES, True)]


def test_an_old_copy_of_the_log_is_refused(embedded: Warehouse, log: ExposureLog) -> None:
    log.append([shown(1)], "w")
    ship_exposures(embedded, log)
    embedded.command(
        "INSERT INTO analytics.exposure_shipments (log_id, last_seq) VALUES ({log:String}, 99)", {"log": log.log_id}
    )
    with pytest.raises(InputError, match="an old copy of it was put back"):
        ship_exposures(embedded, log)


def test_an_interaction_that_names_its_answer_is_an_outcome_once(embedded: Warehouse, tmp_path: Path) -> None:
    init(embedded)
    with InteractionLog.open(tmp_path / "interactions.db") as interactions:
        interactions.append(
            [Interaction(1, 10, 4.0, AT, "r1"), Interaction(1, 11, None, AT), Interaction(2, 12, None, AT, "r2")]
        )
        for at in (3, 4):  # around the insert of outcomes, and of the ledger
            call = dying(embedded.insert, at, before=at == 3)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(embedded, "insert", call)
                with pytest.raises(Died):
                    ship(embedded, interactions)
        ship(embedded, interactions)
        rows = embedded.rows("SELECT request_id, user_id, item_id, rating, seq FROM analytics.outcomes ORDER BY seq")
        assert [tuple(row.values()) for row in rows] == [("r1", "1", "10", 4.0, 1), ("r2", "2", "12", None, 3)]
        interactions.forget(1)
        assert interactions.answers(1, 9) == {3: "r2"}
        interactions.append([Interaction(5, 1, None, AT, "r3")])
        interactions.trim(datetime(2100, 1, 1, tzinfo=UTC))
        assert interactions.answers(1, 9) == {4: "r3"}, "what was shipped is gone, what waits stays"
