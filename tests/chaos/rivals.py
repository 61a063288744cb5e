"""Two jobs that publish at once: one stopped past its lock, or held back by the network, while the other publishes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any
from urllib.request import Request, urlopen

from chaos.jobs import PUBLISHING, Job, environment
from chaos.series import Series

__all__ = ["FAULTS", "Rivals"]

FAULTS = STOPPED, HELD_BACK, AT_ONCE = ("stopped", "held back", "at once")
EXPIRY = 1.0  # seconds without a sign of life until a lock is another's
# Statements that move a table, drop one, or write the log.
EXCHANGE = "^EXCHANGE"
MOVES = r"^(RENAME|EXCHANGE|DROP TABLE)|^INSERT INTO [`.\w]*publications"
MOST_MOVES = 12
LAST = "SELECT toUnixTimestamp64Milli(max(generated_at)) AS at FROM analytics.publications WHERE action = 'published'"


class Rivals(Series):
    """Faults of two jobs, in a home of their own. Kills are counted under the fault instead of a stage."""

    def start(self, arguments: list[str]) -> Job:
        """With a short lock: what stands still past it stands still for a second or two."""
        self.reader.often = arguments[0] == "score"
        env = {**environment(self.folder, self.dsn), "RANKLINE_LOCK_EXPIRY": str(EXPIRY)}
        return self._start([*arguments, "--log-format", "json"], env)

    def next_stage(self) -> str:
        """The fault with the fewest times so far."""
        return min(FAULTS, key=lambda fault: (self.tally.kills[self.name, fault], self.rng.random()))

    def kill(self, stage: str) -> bool:
        """One fault; False where the job was over before it came."""
        if len(self.versions) < 3:
            assert self.complete(self.training()), self.tally.wrong
        late, rival = (["score", "--model", f"rankline/{v}"] for v in self.rng.sample(sorted(self.versions), 2))
        came = {STOPPED: self.stopped, HELD_BACK: self.held_back, AT_ONCE: self.at_once}[stage](late, rival)
        if not came:
            self.tally.over += 1
            return False
        self.tally.kills[self.name, stage] += 1
        self.tally.restarts += 1
        # A command that was told that it lost is run again, as its message says, and everything is in order then.
        self.tally.finished += self.complete(late)
        return True

    def stopped(self, late: list[str], rival: list[str]) -> bool:
        """SIGSTOP at a random moment of publishing; the rival takes the lock over and publishes; SIGCONT."""
        job = self.start(late)
        delay = self.rng.random() * self.took.get(("score", PUBLISHING), 1.0)
        if job.signal_in(PUBLISHING, delay, signal.SIGSTOP) is None:
            self.expect_end(job, late)
            return False
        self.let_rival_publish(rival)
        os.kill(job.pid, signal.SIGCONT)
        self.expect_end(job, late)
        self.expect_newest()
        return True

    def held_back(self, late: list[str], rival: list[str]) -> bool:
        """A random statement of the move arrives once the rival has published, and no sign of life in between."""
        # The exchange as often as all the others together: it is what could put an older set over a newer one.
        match, n = self.rng.choice(((EXCHANGE, 0), (MOVES, self.rng.randrange(MOST_MOVES))))
        self.control("clear")
        self.control("rules", [{"match": match, "skip": n, "do": "hold"}])
        job = self.start(late)
        while not job.over and self.count(match) <= n:
            time.sleep(0.02)
        if job.over:
            self.control("rules", [])
            self.expect_end(job, late)
            return False
        os.kill(job.pid, signal.SIGSTOP)
        self.let_rival_publish(rival)
        self.control("release")
        time.sleep(0.2)  # it runs now
        os.kill(job.pid, signal.SIGCONT)
        self.expect_end(job, late)
        self.expect_newest()
        return True

    def at_once(self, late: list[str], rival: list[str]) -> bool:
        """Both begin together, and each ends well or says that the other's set is newer."""
        jobs = [(arguments, self.start(arguments)) for arguments in (late, rival)]
        for arguments, job in jobs:
            self.expect_end(job, arguments)
        self.expect_newest()
        return True

    def let_rival_publish(self, arguments: list[str]) -> None:
        if self.start(arguments).end() != 0:
            self.complain(f"{' '.join(arguments)} beside a job that stands still did not publish")

    def expect_end(self, job: Job, arguments: list[str]) -> None:
        """Published; or not, because a newer set was (3), or because the lock was lost (4)."""
        status = job.end()
        lines = " ".join(job.lines)
        told = (status == 3 and "newer" in lines) or (status == 4 and re.search("lock .*lost|published over it", lines))
        if status != 0 and not told:
            self.complain(f"{' '.join(arguments)} ended with {status}: {job.said}")

    def expect_newest(self) -> None:
        """What is published is the newest of all that were, whatever the order of the moves."""
        with self.warehouse() as warehouse:
            rows = self.reader.look(warehouse)
            newest = warehouse.rows(LAST)[0]["at"]
        if rows is not None and rows.at < newest:
            self.complain(f"an older set stands: {rows.at}, and {newest} was published")

    def count(self, match: str) -> int:
        return sum(re.search(match, entry["statement"]) is not None for entry in self.control("log"))

    def control(self, what: str, body: Any = None) -> Any:
        """Of the test server: its rules, its log."""
        address = "http://" + self.dsn.rpartition("@")[2]
        with urlopen(Request(f"{address}/-/{what}", data=json.dumps(body).encode(), method="POST"), timeout=30) as done:
            return json.loads(done.read())
