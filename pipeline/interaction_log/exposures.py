"""The exposure log: which lists were shown in experiments, in one SQLite file beside the interaction log.

It is a file of its own, since each write to the interaction log makes all workers look whether their ready lists are
still right. Nothing is acknowledged from it, so a write does not wait for the disk: a process that is killed loses what
it had not written yet, and a machine that loses its power the last moments. What a killed process lost is counted: each
worker counts what it showed in a small mapped file (`pipeline.serving.exposures`), and `settle` compares.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from pipeline.errors import InteractionLogError
from pipeline.interaction_log import shipments
from pipeline.interaction_log.database import BUSY_SECONDS, wrap_errors, write
from pipeline.interaction_log.shipments import Shipment

__all__ = ["LOST", "Exposure", "ExposureLog", "LoggedExposure"]

FORMAT = 1
MOST = 2_000_000  # exposures that wait; some 600 MB
LOST = "lost"
_NAME = "The exposure log"
_APPLICATION = 0x524B4C58  # "RKLX"
# Not in logs of before there was such a column, to which it is added.
_MANIFEST = "manifest TEXT NOT NULL DEFAULT ''"
_TABLES = f"""
CREATE TABLE log (
    format      INTEGER NOT NULL,
    log_id      TEXT NOT NULL,
    last_seq    INTEGER NOT NULL,   -- the newest exposure
    shipped_seq INTEGER NOT NULL    -- up to here all are in the warehouse, and gone from here
);
CREATE TABLE exposures (
    seq           INTEGER PRIMARY KEY,
    experiment    TEXT NOT NULL,
    arm           TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    model_version TEXT NOT NULL,
    source        TEXT NOT NULL,
    items         TEXT NOT NULL,    -- a list of texts in JSON
    status        INTEGER NOT NULL,
    micros        INTEGER NOT NULL,
    at            INTEGER NOT NULL, -- milliseconds since 1970
    n_lost        INTEGER NOT NULL, -- of a row that stands for a loss: how many; else 0
    {_MANIFEST}
);
CREATE TABLE shipments (
    first_seq   INTEGER PRIMARY KEY,
    last_seq    INTEGER NOT NULL,
    fixed       INTEGER NOT NULL,
    shipped     INTEGER             -- NULL until the warehouse has it
);
CREATE TABLE writers (
    name        TEXT PRIMARY KEY,
    accounted   INTEGER NOT NULL    -- of what the writer showed: what is here, or known to be lost
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION}
"""
_COLUMNS = (
    "seq, experiment, arm, request_id, user_id, model_version, source, items, status, micros, at, manifest, n_lost"
)


class Exposure(NamedTuple):
    """A list that was shown to a user in an experiment.

    Attributes
    ----------
    arm : ``a`` or ``b``
    request_id : of the answer
    source : what ranked it; "" where the request failed
    items : the ids of its items as text, in a JSON list, best first
    status : of the answer, in HTTP
    micros : microseconds that it took
    at : milliseconds since 1970
    manifest : of the answer, as its ``X-Manifest``; "" where it is not known
    """

    experiment: str
    arm: str
    request_id: str
    user_id: str
    model_version: str
    source: str
    items: str
    status: int
    micros: int
    at: int
    manifest: str = ""


class LoggedExposure(NamedTuple):
    """An exposure in the log; one with `n_lost` above 0 stands for as many that were lost, and has no user."""

    seq: int
    experiment: str
    arm: str
    request_id: str
    user_id: str
    model_version: str
    source: str
    items: str
    status: int
    micros: int
    at: int
    manifest: str
    n_lost: int


class ExposureLog:
    """The log of one host. Threads may share it; each process opens its own. Use `open`; it is a context manager.

    Every method raises InteractionLogError where the file is damaged, the disk is full or nothing may be written, and
    LockedError where another process holds it for too long; nothing of what failed was stored.
    """

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path, self._database, self._lock = path, database, threading.RLock()
        with self._reads() as reading:
            format_, self.log_id = reading.execute("SELECT format, log_id FROM log").fetchone()
        if format_ != FORMAT:
            raise InteractionLogError(
                f"{_NAME} {path} has format {format_}, and this version of Rankline reads {FORMAT}"
            )

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> Self:
        """Open the log in a file; it is made where it is missing and `create` is true."""
        path = Path(path)
        if create and not path.exists():
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise InteractionLogError(f"{_NAME} {path} can't be made ({error.strerror})") from None
        with wrap_errors(path, _NAME):
            database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            with wrap_errors(path, _NAME):
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute("PRAGMA secure_delete = ON")
                _make(database, path)
            return cls(path, database)
        except BaseException:  # Ctrl-C, too: the database is closed
            database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _reads(self) -> Iterator[sqlite3.Connection]:
        with self._lock, wrap_errors(self.path, _NAME):
            yield self._database

    @contextmanager
    def _writes(self) -> Iterator[sqlite3.Connection]:
        with self._lock, write(self._database, self.path, _NAME) as database:
            yield database

    # ---- what comes in ---------------------------------------------------------------------------

    def append(self, rows: Sequence[Exposure], writer: str, lost: int = 0, experiment: str = "") -> int:
        """Store exposures of a writer, and that it lost some of the experiment; returns how many did not fit.

        Those that don't fit, since too many wait for the warehouse, count as lost as well, once there is room.
        """
        with self._writes() as database:
            newest, shipped = database.execute("SELECT last_seq, shipped_seq FROM log").fetchone()
            room = max(0, MOST - (newest - shipped) - 1)  # one for the loss
            left_out = max(0, len(rows) - room)
            entries: list[tuple[str | int, ...]] = [(*row, 0) for row in rows[:room]]
            if lost and room:
                entries.append(_loss(experiment, lost))
            accounted = min(len(rows), room) + (lost if room else 0)
            _insert(database, entries, newest)
            database.execute(
                "INSERT INTO writers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET accounted = accounted + ?",
                (writer, accounted, accounted),
            )
        return int(left_out)

    def settle(self, writer: str, made: int, experiment: str) -> int:
        """A writer has ended that showed so many lists: what it did not write is lost. Returns how many.

        A second call counts nothing twice.
        """
        with self._writes() as database:
            found = database.execute("SELECT accounted FROM writers WHERE name = ?", (writer,)).fetchone()
            lost = max(0, made - (0 if found is None else int(found[0])))
            if lost:
                _insert(database, [_loss(experiment, lost)], database.execute("SELECT last_seq FROM log").fetchone()[0])
            database.execute("INSERT OR REPLACE INTO writers VALUES (?, ?)", (writer, made))
        return lost

    def forget_writer(self, writer: str) -> None:
        """What the writer counted with is gone, after `settle`."""
        with self._writes() as database:
            database.execute("DELETE FROM writers WHERE name = ?", (writer,))

    def forget(self, user_id: int | str) -> int:
        """Delete the user's exposures; returns how many."""
        with self._writes() as database:
            return int(database.execute("DELETE FROM exposures WHERE user_id = ?", (str(user_id),)).rowcount)

    # ---- what goes out (`pipeline.shipping.exposures` sends) --------------------------------------

    def next_shipment(self, most: int = 10_000) -> Shipment | None:
        """What is to be sent next, with bounds that stay; the same again until it is marked. None: nothing waits."""
        with self._writes() as database:
            return shipments.fix_next(database, most, time.time_ns() // 1_000_000)

    def mark_shipped(self, shipment: Shipment) -> None:
        """The warehouse has the shipment: nobody needs it here any more."""
        with self._writes() as database:
            shipments.mark_shipped(database, shipment, time.time_ns() // 1_000_000)
            database.execute("DELETE FROM exposures WHERE seq <= ?", (shipment.last_seq,))
            database.execute("DELETE FROM shipments WHERE shipped IS NOT NULL")

    def rows(self, first: int, last: int) -> list[LoggedExposure]:
        """The exposures `first` to `last`, in order; those of forgotten users are gone."""
        with self._reads() as database:
            found = database.execute(f"SELECT {_COLUMNS} FROM exposures WHERE seq BETWEEN ? AND ?", (first, last))  # noqa: S608  # our own names
            return [LoggedExposure(*row) for row in found]

    def waiting(self) -> int:
        """How many wait to be shipped."""
        with self._reads() as database:
            newest, shipped = database.execute("SELECT last_seq, shipped_seq FROM log").fetchone()
            return int(newest - shipped)

    def latest_seq(self) -> int:
        """The number of the newest exposure."""
        with self._reads() as database:
            return int(database.execute("SELECT last_seq FROM log").fetchone()[0])


def _loss(experiment: str, n: int) -> tuple[str | int, ...]:
    return (experiment, "", LOST, "", "", "", "[]", 0, 0, time.time_ns() // 1_000_000, "", n)


def _insert(database: sqlite3.Connection, entries: Sequence[tuple[str | int, ...]], newest: int) -> None:
    rows = [(seq, *entry) for seq, entry in enumerate(entries, newest + 1)]
    places = ", ".join("?" * len(LoggedExposure._fields))
    database.executemany(f"INSERT INTO exposures ({_COLUMNS}) VALUES ({places})", rows)  # noqa: S608  # our own names
    database.execute("UPDATE log SET last_seq = ?", (newest + len(rows),))


def _make(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; a process that comes second finds them."""
    if database.execute("PRAGMA application_id").fetchone()[0] == 0:
        database.execute("PRAGMA journal_mode = WAL")
        with write(database, path, _NAME):
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.split(";\n"):
                    database.execute(statement)
                database.execute("INSERT INTO log VALUES (?, ?, 0, 0)", (FORMAT, str(uuid.uuid4())))
    if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        raise InteractionLogError(f"{path} can't be used: it is no exposure log; move it away")
    if not _has_manifest(database):
        with write(database, path, _NAME):
            if not _has_manifest(database):
                database.execute(f"ALTER TABLE exposures ADD COLUMN {_MANIFEST}")


def _has_manifest(database: sqlite3.Connection) -> bool:
    return any(column[1] == "manifest" for column in database.execute("PRAGMA table_info(exposures)"))
