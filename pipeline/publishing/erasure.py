"""Rows of users in the warehouse's tables: counted, deleted for good, counted again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import QueryError
from pipeline.publishing.lock import PublishLock, PublishLocks
from pipeline.publishing.publication_log import published_names
from pipeline.publishing.suppressed_users import SuppressedUsers
from pipeline.warehouse import Warehouse, sql

__all__ = ["UserRows", "clear_disk", "erase", "find_user_rows", "leave_out"]

NOTES = "analytics.publications"
_VIEWS = ("View", "MaterializedView")
# Of tables that are ours: the one before the published one, and kept ones; no model has such a word in its name.
_KEPT = re.compile(r"recommendations(_\w+)?_(previous|published_\w+)")


@dataclass(frozen=True)
class UserRows:
    """A table that holds rows of the users.

    Attributes
    ----------
    table : ``database.name``
    engine : ClickHouse's
    ours : whether its rows are Rankline's to delete
    n_rows : rows of the users
    """

    table: str
    engine: str
    ours: bool
    n_rows: int

    @property
    def deletable(self) -> bool:
        """Whether rows can be deleted here; a view shows those of others."""
        return self.ours and (self.engine.endswith("MergeTree") or self.engine == "Memory")


def find_user_rows(warehouse: Warehouse, users: SuppressedUsers) -> list[UserRows]:
    """The tables of raw and analytics with rows of the users: Rankline's, and others with a column `user_id`.

    Views of other people are skipped: their rows lie in other tables. Notes in the log that name one of the users
    count as rows of the log.
    """
    places = []
    for row in _tables(warehouse):
        database, name, engine, ours = row["database"], row["name"], str(row["engine"]), bool(row["ours"])
        if engine in _VIEWS and not ours:
            continue
        try:
            n = _count(warehouse, "queries/rows_of_users", users, database=database, table=name)
        except QueryError:
            # Another job dropped its staged table meanwhile, or a view's table is gone, or the table is not ours.
            if not ours or engine in _VIEWS or warehouse.engine(f"{database}.{name}") is None:
                continue
            raise
        if n:
            places.append(UserRows(f"{database}.{name}", engine, ours, n))
    if warehouse.engine(NOTES) is not None and (n := _count(warehouse, "queries/notes_of_users", users)):
        places.append(UserRows(NOTES, str(warehouse.engine(NOTES)), True, n))
    return places


def _tables(warehouse: Warehouse) -> list[dict[str, Any]]:
    """The tables with users; ours are those of every model that publishes into this warehouse."""
    published = [table for names in published_names(warehouse) for table in (names.sets, names.previous_set)]
    return warehouse.rows(sql.load("queries/tables_with_users").text, {"tables": published})


def _count(warehouse: Warehouse, query: str, users: SuppressedUsers, **names: str) -> int:
    text = sql.load(query).text
    return sum(int(warehouse.rows(text, {**names, **parameters})[0]["n"]) for parameters in users.parameters())


def erase(
    warehouse: Warehouse,
    lock: PublishLock | PublishLocks,
    places: Sequence[UserRows],
    users: SuppressedUsers,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Delete the users' rows, and wait until they are deleted. An unpublished set that is empty then is dropped.

    It may be stopped anywhere and run again. Raises QueryError if the engine can't delete rows, LockLostError if the
    lock is lost.
    """
    todo = [place for place in places if place.deletable]
    for done, place in enumerate(todo):
        lock.check()
        database, name = place.table.split(".", 1)
        if warehouse.engine(place.table) is None:
            continue
        names = {} if place.table == NOTES else {"database": database, "table": name}
        text = sql.load("queries/clear_notes" if place.table == NOTES else "queries/delete_users").text
        for parameters in users.parameters():
            warehouse.command(text, {**names, **parameters}, mutations_sync=2)
        if database == "analytics" and _KEPT.fullmatch(name) and not _rows(warehouse, name):
            # Sets are identified by their rows, so an empty table would block the name without being a set.
            lock.drop(name)
        progress(done + 1, len(todo))


def leave_out(warehouse: Warehouse, table: str, users: SuppressedUsers, scratch: str) -> None:
    """Rewrite a staged table without the users' rows, if it has any.

    For a publisher who has no grant to delete rows. `scratch` is the temporary name of the new table.
    """
    for parameters in users.parameters():
        names = {"table": table, "scratch": scratch}
        if not int(
            warehouse.rows(sql.load("queries/rows_of_users").text, {"database": "analytics", **names, **parameters})[0][
                "n"
            ]
        ):
            continue
        warehouse.ddl(sql.load("ddl/staged_without_users").text, names)
        warehouse.command(sql.load("queries/leave_out_users").text, {**names, **parameters})
        warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier} SYNC", names)
        warehouse.command("RENAME TABLE analytics.{scratch:Identifier} TO analytics.{table:Identifier}", names)


def clear_disk(warehouse: Warehouse, patience: float = 20.0) -> list[str]:
    """Make the embedded engine delete replaced parts from the disk; returns the tables that still have some.

    A server deletes them by itself after some minutes (`old_parts_lifetime`). The embedded engine seldom runs that
    long, so deleted rows would stay on the disk.
    """
    if not warehouse.embedded:
        return []
    ours = {f"{row['database']}.{row['name']}" for row in _tables(warehouse) if row["ours"]} | {NOTES}

    def left() -> list[str]:
        return [part["name"] for part in warehouse.rows(sql.load("queries/old_parts").text) if part["name"] in ours]

    begun = {name: dict(zip(("database", "table"), name.split(".", 1), strict=True)) for name in left()}
    table = "{database:Identifier}.{table:Identifier}"
    try:
        for names in begun.values():
            warehouse.command(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 0", names)
        until = time.monotonic() + patience
        while (remaining := left()) and time.monotonic() < until:
            for name in remaining:
                if name in begun:
                    warehouse.command(f"SYSTEM START CLEANUP {table}", begun[name])
            time.sleep(0.1)
    finally:
        for names in begun.values():
            warehouse.command(f"ALTER TABLE {table} RESET SETTING old_parts_lifetime", names)
    return remaining


def _rows(warehouse: Warehouse, table: str) -> int:
    counted = warehouse.rows("SELECT count() AS n FROM analytics.{table:Identifier}", {"table": table})
    return int(counted[0]["n"])
