"""Tickets: who wants the lock on published tables makes one, and holds the lock where nobody else's stands.

`pipeline.publishing.lock` says what the lock is good for.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import LockedError, QueryError
from pipeline.options.names import DEFAULT, Names
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import Warehouse, sql

__all__ = ["Ticket", "drop_table", "table_made", "take_ticket"]

# Seconds until the next try, drawn between the two: jobs that withdraw for each other must not come back together.
_TRY_AGAIN = (0.1, 0.6)


@dataclass(frozen=True)
class Ticket:
    """`number`: 32 hexadecimal digits, of which its table is named; `made`: the server's own number for that table.

    A statement that made it may have been sent twice, and the second may arrive once the ticket is long dropped.
    """

    number: str
    made: str = ""
    names: Names = DEFAULT

    @property
    def table(self) -> str:
        """The name of its table in `analytics`."""
        return f"{self.names.tickets}{self.number}"


def take_ticket(
    warehouse: Warehouse,
    names: Names,
    me: dict[str, Any],
    say: Callable[[str], None],
    patience: float,
    expiry: float,
) -> Ticket:
    """Make a ticket, wait until no other living one stands, and return it. Raises LockedError after `patience` seconds.

    me : who holds it and what for, as its table says; the other parameters are those of `publish_lock`
    """
    waited_since, said = time.monotonic(), False
    while True:
        other = _other(warehouse, names, "", expiry)
        if other is None:
            # A name of its own for each try.
            ticket = Ticket(uuid.uuid4().hex, names=names)
            warehouse.ddl(sql.load("ddl/publish_lock").text, {"table": ticket.table, **me})
            made = table_made(warehouse, ticket.table)
            other = _other(warehouse, names, ticket.table, expiry)
            if other is None and made is not None:
                return replace(ticket, made=made)
            drop_table(warehouse, ticket.table)
        if time.monotonic() - waited_since >= patience:
            raise LockedError(
                f"The published tables in {warehouse.address} are held by {other or 'others'}: wait for it to end and "
                f"run the command again (a job that died holds them for {expiry:.0f} s)"
            )
        if not said and other is not None:
            say(f"waiting for {other}")
            said = True
        time.sleep(random.uniform(*_TRY_AGAIN))  # noqa: S311  no secret


def _other(warehouse: Warehouse, names: Names, ticket: str, expiry: float) -> str | None:
    """Somebody else's living ticket, in words; dead ones are cleared away."""
    for row in warehouse.rows(sql.load("queries/publish_locks").text, {"tickets": names.tickets}):
        if row["name"] == ticket:
            continue
        try:
            owners = warehouse.rows(sql.load("queries/publish_lock_owner").text, {"table": row["name"]})
        except QueryError:
            # Taken back since the list was read; or it can't be read, and then it counts until it is old.
            if warehouse.engine(f"analytics.{row['name']}") is None:
                continue
            owners = []
        if not owners:
            if row["age"] <= expiry:
                return "another job that is just beginning"
        else:
            (owner,) = owners
            if (
                owner["age"] <= expiry
                and not ProcessIdentity(owner["host"], owner["pid"], owner["process_started"]).dead
            ):
                where = f" on {owner['host'].split(' ')[0]}" if owner["host"] else ""
                return f"another job ({owner['what']}, process {owner['pid']}{where}, alive {owner['age']:.0f} s ago)"
        drop_table(warehouse, row["name"])
    return None


def table_made(warehouse: Warehouse, table: str) -> str | None:
    """The server's own number for the table, which no other table ever has; None where there is no such table."""
    text = "SELECT toString(uuid) AS made FROM system.tables WHERE database = 'analytics' AND name = {table:String}"
    tables = warehouse.rows(text, {"table": table})
    return str(tables[0]["made"]) if tables else None


def drop_table(warehouse: Warehouse, table: str) -> None:
    """Drop a table of `analytics` at once, so that its name is free again."""
    warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier} SYNC", {"table": table})
