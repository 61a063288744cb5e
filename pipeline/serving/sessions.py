"""Sessions of the page: a random id in a cookie stands for a key until it expires. All workers share one SQLite file.

The file has the sha256 of the ids alone. A session holds while its very key does: it ends when the key is revoked, and
a new key of the same name does not bring it back.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.serving.keys import Key
from pipeline.serving.problems import Code, Problem

__all__ = ["COOKIE", "LIFE_SECONDS", "Session", "Sessions", "csrf_token"]

COOKIE = "rankline_session"
LIFE_SECONDS = 8 * 3600
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_FAILURES, _WINDOW = 10, 60.0  # log-ins that may fail from one address within so many seconds
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id_sha256 TEXT PRIMARY KEY, key_id TEXT NOT NULL, key_sha256 TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (address TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS failures_by_address ON failures (address, at);
"""


class Session(NamedTuple):
    """The key that a session stands for: its id, and its sha256 as the file of keys has it."""

    key_id: str
    key_sha256: str


def csrf_token(session_id: str) -> str:
    """What requests that change something must have in ``X-CSRF-Token``; made of the session id, which no script sees.

    Without a session it is a constant: a page of another site can't send the header without being asked for.
    """
    return hmac.new(session_id.encode(), b"csrf", hashlib.sha256).hexdigest()


class Sessions:
    """The sessions in a file, which the first log-in makes.

    Parameters
    ----------
    now : seconds since 1970
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        self._opened: sqlite3.Connection | None = None

    def find(self, session_id: str) -> Session | None:
        """The session; None for one that there is not, or that has expired."""
        if not _ID.fullmatch(session_id) or not self._path.exists():
            return None
        try:
            row = (
                self._file()
                .execute(
                    "SELECT key_id, key_sha256 FROM sessions WHERE id_sha256 = ? AND expires > ?",
                    (_sha256(session_id), self._now()),
                )
                .fetchone()
            )
        except (sqlite3.Error, OSError):
            self._close()
            return None
        return None if row is None else Session(*row)

    def begin(self, key: Key) -> str:
        """A new session of the key. Raises Problem where it can't be kept."""
        session_id, now = secrets.token_urlsafe(32), self._now()
        self._change(
            ("DELETE FROM sessions WHERE expires <= ?", (now,)),
            (
                "INSERT INTO sessions VALUES (?, ?, ?, ?)",
                (_sha256(session_id), key.id, key.sha256, now + LIFE_SECONDS),
            ),
        )
        return session_id

    def end(self, session_id: str) -> None:
        """End the session, in all workers. Raises Problem where that can't be kept."""
        if self._path.exists():
            self._change(("DELETE FROM sessions WHERE id_sha256 = ?", (_sha256(session_id),)))

    # ---- log-ins that fail ------------------------------------------------------------------

    def count_try(self, address: str) -> None:
        """Count a log-in as one that fails, before its key is looked at; `forgive` takes it back.

        Raises Problem where too many of the address have failed.
        """
        now, network = self._now(), _network(address)
        try:
            file = self._file()
            file.execute("BEGIN IMMEDIATE")  # so that tries at once, in several workers, are counted one by one
            with file:
                file.execute("DELETE FROM failures WHERE at <= ?", (now - _WINDOW,))
                count, first = file.execute(
                    "SELECT count(*), min(at) FROM failures WHERE address = ?", (network,)
                ).fetchone()
                if count < _FAILURES:
                    file.execute("INSERT INTO failures VALUES (?, ?)", (network, now))
        except (sqlite3.Error, OSError):
            raise self._unusable() from None
        if count >= _FAILURES:
            wait = max(1, math.ceil(first + _WINDOW - now))
            raise Problem(
                Code.TOO_MANY_REQUESTS,
                f"Too many log-ins have failed from this address; try again in {wait} s",
                {"Retry-After": str(wait)},
            )

    def forgive(self, address: str) -> None:
        """Take a try back: it has not failed."""
        network = _network(address)
        self._change(
            (
                "DELETE FROM failures WHERE rowid = (SELECT max(rowid) FROM failures WHERE address = ?)",
                (network,),
            )
        )

    # ---- the file ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file."""
        self._close()

    def _file(self) -> sqlite3.Connection:
        if self._opened is None:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._opened = sqlite3.connect(self._path, timeout=0.5, isolation_level=None)
            self._opened.execute("PRAGMA journal_mode = WAL")
            self._opened.executescript(_SCHEMA)
        return self._opened

    def _change(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        try:
            file = self._file()
            file.execute("BEGIN IMMEDIATE")
            with file:
                for statement, values in statements:
                    file.execute(statement, values)
        except (sqlite3.Error, OSError):
            raise self._unusable() from None

    def _unusable(self) -> Problem:
        self._close()
        return Problem(Code.TOO_BUSY, "The sessions of the page can't be kept just now; try again")

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _network(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, all of which one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
