"""`LogFile`: an interaction log's file, open for reading and writing, and what its columns hold."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pipeline.interaction_log.appending import digest
from pipeline.interaction_log.columns import Columns, as_id
from pipeline.interaction_log.database import connect, wrap_errors, write
from pipeline.interaction_log.tombstones import Tombstones

__all__ = ["LogFile", "spellings"]


class LogFile:
    """Two connections to the file: one writes, one reads. Threads may share them; each process opens its own."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer, self._reader = writer, reader
        self._writing, self._reading = threading.RLock(), threading.RLock()
        with self._reads() as database:
            self.log_id: str
            self.log_id, self._salt = database.execute("SELECT log_id, salt FROM log").fetchone()
            self._version = self._data_version()

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True, columns: Columns | None = None) -> Self:
        """Open the log in a file.

        Parameters
        ----------
        create : make the file where it is missing; else a missing one is an InteractionLogError
        columns : what the warehouse's columns hold, kept in the log; default, as it is there (`set_columns`)
        """
        path = Path(path)
        writer = connect(path, create=create)
        try:
            log = cls(path, writer, connect(path, create=False))
        except BaseException:  # Ctrl-C, too: no connection stays open
            writer.close()
            raise
        try:
            if columns is not None:
                log.set_columns(columns)
            if create:
                log.check_tombstones()
        except BaseException:  # as above
            log.close()
            raise
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    @contextmanager
    def _reads(self) -> Iterator[sqlite3.Connection]:
        with self._reading, wrap_errors(self.path):
            yield self._reader

    @contextmanager
    def _writes(self) -> Iterator[sqlite3.Connection]:
        with self._writing, write(self._writer, self.path) as database:
            yield database

    def _keyed(self, *parts: str) -> bytes:
        """A digest of the texts that tells nothing to who does not have the log."""
        return digest(self._salt, parts)

    # ---- the copy of who was forgotten -----------------------------------------------------------

    def check_tombstones(self) -> None:
        """Copy who was forgotten into the file beside the log, if it lacks somebody: of before there was a copy."""
        with self._reads() as database:
            there = {digest for (digest,) in database.execute("SELECT digest FROM forgotten")}
        if Tombstones(self.path).lack(there, self._salt):
            with self._writes() as database:
                self._copy_tombstones(database)

    def _copy_tombstones(self, database: sqlite3.Connection) -> None:
        """Needs a transaction, so that no other process copies at the same time."""
        digests = [digest for (digest,) in database.execute("SELECT digest FROM forgotten ORDER BY digest")]
        Tombstones(self.path).write(digests, self._salt)

    def _data_version(self) -> int:
        # It does not change for a connection's own writes, so the reader asks about the writer's.
        return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    @property
    def columns(self) -> Columns:
        """What the warehouse's columns hold."""
        with self._reads() as database:
            return Columns.parse(database.execute("SELECT columns FROM log").fetchone()[0])

    def user_id(self, given: int | str) -> int | str:
        """A user's id as the log has it; one that it can't hold stays as it is."""
        try:
            return as_id("user", given, self.columns.user)
        except ValueError:
            return given

    def set_columns(self, columns: Columns) -> None:
        """Say what the warehouse's columns hold. Interactions that are stored stay as they are."""
        if columns != self.columns:
            with self._writes() as database:
                database.execute("UPDATE log SET columns = ?", (columns.text,))


def spellings(user_id: int | str) -> tuple[int | str, ...]:
    """The id as text, and as an integer where it can be one: the log has it as the warehouse's column does."""
    text = str(user_id)
    try:
        return text, as_id("user", text, "Int64")
    except ValueError:
        return (text,)
