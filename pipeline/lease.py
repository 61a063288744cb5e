"""One at a time moves published tables: a lock that lives in the warehouse and outlives no dead process.

Who wants it makes a ticket (a table with a name of its own) and looks for others: alone, the ticket is the lock;
else it is taken back, and tried again later. Of two that come at once each has made its ticket before it looked, so
at least one sees the other. A ticket is dropped by its unique name, so clearing a dead one can hit no other.

The embedded engine needs none of this: its folder is one process's at a time.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipeline import sql
from pipeline.errors import LockedError, QueryError, ServerError
from pipeline.owner import Owner
from pipeline.warehouse import Warehouse

__all__ = ["Lease", "holding"]

# Seconds: between signs of life, without one until a ticket counts as dead, and to wait for another's turn.
BEAT, EXPIRY, PATIENCE = 5.0, 60.0, 300.0


class Lease:
    """The lock while it is held; `check` before what must not be done without it."""

    def __init__(self, warehouse: Warehouse, table: str | None) -> None:
        self._warehouse = warehouse
        self._table = table

    def check(self) -> None:
        """Raises LockedError where the lock was lost: this process gave no sign of life for too long."""
        if self._table is not None and self._warehouse.engine(f"analytics.{self._table}") is None:
            raise LockedError("The lock on the published tables was lost, nothing was moved: run the command again")


@contextmanager
def holding(
    warehouse: Warehouse, what: str, say: Callable[[str], None] = lambda _: None, patience: float | None = None
) -> Iterator[Lease]:
    """Hold the lock on the published tables.

    Parameters
    ----------
    what : what for, for others to read
    say : told once who is waited for
    patience : seconds to wait; default, PATIENCE

    Raises
    ------
    LockedError
        Where somebody else holds it all the while.
    """
    if warehouse.embedded:
        yield Lease(warehouse, None)
        return
    ticket, me = f"publish_lock_{uuid.uuid4().hex}", {**Owner.me().values, "what": what}
    _take(warehouse, ticket, me, say, PATIENCE if patience is None else patience)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(BEAT):
            # A sign that gets lost is no matter: many make an expiry.
            with suppress(ServerError):
                warehouse.command(sql.load("queries/lock_alive").text, {"table": ticket, **me})

    beating = threading.Thread(target=live, daemon=True)
    beating.start()
    try:
        yield Lease(warehouse, ticket)
    finally:
        stop.set()
        beating.join()
        # One that can't be taken back runs out.
        with suppress(ServerError):
            _drop(warehouse, ticket)


def _take(warehouse: Warehouse, ticket: str, me: dict[str, Any], say: Callable[[str], None], patience: float) -> None:
    waited_since, told = time.monotonic(), False
    while True:
        other = _other(warehouse, ticket)
        if other is None:
            warehouse.ddl(sql.load("ddl/publish_lock").text, {"table": ticket, **me})
            other = _other(warehouse, ticket)
            if other is None:
                return
            _drop(warehouse, ticket)
        if time.monotonic() - waited_since >= patience:
            raise LockedError(
                f"The published tables in {warehouse.address} are held by {other}: wait for it to end and run the "
                f"command again (a job that died holds them for {EXPIRY:.0f} s)"
            )
        if not told:
            say(f"waiting for {other}")
            told = True
        # Two that withdraw for each other must not come back together.
        time.sleep(random.uniform(0.1, 0.6))  # noqa: S311  no secret: so that two don't keep step


def _other(warehouse: Warehouse, mine: str) -> str | None:
    """Somebody else's living ticket, in words; dead ones are cleared away."""
    for row in warehouse.rows(sql.load("queries/publish_locks").text):
        if row["name"] == mine:
            continue
        try:
            found = warehouse.rows(sql.load("queries/publish_lock_owner").text, {"table": row["name"]})
        except QueryError:
            # Taken back since the list was read; or it can't be read, and then it counts until it is old.
            if warehouse.engine(f"analytics.{row['name']}") is None:
                continue
            found = []
        if not found:
            if row["age"] <= EXPIRY:
                return "another job that is just beginning"
        else:
            (one,) = found
            if one["age"] <= EXPIRY and not Owner(one["host"], one["pid"], one["process_started"]).dead:
                where = f" on {one['host'].split(' ')[0]}" if one["host"] else ""
                return f"another job ({one['what']}, process {one['pid']}{where}, alive {one['age']:.0f} s ago)"
        _drop(warehouse, row["name"])
    return None


def _drop(warehouse: Warehouse, ticket: str) -> None:
    warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier} SYNC", {"table": ticket})
