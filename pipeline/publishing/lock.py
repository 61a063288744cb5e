"""One at a time moves the published tables of a model: a lock in the warehouse, and a fence against who lost it.

Who wants it makes a ticket (a table with a name of its own) and looks for others: alone, the ticket is the lock;
else it is taken back, and tried again later. Of two that come at once each has made its ticket before it looked, so
at least one sees the other. A ticket is dropped by its unique name, so clearing a dead one can hit no other.

A look at the ticket is no fence: after it a process may be stopped, and a server or a network may hold a statement
back for as long as it likes, past the time after which others take the lock over. So no table is exchanged, dropped
or put in another's place under a name that others use. The holder first renames it to a name with its ticket in it
(`PublishLock.claim`) and looks whether the ticket still stands; the move that follows names that name alone. Who takes
the lock over has first dropped the old ticket, and then, before anything else, renames every table with another's
ticket in its name to a name with its own. Hence:

- A claim that is late is followed by a look that fails. The table waits under the claim's name, and the next holder
  puts it where its rows say that it belongs.
- A move that is late finds no table of the name that it moves, and fails by itself.

The embedded engine needs no ticket: its folder is one process's at a time.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from pipeline.errors import ConnectionLostError, LockLostError, QueryError, ServerError
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.lock_ticket import Ticket, drop_table, table_made, take_ticket
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import Warehouse, sql

__all__ = ["CLAIMED", "EXCHANGE", "EXPIRY", "RENAME", "PublishLock", "PublishLocks", "publish_lock", "publish_locks"]

# Seconds: without a sign of life until a ticket counts as dead, and to wait for another's turn.
EXPIRY, PATIENCE = 60.0, 300.0
_BEATS = 12  # signs of life in the time of an expiry, so that one that gets lost is no matter
_LEAST_BEAT = 0.1
# A name that a claim gave: whose, the how many-th, and what the claim was for.
CLAIMED = re.compile(
    r"(?P<sets>recommendations\w*?)_moving_(?P<ticket>[0-9a-f]{32})_(?P<number>\d+)(?P<purpose>(?:_\w+)?)"
)
RENAME = "RENAME TABLE analytics.{one:Identifier} TO analytics.{other:Identifier}"
EXCHANGE = "EXCHANGE TABLES analytics.{one:Identifier} AND analytics.{other:Identifier}"


class PublishLock:
    """The lock while it is held, and the moves that are made under it."""

    def __init__(self, warehouse: Warehouse, ticket: Ticket, expiry: float = EXPIRY) -> None:
        self.expiry = expiry
        self._warehouse = warehouse
        self._ticket = ticket
        self._n_names = 0

    @property
    def names(self) -> Names:
        """Of the model whose tables are locked."""
        return self._ticket.names

    @property
    def held(self) -> bool:
        """Whether the ticket still stands."""
        return not self._ticket.made or table_made(self._warehouse, self._ticket.table) == self._ticket.made

    def check(self) -> None:
        """Raises LockLostError where the lock was lost: this process gave no sign of life for too long."""
        if not self.held:
            raise LockLostError(
                "The lock on the published tables was lost: this process stood still for too long, and another job "
                "took it over. Run the command again"
            )

    def name(self, purpose: str = "") -> str:
        """A new name with the ticket in it; `purpose` stays in the name of whoever takes the table over."""
        self._n_names += 1
        return f"{self.names.sets}_moving_{self._ticket.number}_{self._n_names}{purpose and '_' + purpose}"

    def claim(self, table: str, name: str | None = None) -> str:
        """Rename the table to `name` (default: a new one) and look whether the lock is held; returns the name.

        Raises LockLostError where it is not, or where the table is gone and the lock too.
        """
        name = name or self.name()
        try:
            self.move(RENAME, table, name)
        except ConnectionLostError:
            # Where it arrives later still, it is a table under a claim's name, as if the job had been killed here.
            if self._warehouse.engine(f"analytics.{name}") is None:
                raise
        self.check()
        return name

    def move(self, statement: str, first: str, second: str) -> None:
        """`RENAME` or `EXCHANGE`, `one` a table that was claimed. Raises LockLostError where it fails for that."""
        try:
            self._warehouse.command(statement, {"one": first, "other": second})
        except ConnectionLostError:
            raise
        except QueryError:
            self.check()
            raise

    def drop(self, table: str) -> None:
        """Claim the table and drop it: what has been put in its place meanwhile is not hit."""
        drop_table(self._warehouse, table if self.claimed(table) else self.claim(table))

    def claimed(self, table: str) -> bool:
        """Whether the name of the table has this ticket in it."""
        match = CLAIMED.fullmatch(table)
        return match is not None and (match["sets"], match["ticket"]) == (self.names.sets, self._ticket.number)

    def take_over(self) -> None:
        """Give every table with another's ticket in its name a name with this one: no move of theirs can come now."""
        for row in self._warehouse.rows(sql.load("queries/claimed_tables").text, {"sets": self.names.sets}):
            name = str(row["name"])
            match = CLAIMED.fullmatch(name)
            if match is None or match["sets"] != self.names.sets or self.claimed(name):
                continue
            try:
                self.move(RENAME, name, self.name(match["purpose"].removeprefix("_")))
            except QueryError:
                # Its owner lives, and has just taken it back.
                if self._warehouse.engine(f"analytics.{name}") is not None:
                    raise
        self.check()


