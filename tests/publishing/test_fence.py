"""A job that stands still past its lock, anywhere: what it sends when it wakes up changes nothing any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import HttpServer
from support.fork import Forked
from support.processes import ROOT
from support.stopped import publish

from pipeline.publishing import published_tables
from pipeline.publishing.published_tables import PublishedSet
from pipeline.warehouse import Warehouse, connect

pytest_plugins = ["support.warehouse_fixtures"]

EXPIRY = 0.3  # nobody competes but with a job that stands still: it can be short on any machine
LONG_EXPIRY = 12.0
PARTS = 2  # of the statements, for tests that run side by side
OLD = ("run-0", "run-1", "run-2")


class Job:
    """The process of `support.stopped`."""

    def __init__(self, server: HttpServer, expiry: float = EXPIRY) -> None:
        program = ["python", str(ROOT / "tests" / "support" / "stopped.py"), server.dsn, str(expiry)]
        self.process = Forked(program, os.environ, ROOT, (subprocess.PIPE, subprocess.PIPE, 2))

    def begin(self, job: str, run: str, stop: int = 0) -> None:
        """Until its rows are written, and its lock is not taken yet."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"job": job, "run": run, "stop": stop}) + "\n")
        self.process.stdin.flush()
        assert self.answer() == {"ready": True}

    def answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def stopped(self, seconds: float = 240) -> bool:
        """Wait until it has stopped itself; False where it has ended its job before."""
        end_at = time.monotonic() + seconds
        while time.monotonic() < end_at:
            if self.state == "T":
                return True
            time.sleep(0.02)
        return False

    @property
    def state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def job(http_server: HttpServer) -> Iterator[Job]:
    new_job = Job(http_server)
    yield new_job
    new_job.process.kill()
    new_job.process.communicate()


def begun(server: HttpServer) -> Warehouse:
    """A connection to an empty warehouse into which three sets were published, one after the other.

    They are published once in a test, and copied for every job after that.
    """
    warehouse = connect(server.dsn)
    if tables := warehouse.rows("SELECT name FROM system.tables WHERE database = 'begun'"):
        server.rules()
        warehouse.command("DROP DATABASE analytics SYNC")
        copy(warehouse, tables, "begun", "analytics")
        return warehouse
    server.reset()
    for run in OLD:
        publish(warehouse, run, EXPIRY, limits=None)
    tables = warehouse.rows("SELECT name FROM system.tables WHERE database = 'analytics'")
    copy(warehouse, tables, "analytics", "begun")
    return warehouse


def copy(warehouse: Warehouse, tables: list[dict], source: str, target: str) -> None:
    """The tables of a database, in a new one."""
    warehouse.command(f"CREATE DATABASE {target}")
    for table in tables:
        warehouse.command(f"CREATE TABLE {target}.{table['name']} CLONE AS {source}.{table['name']}")


def stands(warehouse: Warehouse) -> dict[str, PublishedSet]:
    """Every set by its run; none is there twice."""
    versions = published_tables.sets(warehouse)
    by_run = {entry.run_id: entry for entry in versions.values()}
    assert len(by_run) == len(versions), versions
    return by_run


def check(warehouse: Warehouse, kind: str, outcome: str) -> None:
    """The newest set stands, nothing is lost, everything lies under its own name, and the job says what it did."""
    tables = stands(warehouse)
    assert tables["run-new"].table == "recommendations", (outcome, tables)
    assert set(OLD) <= set(tables), (outcome, tables)
    log = {
        (row["action"], row["run_id"]) for row in warehouse.rows("SELECT action, run_id FROM analytics.publications")
    }
    if kind == "publish":
        assert outcome == "published" or outcome.startswith(("LockLostError", "CheckFailedError: Not published")), (
            outcome
        )
        assert outcome != "published" or "run-late" in tables, outcome
        before = tables.get("run-late", tables["run-2"])
    else:
        assert outcome == "run-2 -> run-1" or outcome.startswith("LockLostError"), outcome
        moved = outcome == "run-2 -> run-1" or "published over it" in outcome
        assert moved <= (("rolled back", "run-2") in log), (outcome, log)
        before = tables["run-1" if ("rolled back", "run-2") in log else "run-2"]
    assert before.table == "recommendations_previous", (outcome, tables)
    rest = [entry for entry in tables.values() if entry not in (tables["run-new"], before)]
    assert all(entry.table == entry.kept_name for entry in rest), (outcome, tables)
    names = {row["name"] for row in warehouse.rows("SELECT name FROM system.tables WHERE database = 'analytics'")}
    words = ("moving", "lock") if "CheckFailed" in outcome else ("moving", "lock", "staged")
    assert not {name for name in names if any(word in name for word in words)}, (outcome, names)


