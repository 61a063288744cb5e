"""The published set, the one before it and older ones: which table holds which, and the moves between them.

A set is known by its rows (all say the same `generated_at`), never by where it lies: so whatever was interrupted,
`settle` finds every set and puts it under the name that is its own. Each move is a rename or an exchange of one pair,
which is atomic; a RENAME of two pairs and CREATE OR REPLACE are not.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline import sql
from pipeline.errors import ConnectionLostError, InputError, QueryError
from pipeline.owner import Owner
from pipeline.warehouse import Warehouse

__all__ = [
    "PREVIOUS",
    "PUBLISHED",
    "PublishedSet",
    "digest",
    "head",
    "log_event",
    "put",
    "roll_back",
    "sets",
    "settle",
    "staged_name",
]

PUBLISHED = "analytics.recommendations"
PREVIOUS = "analytics.recommendations_previous"
_NOW, _BEFORE = PUBLISHED.removeprefix("analytics."), PREVIOUS.removeprefix("analytics.")
# Names that are given here, and nobody's own: recommendations_published_mine is none of them.
_OURS = re.compile(r"recommendations_(?P<kind>published|staged)_(?P<stamp>\d{8}T\d{9})_[0-9A-Za-z]+")


@dataclass(frozen=True)
class PublishedSet:
    """Attributes
    ----------
    table : where it lies, in analytics
    at_ms : when it was generated, milliseconds since 1970: what it is known by
    run_id, model_version : lineage
    """

    table: str
    at_ms: int
    run_id: str
    model_version: str

    @property
    def kept_name(self) -> str:
        """Its name among the older ones."""
        return f"recommendations_published_{stamp(self.at_ms)}_{_short(self.run_id)}"


def stamp(at_ms: int) -> str:
    """A time as part of a name, UTC: 20260131T235959123."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return f"{at:%Y%m%dT%H%M%S}{at_ms % 1000:03d}"


def staged_name(at_ms: int, run_id: str) -> str:
    """The name of a table that is being filled."""
    return f"recommendations_staged_{stamp(at_ms)}_{_short(run_id)}"


def _short(run_id: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", run_id)[:8] or "norun"


def head(warehouse: Warehouse, table: str) -> PublishedSet | None:
    """Which set the table (in analytics) holds; None where it has no rows. Raises QueryError where there is none."""
    found = warehouse.rows(sql.load("queries/set_head").text, {"table": table})
    return PublishedSet(table, found[0]["at_ms"], found[0]["run_id"], found[0]["model_version"]) if found else None


def digest(warehouse: Warehouse, table: str) -> tuple[int, ...]:
    """(rows, two checksums): equal for equal rows, whenever they were generated."""
    return tuple(int(n) for n in warehouse.rows(sql.load("queries/set_digest").text, {"table": table})[0].values())


def sets(warehouse: Warehouse) -> dict[str, PublishedSet]:
    """Every set that was published and is still there, by its table.

    A staged table holds one where it was exchanged with the published table and not yet put away: its rows
    are then of another time than its name.
    """
    found: dict[str, PublishedSet] = {}
    for row in warehouse.rows(sql.load("queries/published_sets").text):
        name = str(row["name"])
        ours = _OURS.fullmatch(name)
        if name not in (_NOW, _BEFORE) and ours is None:
            continue
        try:
            one = head(warehouse, name)
        except QueryError:
            # Another job's staged table, dropped since the list was read.
            if warehouse.engine(f"analytics.{name}") is None:
                continue
            raise
        if one is None or (ours and ours["kind"] == "staged" and ours["stamp"] == stamp(one.at_ms)):
            continue
        found[name] = one
    return found


def settle(warehouse: Warehouse, keep: int) -> None:
    """Put every set under its own name, and drop all but `keep` besides the published one.

    PREVIOUS is the newest that is older than the published one and that nobody went back from; the others
    bear their time and run. It may be
    stopped anywhere and begun again.
    """
    found = sets(warehouse)
    current = found.pop(_NOW, None)
    if current is None:
        return
    there = [_rename(warehouse, one, one.kept_name) if name != _BEFORE else one for name, one in found.items()]
    before = next((one for one in there if one.table == _BEFORE), None)
    gone = {str(row["name"]) for row in warehouse.rows(sql.load("queries/rolled_back").text)}
    candidates = [one for one in there if one.at_ms < current.at_ms and one.kept_name not in gone]
    due = max(candidates, key=lambda one: one.at_ms, default=None)
    if due is None:
        if before is not None:  # what was rolled back from
            there[there.index(before)] = _rename(warehouse, before, before.kept_name)
    elif due != before:
        if before is None:
            _rename(warehouse, due, _BEFORE)
        else:
            _exchange(warehouse, due.table, _BEFORE)
            moved = PublishedSet(due.table, before.at_ms, before.run_id, before.model_version)
            there[there.index(before)] = _rename(warehouse, moved, moved.kept_name)
    others = sorted((one for one in there if one != due), key=lambda one: one.at_ms)
    for one in others[: max(0, len(others) + (due is not None) - keep)]:
        warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier}", {"table": one.table})


