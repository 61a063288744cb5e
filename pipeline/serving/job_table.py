"""`JobTable`: what workers ask of the agent, and what became of it, in one SQLite file that both use.

A worker writes a job and answers with its id. The agent takes the jobs in order. A connection lives for one call:
calls are rare, and nothing has to be carried over a fork or between threads.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import JobTableError

__all__ = ["CHAMPION_KINDS", "Job", "JobTable", "moment"]

CHAMPION_KINDS = frozenset(("activate", "rollback", "delete_version"))  # one of them at a time
_BUSY_SECONDS = 10.0
_KEPT = 500  # jobs that have ended
_COLUMNS = "job_id, kind, request, state, reason, result, key_id, process, created, started, finished, not_before"
# `request` of a forgotten user is emptied when the job ends: secure_delete takes the id off the disk.
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id      TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    request     TEXT NOT NULL,
    state       TEXT NOT NULL,      -- queued, running, done, failed
    reason      TEXT NOT NULL,
    result      TEXT NOT NULL,
    key_id      TEXT NOT NULL,      -- of the API key that asked
    process     TEXT NOT NULL,      -- `ProcessIdentity` of the job's own process; "" where it has none
    created     INTEGER NOT NULL,   -- milliseconds since 1970, as all times here
    started     INTEGER,
    finished    INTEGER,
    not_before  INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class Job:
    """A row of the table. Times are in milliseconds since 1970; `request` and `result` are JSON-able."""

    job_id: str
    kind: str
    request: Mapping[str, Any]
    state: str
    reason: str
    result: Mapping[str, Any]
    key_id: str
    process: str
    created: int
    started: int | None
    finished: int | None
    not_before: int

    @property
    def ended(self) -> bool:
        """Whether it is done or has failed."""
        return self.state in ("done", "failed")

    @property
    def answer(self) -> dict[str, Any]:
        """What the API shows of it: not the request, which may name a user, nor the key."""
        return {
            "job_id": self.job_id,
            "kind": self.kind,
            "state": self.state,
            "reason": self.reason,
            "created_at": moment(self.created),
            "started_at": moment(self.started),
            "finished_at": moment(self.finished),
            "result": dict(self.result),
        }


class JobTable:
    """The jobs in a file. Every method raises JobTableError where the file can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self, kind: str, request: Mapping[str, Any], key_id: str = "", unless: Collection[str] = ()
    ) -> tuple[Job, bool]:
        """Put a job into the queue; it is on disk when this returns.

        unless : kinds of which none may wait or run: if one does, that job is returned, and False
        """
        now = _now_ms()
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" * len(unless))
            waits = f"state IN ('queued', 'running') AND kind IN ({marks})"
            other = database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {waits}", tuple(unless)).fetchone()  # noqa: S608  constants
            if other is not None:
                database.execute("ROLLBACK")
                return _job(other), False
            job_id = secrets.token_hex(8)
            values = (job_id, kind, json.dumps(dict(request)), "queued", "", "{}", key_id, "", now, None, None, 0)
            marks = ", ".join("?" * len(values))
            database.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608  constants
            database.execute(
                "DELETE FROM jobs WHERE state IN ('done', 'failed') AND number <= (SELECT max(number) FROM jobs) - ?",
                (_KEPT,),
            )
            database.execute("COMMIT")
        return Job(job_id, kind, request, "queued", "", {}, key_id, "", now, None, None, 0), True

    # ---- what is asked of it ---------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """The job of that id."""
        return next(self._jobs("WHERE job_id = ?", job_id), None)

    def latest(self, kind: str) -> Job | None:
        """The job of that kind that was asked for last."""
        return next(self._jobs("WHERE kind = ? ORDER BY number DESC LIMIT 1", kind), None)

    def due(self) -> list[Job]:
        """The jobs that wait and may begin now, in the order in which they were asked for."""
        return list(self._jobs("WHERE state = 'queued' AND not_before <= ? ORDER BY number", _now_ms()))

    def running(self) -> list[Job]:
        """The jobs that run."""
        return list(self._jobs("WHERE state = 'running' ORDER BY number"))

    def _jobs(self, where: str, *values: Any) -> Iterator[Job]:
        if not self.path.exists():
            return
        with self._database() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values).fetchall()  # noqa: S608  constants
        yield from map(_job, rows)

    # ---- what the agent says of them -------------------------------------------------------------

    def start(self, job_id: str) -> None:
        """It runs now."""
        self._change(job_id, state="running", started=_now_ms(), reason="")

    def has_process(self, job_id: str, process: str) -> None:
        """It runs in this process."""
        self._change(job_id, process=process)

    def postpone(self, job_id: str, reason: str, seconds: float) -> None:
        """It is to be tried again, in so many seconds."""
        later = _now_ms() + int(seconds * 1000)
        self._change(job_id, state="queued", reason=reason, process="", not_before=later)

    def finish(self, job_id: str, reason: str = "", result: Mapping[str, Any] | None = None) -> None:
        """It is done, or, for a `reason`, it has failed. What was asked is kept, but for the id of a forgotten user."""
        state = "failed" if reason else "done"
        values = {"state": state, "reason": reason, "result": json.dumps(dict(result or {})), "process": ""}
        job = self.get(job_id)
        if job is not None and job.kind == "forget":
            values["request"] = "{}"
        self._change(job_id, **values, finished=_now_ms())

    def _change(self, job_id: str, **values: Any) -> None:
        with self._database() as database:
            names = ", ".join(f"{name} = ?" for name in values)
            database.execute(f"UPDATE jobs SET {names} WHERE job_id = ?", (*values.values(), job_id))  # noqa: S608  constants

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            if not self.path.exists():
                # A request may name a user: others need not read it.
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                # No write-ahead log: what is deleted is then off the disk when the call returns.
                database.execute("PRAGMA secure_delete = ON")
                database.execute("PRAGMA synchronous = FULL")
                if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone() is None:
                    database.execute(_TABLE)
                yield database
        except (sqlite3.Error, OSError) as error:
            text = " ".join(str(error).split())
            raise JobTableError(
                f"The table of jobs {self.path} can't be used ({text}); "
                "if it is damaged, stop the service and delete it"
            ) from None


def moment(ms: int | None) -> str | None:
    """A time in ISO 8601, UTC; None for none."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _job(row: tuple[Any, ...]) -> Job:
    job_id, kind, request, state, reason, result, *rest = row
    return Job(job_id, kind, json.loads(request), state, reason, json.loads(result), *rest)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
