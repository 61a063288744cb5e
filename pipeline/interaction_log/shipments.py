"""Shipments: runs of interactions that go to the warehouse together. Their bounds never change once they are fixed.

The log says what is to be sent, and the warehouse's ledger (`raw.shipments`) what has arrived; `pipeline.shipping` asks
both. These functions work on the log's database, inside or outside a transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

__all__ = ["KEPT_MS", "Shipment", "catch_up", "fix_next", "mark_shipped", "open_shipment", "trim"]

KEPT_MS = 7 * 24 * 3600 * 1000  # shipped interactions and idempotency keys stay for as long


class Shipment(NamedTuple):
    """The interactions `first_seq` to `last_seq` of a log, as they are sent; those of forgotten users are gone."""

    log_id: str
    first_seq: int
    last_seq: int

    @property
    def token(self) -> str:
        """A name for the shipment, under which the warehouse takes its rows once."""
        return f"{self.log_id}:{self.first_seq}-{self.last_seq}"


def open_shipment(database: sqlite3.Connection) -> Shipment | None:
    """The shipment that was fixed and has not been marked as shipped."""
    found = database.execute(
        "SELECT log_id, first_seq, shipments.last_seq FROM shipments, log WHERE shipped IS NULL ORDER BY first_seq"
    ).fetchone()
    return None if found is None else Shipment(*found)


def fix_next(database: sqlite3.Connection, most: int, now_ms: int) -> Shipment | None:
    """Fix the next shipment, of `most` interactions at most; None where nothing waits. Needs a transaction."""
    if (left_open := open_shipment(database)) is not None:
        return left_open
    log_id, shipped, newest = database.execute("SELECT log_id, shipped_seq, last_seq FROM log").fetchone()
    if shipped == newest:
        return None
    shipment = Shipment(log_id, shipped + 1, min(newest, shipped + most))
    database.execute("INSERT INTO shipments VALUES (?, ?, ?, NULL)", (shipment.first_seq, shipment.last_seq, now_ms))
    return shipment


def mark_shipped(database: sqlite3.Connection, shipment: Shipment, now_ms: int) -> None:
    """Note that the warehouse has the shipment. Needs a transaction."""
    database.execute(
        "UPDATE shipments SET shipped = ? WHERE first_seq = ? AND shipped IS NULL", (now_ms, shipment.first_seq)
    )
    database.execute("UPDATE log SET shipped_seq = max(shipped_seq, ?)", (shipment.last_seq,))


def trim(database: sqlite3.Connection, now_ms: int) -> int:
    """Delete what was shipped 7 days ago and no served model needs, and old idempotency keys. Needs a transaction.

    Returns the number of interactions.
    """
    before = now_ms - KEPT_MS
    (covered,) = database.execute("SELECT covered_seq FROM log").fetchone()
    (last,) = database.execute("SELECT max(last_seq) FROM shipments WHERE shipped < ?", (before,)).fetchone()
    database.execute("DELETE FROM requests WHERE received < ?", (before,))
    if last is None:
        return 0
    last = last if covered is None else min(last, covered)
    database.execute("DELETE FROM shipments WHERE shipped < ? AND last_seq <= ?", (before, last))
    database.execute("DELETE FROM answers WHERE seq <= ?", (last,))
    return database.execute("DELETE FROM interactions WHERE seq <= ?", (last,)).rowcount


def catch_up(database: sqlite3.Connection, seq: int, now_ms: int) -> None:
    """Note that the ledger has all up to `seq`, and number what comes from there on. Needs a transaction."""
    database.execute("UPDATE shipments SET shipped = ? WHERE shipped IS NULL AND last_seq <= ?", (now_ms, seq))
    database.execute("UPDATE log SET shipped_seq = max(shipped_seq, ?), last_seq = max(last_seq, ?)", (seq, seq))
