"""`InteractionLog`: what users did since, in one SQLite file that several processes use at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pipeline.errors import InputError
from pipeline.interaction_log import preferences, shipments
from pipeline.interaction_log.appending import Appending
from pipeline.interaction_log.columns import AHEAD_MS, Columns
from pipeline.interaction_log.database import wrap_errors
from pipeline.interaction_log.events import Accepted, Batch, Interaction, Logged
from pipeline.interaction_log.log_file import spellings
from pipeline.interaction_log.preferences import Preference
from pipeline.interaction_log.pulled import PulledLog
from pipeline.interaction_log.shipments import Shipment

__all__ = ["Forgotten", "InteractionLog"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOGGED = "SELECT seq, user_id, item_id, rating, at, received FROM interactions"
_OF_USERS = ("interactions", "pulled", "preferences")


class Forgotten(NamedTuple):
    """Attributes
    ----------
    n_rows : interactions of the user that were deleted, other logs' among them
    already : whether the user had been forgotten before
    erased : whether their bytes are gone from the disk; False while another process reads: `erase` again
    """

    n_rows: int
    already: bool
    erased: bool


class InteractionLog(PulledLog):
    """The log of one host. Threads may share it; each process opens its own.

    What a method that writes returned for is on disk. Every method raises InteractionLogError where the file is
    damaged, the disk is full or nothing may be written, and LockedError where another process holds the file for more
    than 10 s; nothing of what failed was stored.

    Use `open`; it is a context manager.
    """

    # ---- what comes in ---------------------------------------------------------------------------

    def append(self, interactions: Sequence[Interaction], *, key_id: str = "", idempotency_key: str = "") -> Accepted:
        """Store a batch as a whole. It is on disk when this returns.

        Raises
        ------
        InvalidInteractionError
            An id or a rating that the warehouse's column can't hold, or a time more than a day from now.
        IdempotencyConflictError
            The sender's idempotency key came with other interactions within the last 7 days.
        ForgottenUserError
            A user was forgotten.
        """
        (answer,) = self.append_many([Batch(interactions, key_id, idempotency_key)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def append_many(
        self, batches: Sequence[Batch | tuple[Sequence[Interaction], str, str]]
    ) -> list[Accepted | Exception]:
        """Store several batches with one write to the disk; the answer to each, or the error that `append` raises.

        An error of one batch leaves the others. An error of the log is raised, and nothing was stored.
        """
        now = _now_ms()
        with self._writes() as database:
            newest, columns = database.execute("SELECT last_seq, columns FROM log").fetchone()
            some_forgotten = database.execute("SELECT EXISTS (SELECT 1 FROM forgotten)").fetchone()[0]
            appending = Appending(database, Columns.parse(columns), newest, now, self._keyed)
            answers: list[Accepted | Exception] = []
            for batch in batches:
                try:
                    answers.append(appending.append(Batch(*batch), check_forgotten=bool(some_forgotten)))
                except InputError as error:
                    answers.append(error)
            appending.flush()
        return answers

    # ---- what is asked of it ---------------------------------------------------------------------

    def changed(self) -> bool:
        """Whether anybody, in this process or another, has written since the last call (6 µs)."""
        with self._reads():
            before, self._version = self._version, self._data_version()
            return before != self._version

    def of_user(self, user_id: int | str, after: int = 0) -> list[Logged]:
        """The user's interactions with a seq above `after`, in the order of seq."""
        with self._reads() as database:
            ids = spellings(user_id)
            found = database.execute(
                f"{_LOGGED} WHERE user_id IN (?, ?) AND seq > ? ORDER BY seq", (ids[0], ids[-1], after)
            )
            return [_logged(row) for row in found]

    def users_after(self, seq: int) -> list[int | str]:
        """The users with interactions above `seq`."""
        with self._reads() as database:
            return [
                user for (user,) in database.execute("SELECT DISTINCT user_id FROM interactions WHERE seq > ?", (seq,))
            ]

    def users(self) -> list[int | str]:
        """The users of whom anything is here: interactions, other logs' interactions or preferences."""
        tables = " UNION ".join(f"SELECT user_id FROM {table}" for table in _OF_USERS)  # noqa: S608  # our own names
        with self._reads() as database:
            return [user for (user,) in database.execute(f"{tables} ORDER BY 1")]

    def latest_seq(self) -> int:
        """The seq of the newest interaction, 0 where there never was one."""
        with self._reads() as database:
            return int(database.execute("SELECT last_seq FROM log").fetchone()[0])

    def first_seq(self) -> int:
        """The seq of the oldest interaction that is still here, 1 where there is none."""
        with self._reads() as database:
            return int(database.execute("SELECT ifnull(min(seq), 1) FROM interactions").fetchone()[0])

    def shipped_seq(self) -> int:
        """Up to this seq all interactions are in the warehouse."""
        with self._reads() as database:
            return int(database.execute("SELECT shipped_seq FROM log").fetchone()[0])

    def pending(self) -> tuple[int, datetime | None]:
        """How many interactions wait to be shipped, and when the oldest of them came in."""
        with self._reads() as database:
            count, oldest = database.execute(
                "SELECT count(*), min(received) FROM interactions WHERE seq > (SELECT shipped_seq FROM log)"
            ).fetchone()
        return int(count), None if oldest is None else _time(oldest)

    def rows(self, first: int, last: int) -> list[Logged]:
        """The interactions `first` to `last`, in the order of seq; some may be gone."""
        with self._reads() as database:
            return [_logged(row) for row in database.execute(f"{_LOGGED} WHERE seq BETWEEN ? AND ?", (first, last))]

    def answers(self, first: int, last: int) -> dict[int, str]:
        """The request ids that the interactions `first` to `last` name, by seq; most name none."""
        with self._reads() as database:
            return dict(
                database.execute("SELECT seq, request_id FROM answers WHERE seq BETWEEN ? AND ?", (first, last))
            )

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; it reads all of it."""
        with self._reads() as database:
            return [text for (text,) in database.execute("PRAGMA quick_check") if text != "ok"]

    # ---- preferences -----------------------------------------------------------------------------

    def set_preference(self, user_id: int | str, genres: Sequence[str]) -> Preference:
        """Keep which genres a user likes, instead of those of before; none: delete them. On disk when this returns.

        Raises
        ------
        InvalidInteractionError
            An id that the warehouse's column can't hold.
        ForgottenUserError
            The user was forgotten.
        """
        with self._writes() as database:
            return preferences.put(database, user_id, genres, _now_ms(), self._keyed)

    def preference(self, user_id: int | str) -> Preference | None:
        """What `set_preference` kept; None where there is nothing."""
        with self._reads() as database:
            return preferences.get(database, spellings(user_id))

    def newest_preference(self) -> int:
        """When somebody said last what they like, in milliseconds since 1970; 0 where nobody did."""
        with self._reads() as database:
            return int(database.execute("SELECT ifnull(max(at), 0) FROM preferences").fetchone()[0])

    # ---- forgetting ------------------------------------------------------------------------------

    def forget(self, user_id: int | str) -> Forgotten:
        """Delete the user's interactions and preferences, and take no more, whatever is sent. It may be repeated."""
        with self._writes() as database:
            name = self._keyed("user", str(user_id))
            added = database.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (name, _now_ms())).rowcount
            ids = spellings(user_id)
            database.execute(
                "DELETE FROM answers WHERE seq IN (SELECT seq FROM interactions WHERE user_id IN (?, ?))",
                (ids[0], ids[-1]),
            )
            n_rows = [
                database.execute(statement, (ids[0], ids[-1])).rowcount
                for statement in (
                    f"DELETE FROM {table} WHERE user_id IN (?, ?)"  # noqa: S608  # our own names
                    for table in _OF_USERS
                )
            ]
            self._copy_tombstones(database)
        return Forgotten(sum(n_rows[:2]), not added, self.erase())

    def lift(self, user_id: int | str) -> bool:
        """The user came back of their own will; returns whether they had been forgotten."""
        with self._writes() as database:
            name = self._keyed("user", str(user_id))
            lifted = database.execute("DELETE FROM forgotten WHERE digest = ?", (name,)).rowcount > 0
        with self._writes() as database:  # after that is on disk: the copy never has fewer
            self._copy_tombstones(database)
        return lifted

    def is_forgotten(self, user_id: int | str) -> bool:
        """Whether the user was forgotten."""
        with self._reads() as database:
            name = self._keyed("user", str(user_id))
            return database.execute("SELECT 1 FROM forgotten WHERE digest = ?", (name,)).fetchone() is not None

    def forgotten_among(self, users: Iterable[int | str]) -> set[int | str]:
        """Those of many users who were forgotten."""
        with self._reads() as database:
            names = {name for (name,) in database.execute("SELECT digest FROM forgotten")}
        return {user for user in users if self._keyed("user", str(user)) in names} if names else set()

    def tombstones(self) -> tuple[bytes, frozenset[bytes]]:
        """The log's salt, and the digests of who was forgotten."""
        with self._reads() as database:
            return self._salt, frozenset(digest for (digest,) in database.execute("SELECT digest FROM forgotten"))

    def take_tombstones(self, salt: bytes, digests: Collection[bytes]) -> int:
        """Forget whom a later copy of this log has forgotten, by its digests; returns how many of them are new.

        Of another log, whose salt is another, the digests say nothing here.
        """
        if salt != self._salt or not digests:
            return 0
        for user in self.users():
            if self._keyed("user", str(user)) in digests:
                self.forget(user)
        now = _now_ms()
        with self._writes() as database:
            rows = [(digest, now) for digest in digests]
            added = database.executemany("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", rows).rowcount
            self._copy_tombstones(database)
        return int(added)

    def erase(self) -> bool:
        """Write the -wal file back and empty it: deleted rows are then off the disk. False while another reads."""
        with self._writing, wrap_errors(self.path):
            busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    # ---- shipping (`pipeline.shipping` sends) ----------------------------------------------------

    def next_shipment(self, most: int = 10_000) -> Shipment | None:
        """What is to be sent next, with bounds that stay; the same again until it is marked. None: nothing waits."""
        with self._writes() as database:
            return shipments.fix_next(database, most, _now_ms())

    def mark_shipped(self, shipment: Shipment) -> None:
        """The warehouse's ledger has the shipment."""
        with self._writes() as database:
            shipments.mark_shipped(database, shipment, _now_ms())

    def catch_up(self, seq: int) -> None:
        """The ledger has this log up to `seq`, which may be past its end: an older copy of it was put back."""
        with self._writes() as database:
            shipments.catch_up(database, seq, _now_ms())

    def drop(self, seqs: Sequence[int]) -> None:
        """Delete interactions that wait and are in the warehouse already."""
        with self._writes() as database:
            database.executemany("DELETE FROM interactions WHERE seq = ?", [(seq,) for seq in seqs])

    def set_covered(self, seq: int | Callable[[], int] | None) -> None:
        """Keep interactions above `seq`, however long ago they were shipped: a served model has not read them.

        seq : or what finds it out, while no other process can set another
        """
        with self._writes() as database:
            database.execute("UPDATE log SET covered_seq = ?", (seq() if callable(seq) else seq,))

    def trim(self, now: datetime | None = None) -> int:
        """Delete what was shipped 7 days ago and is covered (`set_covered`); returns the number of interactions."""
        with self._writes() as database:
            return shipments.trim(database, _now_ms() if now is None else int(now.timestamp() * 1000))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _logged(row: tuple[int, int | str, int | str, float | None, int, int]) -> Logged:
    seq, user, item, rating, at, received = row
    # Logs of before took times up to 2299.
    return Logged(seq, user, item, rating, _time(min(at, received + AHEAD_MS)), _time(received))