def stops(writes: list[bool]) -> list[int]:
    """Numbers of statements from 1: each that writes, and of those between two that only read the first and the middle.

    What was read before a stop and what after differs with the place between two writes; at its start all of it is
    read after the stop, before a write all of it before.
    """
    begins = [i for i, _ in enumerate(writes) if i == 0 or writes[i - 1]]  # what is read after a write
    ends = [writes.index(True, i) for i in begins]
    return sorted({1 + i for begin, end in zip(begins, ends, strict=True) for i in (begin, (begin + end) // 2, end)})


def test_where_a_job_is_stopped() -> None:
    assert stops([False, False, False, False, True, True, False, True]) == [1, 3, 5, 6, 7, 8]


@pytest.mark.takes(15)
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["publish", "roll back"])
def test_stopped_past_the_lock_at_each_write_and_among_the_reads(
    http_server: HttpServer, job: Job, kind: str, part: int
) -> None:
    with begun(http_server):
        job.begin(kind, "run-late")
        writes = job.answer()["writes"]
    assert len(writes) > 20, "the statements of taking the lock, of the moves and of giving the lock back"
    assert writes[-1], "the lock is given back"
    outcomes = []
    for stop in stops(writes)[::-1][part::PARTS]:
        with begun(http_server) as warehouse:
            job.begin(kind, "run-late", stop)
            assert job.stopped(), stop
            # It waits for the lock to run out, where the other holds it.
            assert publish(warehouse, "run-new", EXPIRY, limits=None) == "published"
            job.signal(signal.SIGCONT)
            outcome = str(job.answer()["outcome"])
            outcomes.append(outcome.partition(":")[0])
            if outcome != "run-new -> run-2":  # it had no lock yet, and goes back from what it finds
                check(warehouse, kind, outcome)
    assert "LockLostError" in outcomes
    if not part:
        assert outcomes[0] in ("published", "run-2 -> run-1"), "stopped before it gives the lock back, it was done"


MOVES = r"^(RENAME|EXCHANGE|DROP TABLE)|^INSERT INTO [`.\w]*publications"


@pytest.mark.takes(15)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["publish", "roll back"])
def test_a_statement_that_the_network_holds_back_past_the_lock(http_server: HttpServer, job: Job, kind: str) -> None:
    """Each that moves, drops or writes the log: it arrives once another job has published."""
    with begun(http_server):
        http_server.clear()
        job.begin(kind, "run-late")
        job.answer()
        moves = [statement["statement"] for statement in http_server.log(MOVES)]
    assert {"EXCHANGE", "RENAME", "DROP", "INSERT"} == {move.split()[0] for move in moves}
    for number in range(kind == "publish", len(moves)):  # the first row of the log is of the start, before any lock
        with begun(http_server) as warehouse:
            http_server.clear()
            http_server.rules({"match": MOVES, "skip": number, "do": "hold"})
            job.begin(kind, "run-late")
            while len(http_server.log(MOVES)) <= number:
                time.sleep(0.02)
            job.signal(signal.SIGSTOP)
            assert publish(warehouse, "run-new", EXPIRY, limits=None) == "published"
            http_server.release()
            time.sleep(0.2)  # it runs now
            job.signal(signal.SIGCONT)
            check(warehouse, kind, str(job.answer()["outcome"]))


@pytest.mark.takes(20)
@pytest.mark.slow
def test_stopped_at_the_exchange_for_longer_than_a_lock_lasts(own_server: HttpServer) -> None:
    """The same once with a lock that is alive every second, as long as its job is."""
    job = Job(own_server, LONG_EXPIRY)
    try:
        with begun(own_server) as warehouse:
            own_server.clear()  # of what made the sets
            own_server.rules({"match": "^EXCHANGE", "do": "hold"})
            job.begin("publish", "run-late")
            while not own_server.log(
                "^EXCHANGE.*_staged_[0-9A-Za-z_]+ AND analytics.recommendations$",
            ):
                time.sleep(0.05)
            job.signal(signal.SIGSTOP)
            start = time.monotonic()
            assert publish(warehouse, "run-new", LONG_EXPIRY) == "published"
            assert time.monotonic() - start > 0.8 * LONG_EXPIRY
            own_server.release()
            time.sleep(0.5)
            job.signal(signal.SIGCONT)
            outcome = str(job.answer()["outcome"])
            assert outcome.startswith("LockLostError"), outcome
            check(warehouse, "publish", outcome)
    finally:
        job.process.kill()
        job.process.communicate()
