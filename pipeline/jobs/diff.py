"""`diff`: what tells two published tables apart, computed where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import shelf, sql
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.sources.choice import open_warehouse
from pipeline.sources.warehouse import titles
from pipeline.warehouse import Warehouse

__all__ = ["Diff", "diff_job"]

_ITEMS = 5


@dataclass(frozen=True)
class Diff:
    """Attributes
    ----------
    a, b : the sets, before and after
    users : n_before, n_after, n_gained, n_lost, n_both, n_changed, jaccard (None with no user in both)
    items : item_id, n_before, n_after, change of the items that won and lost most, winners first
    titles : of the items, where the warehouse has any
    """

    a: shelf.PublishedSet
    b: shelf.PublishedSet
    users: dict[str, Any]
    items: list[dict[str, Any]]
    titles: dict[str, str]


def diff_job(a: str | None, b: str | None, settings: Settings) -> Diff:
    """From `a` (default: the one before) to `b` (default: the published one).

    Raises InputError for a table that is not there, or holds no published set.
    """
    with open_warehouse(settings) as warehouse:
        before = _named(warehouse, a or shelf.PREVIOUS)
        after = _named(warehouse, b or shelf.PUBLISHED)
        names = {"a": before.table, "b": after.table}
        (users,) = warehouse.rows(sql.load("queries/diff_users").text, names)
        if not users["n_both"]:
            users["jaccard"] = None
        items = warehouse.rows(sql.load("queries/diff_items").text, {**names, "n": _ITEMS})
        known = titles(warehouse, [row["item_id"] for row in items])
        return Diff(before, after, users, items, known)


def _named(warehouse: Warehouse, name: str) -> shelf.PublishedSet:
    table = name.removeprefix("analytics.")
    there = shelf.sets(warehouse)
    if table not in there:
        known = ", ".join(f"analytics.{one}" for one in there) or "none at all"
        raise InputError(f"analytics.{table} holds no published set in {warehouse.address}; there is: {known}")
    return there[table]
