"""Staged tables that a job left behind: it died, or has been silent for a day."""

from __future__ import annotations

from pipeline.options.names import Names
from pipeline.publishing.published_sets import is_staged
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import Warehouse, sql

__all__ = ["drop_stale", "stale_tables"]

_STALE_HOURS = 24


def stale_tables(warehouse: Warehouse, names: Names, own: str | None = None) -> list[str]:
    """The staged tables of a model that jobs left behind, without those whose name begins with `own`.

    A table that a living process fills is none of them, however old it is.
    """
    me = ProcessIdentity.me()
    tables = []
    for row in warehouse.rows(sql.load("queries/staged_tables").text, {"hours": _STALE_HOURS, "sets": names.sets}):
        owner = ProcessIdentity(row["host"], row["pid"], row["process_started"])
        refused, stale = bool(row["refused"]), bool(row["stale"])
        left = stale and (refused or not owner.alive) if row["begun"] else stale
        if left or (row["begun"] and not refused and owner.host == me.host and owner.dead):
            name = str(row["name"])
            if is_staged(name, names) and not (own is not None and name.startswith(own)):
                tables.append(name)
    return tables


def drop_stale(warehouse: Warehouse, names: Names, own: str | None = None) -> list[str]:
    """Drop `stale_tables`; returns them.

    It runs after `tidy`, when every set has its own name, so none of these tables is a set.
    """
    tables = stale_tables(warehouse, names, own)
    for name in tables:
        warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier}", {"table": name})
    return tables
