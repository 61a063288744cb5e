"""Copies of an interaction log: taken while others write to it, and put back without bringing anybody back.

SQLite's backup API makes a copy of one moment. A copy that is put back lacks what happened since, so it first learns
who was forgotten since: from the log that it replaces, or from the file that lies beside it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InteractionLogError
from pipeline.interaction_log.database import connect, wrap_errors
from pipeline.interaction_log.log import InteractionLog
from pipeline.interaction_log.tombstones import Tombstones

__all__ = ["LogFacts", "copy_log", "facts_of", "forgotten_here", "learn_forgotten", "opened_copy", "put_in_place"]

# Who was forgotten is in the last. It stays where it is until the new log has written it: no kill may lose it.
_BESIDE = ("", "-wal", "-shm", "-journal", ".forgotten")


@dataclass(frozen=True)
class LogFacts:
    """Attributes
    ----------
    log_id : of the log; a copy has the same
    last_seq : the newest interaction
    shipped_seq : up to here all interactions are in the warehouse
    """

    log_id: str
    last_seq: int
    shipped_seq: int


def facts_of(path: Path) -> LogFacts:
    """What the log in a file says of itself. Raises InteractionLogError."""
    with closing(connect(path, create=False)) as database, wrap_errors(path):
        return LogFacts(*database.execute("SELECT log_id, last_seq, shipped_seq FROM log").fetchone())


def copy_log(path: Path, to: Path) -> LogFacts:
    """Copy the log to one file, by SQLite's backup API: of one moment, whoever writes meanwhile."""
    with (
        closing(connect(path, create=False)) as source,
        wrap_errors(path),
        closing(sqlite3.connect(to)) as target,
    ):
        to.chmod(0o600)
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
        return LogFacts(*target.execute("SELECT log_id, last_seq, shipped_seq FROM log").fetchone())


@contextmanager
def opened_copy(copy: Path, target: Path) -> Iterator[InteractionLog]:
    """The log of a copy, in a file beside `target`; changes are made there before `put_in_place`."""
    work = _work(target)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _delete(work)
    shutil.copyfile(copy, work)
    work.chmod(0o600)
    with closing(sqlite3.connect(work)) as database, wrap_errors(work):
        database.execute("PRAGMA journal_mode = WAL")
    try:
        with InteractionLog.open(work, create=False) as log:
            yield log
            log.erase()
    except BaseException:  # Ctrl-C, too: no half copy stays
        _delete(work)
        raise


def learn_forgotten(log: InteractionLog, target: Path) -> int:
    """Forget in `log` whom the log at `target`, or the file beside it, has as forgotten; returns how many users.

    Digests of the same log are taken over as they are. Those of another log, whose salt is another, can only be asked
    about the users that `log` has.
    """
    salt, digests = Tombstones(target).known()
    if target.exists():
        with InteractionLog.open(target, create=False) as present:
            if present.log_id == log.log_id:
                salt, digests = present.tombstones()
    gone = forgotten_here(target, log.users())
    for user in gone:
        log.forget(user)
    return log.take_tombstones(salt, digests) + len(gone)


def forgotten_here(target: Path, users: Collection[int | str]) -> set[int | str]:
    """Those of the users whom the log at `target`, or the file beside it, has as forgotten."""
    gone: set[int | str] = set()
    if target.exists():
        with InteractionLog.open(target, create=False) as present:
            gone = present.forgotten_among(users)
    tombstones = Tombstones(target)
    if tombstones.path.exists():
        gone |= {user for user in users if tombstones.has(user)}
    return gone


def put_in_place(target: Path, aside: Path | None = None) -> None:
    """Put the changed copy in the place of `target`, in one step; what was there is moved to `aside` before."""
    work = _work(target)
    with closing(sqlite3.connect(work)) as database, wrap_errors(work):
        # Other than that of before, a copy has no -wal file: all is in the one file that is renamed.
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise InteractionLogError(f"{work} is in use: end what reads it, and run the command again")
    if aside is not None and target.exists():
        for suffix in _BESIDE[:4]:
            if (beside := _with(target, suffix)).exists():
                beside.rename(_with(aside, suffix))
    for suffix in _BESIDE[1:4]:  # of a log that was deleted: SQLite would read it as this one's
        _with(target, suffix).unlink(missing_ok=True)
    work.replace(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    for suffix in _BESIDE[1:]:
        _with(work, suffix).unlink(missing_ok=True)
    with InteractionLog.open(target) as log:  # writes the file of who was forgotten anew
        log.check_tombstones()


def _work(target: Path) -> Path:
    return target.with_name(f".{target.name}.restoring")


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _delete(path: Path) -> None:
    for suffix in _BESIDE:
        _with(path, suffix).unlink(missing_ok=True)