def put(warehouse: Warehouse, staged: str) -> None:
    """Put the staged table in place of the published one, which then lies under the staged name.

    The first time a rename, every other time an exchange. A connection that breaks meanwhile leaves open whether
    it was done: the published table itself tells.
    """
    mine = head(warehouse, staged)
    try:
        if warehouse.engine(PUBLISHED) is None:
            try:
                warehouse.command(
                    "RENAME TABLE analytics.{staged:Identifier} TO analytics.{table:Identifier}",
                    {"staged": staged, "table": _NOW},
                )
            except QueryError:
                # Another job may have published since; then it is there to exchange with.
                if warehouse.engine(PUBLISHED) is None:
                    raise
            else:
                return
        _exchange(warehouse, staged, _NOW)
    except ConnectionLostError:
        there = head(warehouse, _NOW) if warehouse.engine(PUBLISHED) is not None else None
        if mine is None or there is None or there.at_ms != mine.at_ms:
            raise


def roll_back(warehouse: Warehouse, keep: int) -> tuple[PublishedSet, PublishedSet]:
    """Exchange the published set with the one before it; returns both, as they were.

    Raises InputError where there is none.
    """
    settle(warehouse, keep)
    found = sets(warehouse)
    current, before = found.get(_NOW), found.get(_BEFORE)
    if current is None:
        raise InputError(f"{PUBLISHED} holds nothing in {warehouse.address}: there is nothing to roll back")
    if before is None:
        raise InputError(
            f"No set before the published one is left in {warehouse.address}: `rankline score` publishes another"
        )
    # Written down first: stopped here, it is done by the next try, and the set is none to go back to.
    log_event(
        warehouse, "rolled back", current.kept_name, current.model_version, current.run_id, current.at_ms,
        note=f"to {before.kept_name}",
    )  # fmt: skip
    try:
        _exchange(warehouse, _BEFORE, _NOW)
    except ConnectionLostError:
        # The answer was lost, and perhaps only that: a second exchange would go back to where it was.
        there = head(warehouse, _NOW)
        if there is None or there.at_ms != before.at_ms:
            raise
    settle(warehouse, keep)
    return current, before


def _rename(warehouse: Warehouse, one: PublishedSet, name: str) -> PublishedSet:
    if one.table.startswith(name):
        return one
    if warehouse.engine(f"analytics.{name}") is not None:
        # A copy that somebody made: neither is lost.
        name += uuid.uuid4().hex[:6]
    warehouse.command(
        "RENAME TABLE analytics.{old:Identifier} TO analytics.{new:Identifier}", {"old": one.table, "new": name}
    )
    return PublishedSet(name, one.at_ms, one.run_id, one.model_version)


def _exchange(warehouse: Warehouse, one: str, other: str) -> None:
    warehouse.command(
        "EXCHANGE TABLES analytics.{one:Identifier} AND analytics.{other:Identifier}", {"one": one, "other": other}
    )


def log_event(
    warehouse: Warehouse,
    action: str,
    table: str,
    model_version: str,
    run_id: str,
    at_ms: int,
    n_rows: int = 0,
    note: str = "",
) -> None:
    """Add a row to analytics.publications."""
    row: dict[str, Any] = {
        "action": action,
        "staged": table,
        "model_version": model_version,
        "run_id": run_id,
        "n_rows": n_rows,
        "note": note[:5000],
        **Owner.me().values,
    }
    columns = {name: pa.array([value]) for name, value in row.items()}
    columns["generated_at"] = pa.array([at_ms], pa.timestamp("ms", "UTC"))
    warehouse.insert("analytics.publications", pa.table(columns), token=uuid.uuid4().hex)
