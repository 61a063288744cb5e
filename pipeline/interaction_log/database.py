"""The SQLite file of the interaction log: its tables, its connections, and what SQLite's errors mean."""

from __future__ import annotations

import os
import secrets
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InteractionLogError, LockedError

__all__ = ["FORMAT", "connect", "make_tables", "wrap_errors", "write"]

FORMAT = 1
NAME = "The interaction log"
BUSY_SECONDS = 10.0
_APPLICATION = 0x524B4C31  # "RKL1": SQLite's own place for what a file is
_MOST_WAL = 64 << 20  # bytes that the -wal file keeps

# Ids have no declared type: 7 and "7" stay what they are. Keys of requests and forgotten users are digests,
# since a key may hold a user's id.
_TABLES = """
CREATE TABLE log (
    format      INTEGER NOT NULL,
    log_id      TEXT NOT NULL,
    salt        BLOB NOT NULL,
    columns     TEXT NOT NULL,
    last_seq    INTEGER NOT NULL,   -- the newest interaction
    shipped_seq INTEGER NOT NULL,   -- up to here all are in the warehouse
    covered_seq INTEGER             -- up to here no served model needs them; NULL where nothing is served
);
CREATE TABLE interactions (
    seq         INTEGER PRIMARY KEY,
    user_id     NOT NULL,
    item_id     NOT NULL,
    rating      REAL,
    at          INTEGER NOT NULL,   -- milliseconds since 1970, as all times here
    received    INTEGER NOT NULL
);
CREATE INDEX interactions_of_user ON interactions (user_id, seq);
CREATE TABLE requests (
    key         BLOB PRIMARY KEY,
    content     BLOB NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    received    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE shipments (
    first_seq   INTEGER PRIMARY KEY,
    last_seq    INTEGER NOT NULL,
    fixed       INTEGER NOT NULL,
    shipped     INTEGER             -- NULL until the warehouse has it
);
CREATE TABLE forgotten (
    digest      BLOB PRIMARY KEY,
    at          INTEGER NOT NULL
) WITHOUT ROWID;
"""
# Not in logs of before there were such tables, to which they are added.
_ADDED = {
    "preferences": """
CREATE TABLE IF NOT EXISTS preferences (
    user_id     NOT NULL PRIMARY KEY,
    genres      TEXT NOT NULL,      -- a list in JSON
    at          INTEGER NOT NULL
) WITHOUT ROWID
""",
    "answers": """
CREATE TABLE IF NOT EXISTS answers (
    seq         INTEGER PRIMARY KEY,
    request_id  TEXT NOT NULL       -- of the answer that the interaction follows
)
""",
    # What other hosts' logs have, by its number there. AUTOINCREMENT: a number that is used twice would be taken for
    # one that was seen.
    "pulled": """
CREATE TABLE IF NOT EXISTS pulled (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    log_id      TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    user_id     NOT NULL,
    item_id     NOT NULL,
    rating      REAL,
    at          INTEGER NOT NULL,
    received    INTEGER NOT NULL,   -- here
    UNIQUE (log_id, seq)
)
""",
    "pulled_of_user": "CREATE INDEX IF NOT EXISTS pulled_of_user ON pulled (user_id)",
    "pulls": """
CREATE TABLE IF NOT EXISTS pulls (
    log_id      TEXT PRIMARY KEY,
    after       INTEGER NOT NULL,   -- all above this one
    last        INTEGER NOT NULL    -- up to this one were asked for
) WITHOUT ROWID
""",
}

_ADVICE = {
    "SQLITE_FULL": "the disk is full: make room there",
    "SQLITE_READONLY": "it may only be read: let this user write to the file and its folder",
    "SQLITE_CANTOPEN": "is the folder there, and may this user write to it?",
    "SQLITE_PERM": "let this user write to the file and its folder",
    "SQLITE_IOERR": "look at the disk",
    "SQLITE_NOTADB": "it is no interaction log: move it away, or set RANKLINE_LIVE_DIR to another folder",
    "SQLITE_CORRUPT": "it is damaged: stop what uses it, keep a copy, and restore it (sqlite3 FILE .recover)",
}


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """A connection to the log's file, checked to be one; the file is made where it is missing and `create` is true.

    Raises InteractionLogError; LockedError where another process holds it for too long.
    """
    new = create and not path.exists()
    try:
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            # It holds what users did: others need not read it. SQLite gives its -wal file the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise InteractionLogError(
            f"The interaction log {path} can't be made ({error.strerror}); {_ADVICE['SQLITE_CANTOPEN']} "
            "RANKLINE_LIVE_DIR names another folder"
        ) from None
    with wrap_errors(path):
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    try:
        with wrap_errors(path):
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA secure_delete = ON")
            database.execute(f"PRAGMA journal_size_limit = {_MOST_WAL}")
            _check(database, path, create=create)
    except BaseException:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection, path: Path, *, create: bool) -> None:
    # Another program's file stays as it is.
    if create and _one(database, "PRAGMA application_id") == 0 and not _one(database, "SELECT 1 FROM sqlite_master"):
        database.execute("PRAGMA journal_mode = WAL")
        make_tables(database, path)
    if _one(database, "PRAGMA application_id") != _APPLICATION:
        raise InteractionLogError(f"{path} can't be used: {_ADVICE['SQLITE_NOTADB']}")
    found = _one(database, "SELECT format FROM log")
    if found != FORMAT:
        raise InteractionLogError(
            f"The interaction log {path} has format {found}, and this version of Rankline reads {FORMAT}"
        )
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if not _ADDED.keys() <= there:
        with write(database, path):
            for statement in _ADDED.values():
                database.execute(statement)


def _one(database: sqlite3.Connection, statement: str) -> object:
    row = database.execute(statement).fetchone()
    return None if row is None else row[0]


def make_tables(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new log; a process that comes second finds them."""
    from pipeline.interaction_log.columns import Columns

    with write(database, path):
        if _one(database, "PRAGMA application_id") != 0 or _one(database, "SELECT count(*) FROM sqlite_master"):
            return
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                database.execute(statement)
        database.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, 0, 0, NULL)",
            (FORMAT, str(uuid.uuid4()), secrets.token_bytes(16), Columns().text),
        )
        database.execute(f"PRAGMA application_id = {_APPLICATION}")


@contextmanager
def write(database: sqlite3.Connection, path: Path, name: str = NAME) -> Iterator[sqlite3.Connection]:
    """One transaction of writes: on disk when the block is left, and nothing of it where the block fails."""
    with wrap_errors(path, name):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


@contextmanager
def wrap_errors(path: Path, name: str = NAME) -> Iterator[None]:
    """Raise SQLite's errors in the block as ours, with the file, the cause and the next step.

    name : what the file is, in messages
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or ""
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise LockedError(
                f"{name} {path} was held by another process for {BUSY_SECONDS:.0f} s; try again"
            ) from None
        advice = next((text for start, text in _ADVICE.items() if code.startswith(start)), "")
        raise InteractionLogError(
            f"{name} {path} failed ({' '.join(str(error).split())}){'; ' + advice if advice else ''}"
        ) from None
