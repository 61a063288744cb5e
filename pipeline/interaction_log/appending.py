"""Storing batches in one transaction: checked, once for an idempotency key, and none of forgotten users."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache

from pipeline.errors import ForgottenUserError, IdempotencyConflictError, InputError
from pipeline.interaction_log.columns import AHEAD_MS, Columns, Row
from pipeline.interaction_log.events import Accepted, Batch
from pipeline.interaction_log.shipments import KEPT_MS

__all__ = ["Appending", "digest"]

_SHOWN = 5


class Appending:
    """One transaction that stores batches, each as a whole. `flush` writes what `append` took."""

    def __init__(
        self,
        database: sqlite3.Connection,
        columns: Columns,
        newest: int,
        now_ms: int,
        keyed: Callable[..., bytes],
    ) -> None:
        self.newest = newest
        self._database, self._columns, self._now_ms, self._keyed = database, columns, now_ms, keyed
        self._rows: list[tuple[int, int | str, int | str, float | None, int, int]] = []
        self._requests: dict[bytes, tuple[bytes, int, int]] = {}
        self._answers: list[tuple[int, str]] = []

    def append(self, batch: Batch, *, check_forgotten: bool) -> Accepted:
        """Take a batch, to be stored by `flush`. Raises InputError, and takes nothing of it."""
        if not batch.interactions:
            raise InputError("A batch holds one interaction at least")
        rows = self._columns.rows(batch.interactions, self._now_ms + AHEAD_MS)
        name = content = b""
        if batch.idempotency_key:
            name, content = self._keyed("request", batch.key_id, batch.idempotency_key), self._keyed(repr(rows))
            if (before := self._before(name, content)) is not None:
                return before
        if check_forgotten:
            self._refuse_forgotten(rows)
        first, now_ms = self.newest + 1, self._now_ms
        self.newest += len(rows)
        self._rows += [
            (seq, user, item, rating, now_ms if at is None else at, now_ms)
            for seq, (user, item, rating, at) in enumerate(rows, first)
        ]
        self._answers += [
            (seq, entry.request_id) for seq, entry in enumerate(batch.interactions, first) if entry.request_id
        ]
        if name:
            self._requests[name] = content, first, self.newest
        return Accepted(first, self.newest, len(rows))

    def flush(self) -> None:
        """Write everything that was taken."""
        if not self._rows:
            return
        self._database.executemany("INSERT INTO interactions VALUES (?, ?, ?, ?, ?, ?)", self._rows)
        self._database.executemany(
            "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)",
            [(name, *request, self._now_ms) for name, request in self._requests.items()],
        )
        if self._answers:
            self._database.executemany("INSERT INTO answers VALUES (?, ?)", self._answers)
        self._database.execute("UPDATE log SET last_seq = ?", (self.newest,))

    def _before(self, name: bytes, content: bytes) -> Accepted | None:
        found = (
            self._requests.get(name)
            or self._database.execute(
                "SELECT content, first_seq, last_seq FROM requests WHERE key = ? AND received >= ?",
                (name, self._now_ms - KEPT_MS),
            ).fetchone()
        )
        if found is None:
            return None
        if found[0] != content:
            raise IdempotencyConflictError(
                "This idempotency key came with other interactions before: a new request needs a new key"
            )
        return Accepted(found[1], found[2], found[2] - found[1] + 1, True)

    def _refuse_forgotten(self, rows: Sequence[Row]) -> None:
        positions = [
            position
            for position, (user, *_) in enumerate(rows)
            if self._database.execute(
                "SELECT 1 FROM forgotten WHERE digest = ?", (self._keyed("user", str(user)),)
            ).fetchone()
        ]
        if positions:
            some = ", ".join(map(str, positions[:_SHOWN])) + (", …" if len(positions) > _SHOWN else "")
            where = "This interaction" if len(rows) == 1 else f"Interaction {some} of the batch"
            raise ForgottenUserError(
                f"{where} is of a user who was forgotten: nothing was stored (rankline forget --lift takes a user back)"
            )


def digest(salt: bytes, parts: Sequence[str]) -> bytes:
    """16 bytes for the texts, which tell nothing to who does not have the salt."""
    begun = _begun(salt).copy()
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    begun.update(b"".join(len(part).to_bytes(8, "little") + part for part in encoded))
    return begun.digest()


@cache
def _begun(salt: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=salt, digest_size=16)
