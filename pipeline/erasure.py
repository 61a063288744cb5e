"""Rows of users in the warehouse's tables: counted, deleted for good, counted again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline import sql
from pipeline.errors import QueryError
from pipeline.forgotten import Forgotten
from pipeline.lease import Lease
from pipeline.shelf import PREVIOUS
from pipeline.warehouse import Warehouse

__all__ = ["Place", "clear_disk", "erase", "look"]

NOTES = "analytics.publications"
_VIEWS = ("View", "MaterializedView")
_KEPT = (PREVIOUS.removeprefix("analytics."), "recommendations_published_")


@dataclass(frozen=True)
class Place:
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


def look(warehouse: Warehouse, users: Forgotten) -> list[Place]:
    """The tables of raw and analytics with rows of the users: Rankline's, and others with a column `user_id`.

    Views of other people are not looked into: what they show lies elsewhere. Notes of the log that show
    one of the users count as rows of it.
    """
    found = []
    for row in warehouse.rows(sql.load("queries/tables_with_users").text):
        database, name, engine, ours = row["database"], row["name"], str(row["engine"]), bool(row["ours"])
        if engine in _VIEWS and not ours:
            continue
        try:
            n = _count(warehouse, "queries/rows_of_users", users, database=database, table=name)
        except QueryError:
            # Another job's staged table, dropped since the list was read; a view over what is gone; not ours.
            if not ours or engine in _VIEWS or warehouse.engine(f"{database}.{name}") is None:
                continue
            raise
        if n:
            found.append(Place(f"{database}.{name}", engine, ours, n))
    if warehouse.engine(NOTES) is not None and (n := _count(warehouse, "queries/notes_of_users", users)):
        found.append(Place(NOTES, str(warehouse.engine(NOTES)), True, n))
    return found


def _count(warehouse: Warehouse, query: str, users: Forgotten, **names: str) -> int:
    text = sql.load(query).text
    return sum(int(warehouse.rows(text, {**names, **one})[0]["n"]) for one in users.parameters())


def erase(
    warehouse: Warehouse,
    lease: Lease,
    places: Sequence[Place],
    users: Forgotten,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Delete the users' rows, and wait until that is done; a set that has no others is dropped, but the published one.

    Stopped anywhere and begun again, it finishes. Raises QueryError where the engine can't, LockedError
    where the lease is lost.
    """
    todo = [place for place in places if place.deletable]
    for done, place in enumerate(todo):
        lease.check()
        database, name = place.table.split(".", 1)
        if warehouse.engine(place.table) is None:
            continue
        names = {} if place.table == NOTES else {"database": database, "table": name}
        text = sql.load("queries/clear_notes" if place.table == NOTES else "queries/delete_users").text
        for one in users.parameters():
            warehouse.command(text, {**names, **one}, mutations_sync=2)
        if name.startswith(_KEPT) and not _rows(warehouse, name):
            # A set is known by its rows: an empty one would be taken for none, and be in its way.
            warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier} SYNC", {"table": name})
        progress(done + 1, len(todo))


def clear_disk(warehouse: Warehouse, patience: float = 20.0) -> list[str]:
    """Have the embedded engine take replaced parts off the disk; returns the tables where some are left.

    A server does so by itself, some minutes after (`old_parts_lifetime`); the embedded engine seldom lives that
    long, and would keep what was deleted for ever.
    """
    if not warehouse.embedded:
        return []
    rows = warehouse.rows(sql.load("queries/tables_with_users").text)
    ours = {f"{row['database']}.{row['name']}" for row in rows if row["ours"]} | {NOTES}

    def left() -> list[str]:
        return [one["name"] for one in warehouse.rows(sql.load("queries/old_parts").text) if one["name"] in ours]

    begun = {name: dict(zip(("database", "table"), name.split(".", 1), strict=True)) for name in left()}
    table = "{database:Identifier}.{table:Identifier}"
    try:
        for names in begun.values():
            warehouse.command(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 0", names)
        until = time.monotonic() + patience
        while (there := left()) and time.monotonic() < until:
            for name in there:
                if name in begun:
                    warehouse.command(f"SYSTEM START CLEANUP {table}", begun[name])
            time.sleep(0.1)
    finally:
        for names in begun.values():
            warehouse.command(f"ALTER TABLE {table} RESET SETTING old_parts_lifetime", names)
    return there


def _rows(warehouse: Warehouse, table: str) -> int:
    found = warehouse.rows("SELECT count() AS n FROM analytics.{table:Identifier}", {"table": table})
    return int(found[0]["n"])
