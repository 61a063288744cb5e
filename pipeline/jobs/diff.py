"""`diff`: the differences between two published sets, computed in the warehouse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.data.sources.warehouse import titles
from pipeline.errors import InputError
from pipeline.jobs.inputs import open_warehouse
from pipeline.options import Names
from pipeline.publishing import published_tables
from pipeline.settings import Settings
from pipeline.warehouse import Warehouse, sql

__all__ = ["DiffResult", "diff_job"]

_ITEMS = 5


@dataclass(frozen=True)
class DiffResult:
    """Attributes
    ----------
    a, b : the published sets, before and after
    users : n_before, n_after, n_gained, n_lost, n_both, n_changed, jaccard (None with no user in both)
    items : item_id, n_before, n_after, change for the items that gained and lost most, largest gain first
    titles : titles of these items, as far as the warehouse has them
    """

    a: published_tables.PublishedSet
    b: published_tables.PublishedSet
    users: dict[str, Any]
    items: list[dict[str, Any]]
    titles: dict[str, str]


def diff_job(a: str | None, b: str | None, settings: Settings) -> DiffResult:
    """Compare `a` (default: the previous set) with `b` (default: the published set).

    Raises InputError for a table that does not exist or holds no published set.
    """
    names = settings.names
    with open_warehouse(settings) as warehouse:
        before = _named(warehouse, a or names.previous, names)
        after = _named(warehouse, b or names.table, names)
        tables = {"a": before.table, "b": after.table}
        (users,) = warehouse.rows(sql.load("queries/diff_users").text, tables)
        if not users["n_both"]:
            users["jaccard"] = None
        items = warehouse.rows(sql.load("queries/diff_items").text, {**tables, "n": _ITEMS})
        known = titles(warehouse, [row["item_id"] for row in items])
        return DiffResult(before, after, users, items, known)


def _named(warehouse: Warehouse, name: str, names: Names) -> published_tables.PublishedSet:
    """The set in the table; of another model's too, where that is named."""
    table = name.removeprefix("analytics.")
    own_sets = published_tables.sets(warehouse, names)
    for other in published_tables.published_names(warehouse) if table not in own_sets else []:
        if table in (other_sets := published_tables.sets(warehouse, other)):
            return other_sets[table]
    if table not in own_sets:
        known = ", ".join(f"analytics.{name}" for name in own_sets) or "none at all"
        raise InputError(f"analytics.{table} holds no published set in {warehouse.address}; there is: {known}")
    return own_sets[table]
