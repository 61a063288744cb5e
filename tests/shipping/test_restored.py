"""A copy of the log that is put back: nothing is shipped twice, nobody comes back, no number is given twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.ship_and_die import shipped_rows

from pipeline.data.sources.warehouse import init
from pipeline.errors import ForgottenUserError
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.interaction_log.copies import copy_log, facts_of, learn_forgotten, opened_copy, put_in_place
from pipeline.shipping import ship as ship_module
from pipeline.shipping.restored import catch_up
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]

AT = datetime(2026, 1, 31, tzinfo=UTC)


def some(first: int, n: int) -> list[Interaction]:
    """Interactions of which every third is a viewing; no two are alike."""
    return [
        Interaction(i % 5, i, None if i % 3 == 0 else 4.0, AT + timedelta(seconds=i)) for i in range(first, first + n)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "live" / "interactions.db"


def put_back(warehouse: Warehouse, copy: Path, path: Path) -> None:
    with opened_copy(copy, path) as log:
        learn_forgotten(log, path)
        catch_up(warehouse, log)
    put_in_place(path)


@pytest.fixture
def ready(embedded: Warehouse) -> Warehouse:
    init(embedded)
    return embedded


@pytest.mark.parametrize("lost_after", ["nothing", "a shipment", "half a shipment", "more than the copy has"])
def test_nothing_is_shipped_twice(
    ready: Warehouse, path: Path, lost_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InteractionLog.open(path) as log:
        log.append(some(0, 6))
        ship(ready, log)
        log.append(some(6, 6))
        facts = copy_log(path, path.parent / "copy.db")
        assert (facts.last_seq, facts.shipped_seq, facts.log_id) == (12, 6, log.log_id)
        expected = set(range(12))
        if lost_after == "more than the copy has":
            log.append(some(12, 4))
            expected |= set(range(12, 16))
        if lost_after == "half a shipment":
            # Ratings are in the warehouse, viewings are not, and the ledger knows nothing. Bounds are others, too.
            log.append(some(12, 1))

            def dies(*_: object) -> None:
                raise KeyboardInterrupt

            monkeypatch.setattr(ship_module._Sending, "_insert", _once(ship_module._Sending._insert, dies))
            with pytest.raises(KeyboardInterrupt):
                ship(ready, log)
            monkeypatch.undo()
            expected |= {row[1] for row in shipped_rows(ready)["ratings"]}
        elif lost_after != "nothing":
            ship(ready, log)
    path.unlink()
    put_back(ready, path.parent / "copy.db", path)
    with InteractionLog.open(path) as log:
        accepted = log.append(some(100, 3))
        if lost_after == "more than the copy has":
            assert accepted.first_seq == 17, "16 numbers were given"
        ship(ready, log)
        ship(ready, log)
    rows = shipped_rows(ready)
    items = [row[1] for row in (*rows["ratings"], *rows["watched"])]
    assert sorted(items) == sorted(expected | {100, 101, 102})


def _once(first: object, then: object) -> object:
    """The first function for the first call, the second from then on."""
    calls = iter([first])
    return lambda *arguments: next(calls, then)(*arguments)


def test_the_copy_is_of_one_moment_and_the_log_goes_on(path: Path) -> None:
    with InteractionLog.open(path) as log:
        log.append(some(0, 3))
        copy_log(path, path.parent / "copy.db")
        log.append(some(3, 3))
        assert log.latest_seq() == 6
    assert facts_of(path.parent / "copy.db").last_seq == 3
    assert not (path.parent / "copy.db-wal").exists()


@pytest.mark.parametrize("left", ["log", "file of who was forgotten", "another log"])
def test_no_old_copy_revives_anybody(ready: Warehouse, path: Path, left: str) -> None:
    with InteractionLog.open(path) as log:
        log.append(some(0, 10))
        log.set_preference(3, ["Drama"])
        copy_log(path, path.parent / "copy.db")
        log.forget(3)
        log.forget(77)
    if left != "log":
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    if left == "another log":
        path.with_name(f"{path.name}.forgotten").unlink()
        with InteractionLog.open(path) as log:
            log.forget(3)
    put_back(ready, path.parent / "copy.db", path)
    with InteractionLog.open(path) as log:
        assert log.of_user(3) == []
        assert log.preference(3) is None
        assert len(log.of_user(4)) == 2
        with pytest.raises(ForgottenUserError):
            log.append([Interaction(3, 1)])
        # Of another log the digests say nothing of who is not in the copy; the warehouse's digests do.
        assert log.is_forgotten(77) == (left != "another log")


def test_a_kill_before_the_copy_is_in_place_leaves_the_log_and_the_next_try_goes_on(
    ready: Warehouse, path: Path
) -> None:
    with InteractionLog.open(path) as log:
        log.append(some(0, 3))
        copy_log(path, path.parent / "copy.db")
        log.append(some(3, 1))
        log.forget(2)
    with pytest.raises(ZeroDivisionError), opened_copy(path.parent / "copy.db", path):
        raise ZeroDivisionError
    assert facts_of(path).last_seq == 4
    assert not list(path.parent.glob(".*restoring*"))
    with opened_copy(path.parent / "copy.db", path) as log:
        learn_forgotten(log, path)
    # Killed after the present one was moved aside.
    path.rename(path.with_name("aside"))
    put_back(ready, path.parent / "copy.db", path)
    with InteractionLog.open(path) as log:
        assert (log.latest_seq(), log.is_forgotten(2)) == (3, True)
