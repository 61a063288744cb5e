"""Published sets, their log and the forgotten users come back; nobody who was forgotten comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.published import publish

from pipeline.data.sources.warehouse import init
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing import restore as restore_module
from pipeline.publishing import suppressed_users
from pipeline.publishing.backup import WarehouseFiles, back_up_tables
from pipeline.publishing.lock import publish_lock
from pipeline.publishing.published_sets import head, sets
from pipeline.publishing.published_tables import roll_back, tidy
from pipeline.publishing.restore import RestoredTables, restore_tables
from pipeline.publishing.suppressed_users import read_suppressed_users
from pipeline.warehouse import Warehouse
from pipeline.warehouse.table_files import digest_of

pytest_plugins = ["support.warehouse_fixtures"]
OTHER = Names("other")


class Backup:
    def __init__(self, warehouse: Warehouse, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.files = folder, back_up_tables(warehouse, folder)
        assert WarehouseFiles.of(self.files.facts) == self.files

    def restore(self, warehouse: Warehouse, **options: Any) -> RestoredTables:
        return restore_tables(warehouse, self.files, lambda name: self.folder / name, **options)


def everything(warehouse: Warehouse) -> dict[str, tuple[int, str]]:
    tables = warehouse.rows(
        "SELECT database, name FROM system.tables WHERE database IN ('raw', 'analytics') AND engine LIKE '%MergeTree'"
    )
    return {f"{t['database']}.{t['name']}": digest_of(warehouse, t["database"], t["name"]) for t in tables}


def lose(warehouse: Warehouse) -> None:
    for name in ("raw", "analytics"):
        warehouse.command(f"DROP DATABASE IF EXISTS {name} SYNC")


def made(warehouse: Warehouse) -> Warehouse:
    """Two sets of one model and one of another, of users 1 to 4, and somebody who was forgotten."""
    init(warehouse)
    for run in ("two", "three"):
        publish(warehouse, run, [1, 2, 3, 4])
    publish(warehouse, "text", ["a", "b"], OTHER)
    suppressed_users.add(warehouse, "99")
    warehouse.command(
        "INSERT INTO raw.ratings SELECT number % 4 + 1, number, 3, toDateTime64(number, 3) FROM numbers(40)"
    )
    return warehouse


@pytest.fixture
def published(embedded: Warehouse) -> Warehouse:
    return made(embedded)


def test_all_is_as_it_was_after_everything_is_lost(warehouse: Warehouse, tmp_path: Path) -> None:
    published = made(warehouse)
    before, backup = everything(published), Backup(published, tmp_path / "b")
    named = {name: found.run_id for name, found in sets(published).items()}
    if not published.embedded:
        before = {name: digest for name, digest in before.items() if not name.startswith("raw.")}
    lose(published)
    done = backup.restore(published)
    assert {name: d for name, d in everything(published).items() if name in before and d[0]} == {
        name: digest for name, digest in before.items() if digest[0] and name != "analytics.publications"
    } | {"analytics.publications": everything(published)["analytics.publications"]}
    assert {name: found.run_id for name, found in sets(published).items()} == named
    assert (done.kept, done.n_forgotten) == ([], 1)
    assert "99" in read_suppressed_users(published)
    actions = published.rows(
        "SELECT toString(action) AS a, count() AS n FROM analytics.publications GROUP BY a ORDER BY a"
    )
    assert [(row["a"], row["n"]) for row in actions] == [("published", 3), ("restored", 2), ("started", 3)]
    assert published.rows("SELECT comment AS c FROM system.tables WHERE name = 'recommendations'")[0]["c"]
    # What follows works: going back, publishing, and a second restore that has nothing to do.
    again = backup.restore(published)
    assert (again.restored, again.kept, again.n_forgotten) == ([], [], 0)
    with publish_lock(published, "rolling back") as lock:
        assert roll_back(published, 5, lock)[1].run_id == "two"
    publish(published, "four", [1, 2])
    assert head(published, "recommendations").run_id == "four"


def test_who_was_forgotten_since_stays_forgotten(published: Warehouse, tmp_path: Path) -> None:
    backup = Backup(published, tmp_path / "b")
    lose(published)
    for user in ("2", "a", "5"):
        suppressed_users.add(published, user)
    done = backup.restore(published)
    assert done.n_forgotten == 1
    suppressed = read_suppressed_users(published)
    assert [user for user in ("2", "99", "a", "5", "1") if user in suppressed] == ["2", "99", "a", "5"]
    for table in ("recommendations", "recommendations_previous", "recommendations_other"):
        rows = published.rows(f"SELECT groupUniqArray(toString(user_id)) AS u FROM analytics.{table}")[0]["u"]
        assert sorted(rows) == (["b"] if table.endswith("other") else ["1", "3", "4"])
    assert published.rows("SELECT countIf(user_id = 2) AS n, count() AS all FROM raw.ratings") == [{"n": 0, "all": 30}]
    again = backup.restore(published)
    assert (again.restored, again.kept, again.n_forgotten) == ([], [], 0), "rows without them are the same rows"


def test_a_newer_set_stays_unless_it_is_to_be_replaced(published: Warehouse, tmp_path: Path) -> None:
    backup = Backup(published, tmp_path / "b")
    publish(published, "four", [1, 2, 3])
    done = backup.restore(published)
    assert (done.restored, done.kept) == ([], ["analytics.recommendations"])
    assert head(published, "recommendations").run_id == "four"
    done = backup.restore(published, replace=True)
    assert done.restored == ["analytics.recommendations"]
    assert head(published, "recommendations").run_id == "three"
    assert "four" in {found.run_id for found in sets(published).values()}, "it is kept"


def test_other_rows_stay_unless_they_are_to_be_replaced(published: Warehouse, tmp_path: Path) -> None:
    backup, before = Backup(published, tmp_path / "b"), digest_of(published, "raw", "ratings")
    published.command("INSERT INTO raw.ratings VALUES (7, 7, 1, now64(3))")
    assert backup.restore(published).kept == ["raw.ratings"]
    assert digest_of(published, "raw", "ratings")[0] == 41
    assert backup.restore(published, replace=True).restored == ["raw.ratings"]
    assert digest_of(published, "raw", "ratings") == before
    assert not [name for name in everything(published) if "being_restored" in name]


@pytest.mark.parametrize("call", [2, 4])
def test_who_is_stopped_anywhere_goes_on(
    published: Warehouse, tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, before = Backup(published, tmp_path / "b"), digest_of(published, "analytics", "recommendations")
    lose(published)
    calls, fill = iter(range(100)), restore_module.fill

    def dies(*arguments: Any, **more: Any) -> None:
        fill(*arguments, **more)
        if next(calls) == call:
            raise KeyboardInterrupt

    monkeypatch.setattr(restore_module, "fill", dies)
    with pytest.raises(KeyboardInterrupt):
        backup.restore(published)
    monkeypatch.undo()
    done = backup.restore(published)
    assert done.kept == []
    assert digest_of(published, "analytics", "recommendations") == before
    assert digest_of(published, "analytics", "forgotten")[0] == 1
    with publish_lock(published, "a look") as lock:
        tidy(published, 5, lock)
    assert sorted(found.run_id for found in sets(published, DEFAULT).values()) == ["three", "two"]