@contextmanager
def publish_lock(
    warehouse: Warehouse,
    what: str,
    say: Callable[[str], None] = lambda _: None,
    patience: float | None = None,
    expiry: float | None = None,
    names: Names = DEFAULT,
) -> Iterator[PublishLock]:
    """Hold the lock on the published tables of a model; each name has a lock of its own.

    Parameters
    ----------
    what : what for, for others to read
    say : told once who is waited for
    patience : seconds to wait; default, PATIENCE
    expiry : seconds without a sign of life after which a ticket counts as dead; default, EXPIRY
    names : of the model

    Raises
    ------
    LockedError
        Where somebody else holds it all the while.
    """
    if warehouse.embedded:
        alone = PublishLock(warehouse, Ticket(uuid.uuid4().hex, names=names))
        alone.take_over()
        yield alone
        return
    me = {**ProcessIdentity.me().values, "what": what}
    expiry = EXPIRY if expiry is None else expiry
    ticket = take_ticket(warehouse, names, me, say, PATIENCE if patience is None else patience, expiry)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(max(_LEAST_BEAT, expiry / _BEATS)):
            # A sign that gets lost is no matter: many make an expiry.
            with suppress(ServerError):
                warehouse.command(sql.load("queries/lock_alive").text, {"table": ticket.table, **me})

    beating = threading.Thread(target=live, daemon=True)
    beating.start()
    lease = PublishLock(warehouse, ticket, expiry)
    try:
        lease.take_over()
        yield lease
    except ConnectionLostError:
        raise
    except QueryError:
        lease.check()  # a table that is no longer where it was is no fault of the query
        raise
    finally:
        stop.set()
        beating.join()
        # One that can't be taken back runs out.
        with suppress(ServerError):
            drop_table(warehouse, ticket.table)


class PublishLocks:
    """The locks of several models while they are held; `check` and `drop` as of one."""

    def __init__(self, held: Sequence[PublishLock]) -> None:
        self._held = held

    def check(self) -> None:
        """Raises LockLostError where one of them was lost."""
        for lock in self._held:
            lock.check()

    def drop(self, table: str) -> None:
        """As of the lock of the model whose table it is."""
        owners = [lock for lock in self._held if table.startswith(f"{lock.names.sets}_")]
        max(owners, key=lambda lock: len(lock.names.sets)).drop(table)


@contextmanager
def publish_locks(
    warehouse: Warehouse,
    what: str,
    of: Sequence[Names],
    say: Callable[[str], None] = lambda _: None,
    expiry: float | None = None,
) -> Iterator[PublishLocks]:
    """Hold the locks of several models, taken in their order: who takes more than one takes them in the same order."""
    with ExitStack() as stack:
        locks = [publish_lock(warehouse, what, say, expiry=expiry, names=names) for names in of]
        yield PublishLocks([stack.enter_context(lock) for lock in locks])
