"""Interactions of other hosts' logs, pulled from a warehouse that is a server: for users who were routed here since.

They lie in a table of their own, and are never shipped. The warehouse has them, so nothing is lost with this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pipeline.interaction_log.columns import AHEAD_MS
from pipeline.interaction_log.events import Logged
from pipeline.interaction_log.log_file import LogFile, spellings

__all__ = ["Newest", "PulledLog", "PulledRow"]

_TOGETHER = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PulledRow(NamedTuple):
    """An interaction of another log, by its number there; its time in milliseconds since 1970."""

    seq: int
    user_id: int | str
    item_id: int | str
    rating: float | None
    at: int


class Newest(NamedTuple):
    """What of a log was there at a moment.

    Attributes
    ----------
    own : the last interaction of this host, by its `seq`
    pulled : the last one that was pulled, by the order in which they came here; no number is used twice
    """

    own: int = 0
    pulled: int = 0


class PulledLog(LogFile):
    """The part of a log's file that holds other logs' interactions. Errors as of `InteractionLog`."""

    def newest(self) -> Newest:
        """The newest interactions of both kinds; 0 where there never was one."""
        with self._reads() as database:
            own, pulled = database.execute(
                "SELECT last_seq, (SELECT seq FROM sqlite_sequence WHERE name = 'pulled') FROM log"
            ).fetchone()
        return Newest(int(own), int(pulled or 0))

    def pulled_of_user(
        self, user_id: int | str, covered: Mapping[str, int] | None = None, after: int = 0
    ) -> list[Logged]:
        """The user's interactions from other logs, each with its `seq` there.

        covered : log id → up to where that log's are left out: a model has read them
        after : only those that came here after this one (`Newest.pulled`)
        """
        read = covered or {}
        with self._reads() as database:
            ids = spellings(user_id)
            found = database.execute(
                "SELECT log_id, seq, user_id, item_id, rating, at, received FROM pulled "
                "WHERE user_id IN (?, ?) AND number > ? ORDER BY log_id, seq",
                (ids[0], ids[-1], after),
            ).fetchall()
        return [
            Logged(seq, user, item, rating, _time(min(at, received + AHEAD_MS)), _time(received))
            for log_id, seq, user, item, rating, at, received in found
            if seq > int(read.get(log_id, 0))
        ]

    def pulled_users(self) -> list[int | str]:
        """The users of whom interactions were pulled."""
        with self._reads() as database:
            return [user for (user,) in database.execute("SELECT DISTINCT user_id FROM pulled")]

    def pull_after(self, log_id: str, covered: int) -> int:
        """After which interaction of another log to go on, if what is served has read that log up to `covered`.

        Where it has read less than what was served before, from there again: what is here already stays as it is.
        """
        with self._reads() as database:
            found = database.execute("SELECT after, last FROM pulls WHERE log_id = ?", (log_id,)).fetchone()
        return found[1] if found is not None and found[0] <= covered <= found[1] else covered

    def put_pulled(self, log_id: str, after: int, last: int, rows: Sequence[PulledRow]) -> int:
        """Keep the interactions above `after`, to `last`, of another log; all at once, and each once.

        Those of users who were forgotten are left out. Returns how many are new.
        """
        now = time.time_ns() // 1_000_000
        with self._writes() as database:
            gone = {digest for (digest,) in database.execute("SELECT digest FROM forgotten")}
            kept = [row for row in rows if not gone or self._keyed("user", str(row.user_id)) not in gone]
            added = database.executemany(
                "INSERT OR IGNORE INTO pulled (log_id, seq, user_id, item_id, rating, at, received) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(log_id, *row, now) for row in kept],
            ).rowcount
            joined = database.execute(
                "UPDATE pulls SET last = max(last, ?) WHERE log_id = ? AND ? BETWEEN after AND last",
                (last, log_id, after),
            ).rowcount
            if not joined:
                database.execute("INSERT OR REPLACE INTO pulls VALUES (?, ?, ?)", (log_id, after, last))
        return max(0, int(added))

    def drop_pulled(self, known: Callable[[], Sequence[Mapping[str, int]]], most: int = _TOGETHER) -> int:
        """Delete the pulled interactions that every version has read which can be served; returns how many.

        Parameters
        ----------
        known : finds out log id → up to where a version has read it, of each such version
        most : interactions that one transaction deletes, as requests that write wait for it
        """
        with self._reads() as database:
            logs = [log_id for (log_id,) in database.execute("SELECT log_id FROM pulls")]
        dropped = 0
        for log_id in logs:
            n_rows = most
            while n_rows == most:
                with self._writes() as database:
                    covered = min((int(read.get(log_id, 0)) for read in known()), default=0)
                    n_rows = database.execute(
                        "DELETE FROM pulled WHERE number IN "
                        "(SELECT number FROM pulled WHERE log_id = ? AND seq <= ? LIMIT ?)",
                        (log_id, covered, most),
                    ).rowcount
                dropped += n_rows
        return dropped


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
