"""A home, its jobs one after the other, each killed and started again, and what is looked at after each."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from chaos.expected import Reader, Right, interactions
from chaos.jobs import LOADING, PUBLISHING, STAGES, Job, environment

from pipeline.errors import RanklineError
from pipeline.models.factor_model import FactorModel
from pipeline.warehouse import Warehouse, connect

UNSAID = (
    "SELECT run_uuid FROM runs WHERE status = 'KILLED' AND NOT EXISTS "
    "(SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = 'failure')"
)
# What a check refused stays for a day.
REFUSED = "name IN (SELECT staged FROM analytics.publications WHERE action = 'refused')"
LEFT = (
    f"SELECT name FROM system.tables WHERE database = 'analytics' AND NOT {REFUSED} "
    "AND (startsWith(name, 'recommendations_staged_') OR startsWith(name, 'publish_lock_') "
    "OR name LIKE 'recommendations%\\_moving\\_%')"
)
KEPT = (
    "SELECT count() AS n FROM system.tables "
    f"WHERE database = 'analytics' AND name LIKE 'recommendations%' AND NOT {REFUSED}"
)


@dataclass
class Tally:
    """What came of it."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    over: int = 0
    restarts: int = 0
    finished: int = 0
    left_running: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)


class Series:
    """A home, its jobs and what they are checked by."""

    def __init__(
        self, name: str, folder: Path, dsn: str, start: Callable[[list[str], dict[str, str]], Job], right: Right,
        tally: Tally, rng: random.Random, number: signal.Signals,
    ) -> None:  # fmt: skip
        self.name, self.folder, self.dsn, self._start = name, folder, dsn, start
        self.right, self.tally, self.rng, self.number = right, tally, rng, number
        self.reader = Reader(right)
        self.took: dict[tuple[str, str], float] = {}
        self.expected: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.seeds = 0
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, arguments: list[str]) -> Job:
        self.reader.often = arguments[0] == "score"
        return self._start([*arguments, "--log-format", "json"], environment(self.folder, self.dsn))

    def complain(self, what: str) -> None:
        self.tally.wrong.append(f"{self.name}, after kill {sum(self.tally.kills.values())}: {what}")

    def warm_up(self) -> None:
        """Data, a version and a first published set; how long each stage takes."""
        users, items, ratings = interactions()
        assert self.complete(["init"]), self.tally.wrong
        with connect(self.dsn) as warehouse:
            at = pa.array(1_700_000_000_000 + 60_000 * np.arange(users.size), pa.timestamp("ms", "UTC"))
            columns = {"user_id": users, "movie_id": items, "rating": ratings, "rated_at": at}
            warehouse.insert("raw.ratings", pa.table(columns))
        assert self.complete(self.training()), self.tally.wrong
        assert self.complete(["score"]), self.tally.wrong

    def training(self) -> list[str]:
        """Another seed each time, so that each version has rows of its own."""
        self.seeds += 1
        return ["train", "--max-iter", "30", "--random-state", str(self.seeds), "--threads", "1"]

    def scoring(self) -> list[str]:
        """Of another version than the published one: there is something to exchange."""
        with self.warehouse() as warehouse:
            rows = self.reader.look(warehouse)
        others = [version for version, run in self.versions.items() if rows is None or run != rows.run_id]
        return ["score", "--model", f"rankline/{self.rng.choice(others)}" if others else "rankline"]

    def warehouse(self) -> Warehouse:
        return connect(self.dsn)

    def complete(self, arguments: list[str]) -> bool:
        """Run a command to its end and look at everything."""
        job = self.start(arguments)
        status = job.end()
        if status != 0:
            self.complain(f"{' '.join(arguments)} ended with {status}: {job.said}")
            return False
        for stage, seconds in job.durations().items():
            self.took[arguments[0], stage] = seconds
        self.look_at_store()
        if arguments[0] == "score":
            self.look_at_tables(arguments)
        return True

    def next_stage(self) -> str:
        """The stage with the fewest kills so far; publishing last: by then there is another version to publish."""
        kills = {stage: self.tally.kills[self.name, stage] for stage in STAGES}
        return min(STAGES, key=lambda stage: (kills[stage], stage == PUBLISHING, self.rng.random()))

    def kill(self, stage: str) -> bool:
        """Kill a command in the stage and start it again; False where it was over before the kill came."""
        of_score = stage == PUBLISHING or (stage == LOADING and len(self.versions) > 1 and self.rng.random() < 0.5)
        command = "score" if of_score else "train"
        arguments = self.scoring() if command == "score" else self.training()
        job = self.start(arguments)
        hit = job.signal_in(stage, self.rng.random() * self.took.get((command, stage), 1.0), self.number)
        status = job.end()
        if hit is None or (self.number == signal.SIGKILL and status != -signal.SIGKILL):
            self.tally.over += 1
            if hit is None and status:
                self.complain(f"{' '.join(arguments)} ended with {status} by itself: {job.said}")
            self.look_at_store()
            return False
        self.tally.kills[self.name, hit] += 1
        self.after(job, status)
        self.tally.restarts += 1
        self.tally.finished += self.complete(arguments)
        return True

    def after(self, job: Job, status: int) -> None:
        """Between a kill and the restart."""
        self.tally.left_running += len(self.running())
        if self.number != signal.SIGKILL:
            if status not in (0, 130):
                self.complain(f"{job.command} ended with {status} after {self.number.name}: {job.said}")
            if any("Traceback" in line for line in job.lines):
                self.complain(f"a traceback after {self.number.name}: {' | '.join(job.lines)[-3000:]}")
            if running := self.running():
                self.complain(f"after {self.number.name} the run(s) {running} are RUNNING")

    def running(self) -> list[str]:
        return [run for (run,) in self.query("SELECT run_uuid FROM runs WHERE status = 'RUNNING'")]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        path = self.folder / "mlflow.db"
        if not path.exists():
            return []
        with sqlite3.connect(path, timeout=60) as db:
            rows_read = db.execute(text).fetchall()
        db.close()
        return rows_read

    def look_at_store(self) -> None:
        """No run is left RUNNING, every version is whole, the store's file too."""
        if running := self.running():
            self.complain(f"the run(s) {running} are left RUNNING")
        reasons = self.query(UNSAID)
        if reasons:
            self.complain(f"the KILLED run(s) {reasons} do not say why")
        if self.query("PRAGMA integrity_check") not in ([], [("ok",)]) or self.query("PRAGMA foreign_key_check"):
            self.complain("the store's file is broken")
        for version, run_id, status, source in self.query(
            "SELECT version, run_id, status, storage_location FROM model_versions"
        ):
            if str(version) in self.versions:
                continue
            self.versions[str(version)] = run_id
            try:
                assert status == "READY", status
                (home,) = self.query(f"SELECT artifact_uri FROM runs WHERE run_uuid = '{run_id}'")[0]
                self.expected[run_id] = self.right.of(Path(home.removeprefix("file://")))
                logged = list(Path(source.removeprefix("file://")).rglob("metadata.json"))
                assert logged, f"no artifacts in {source}"
                for path in logged:
                    FactorModel.load(path.parent)
            except (AssertionError, RanklineError, OSError, IndexError) as error:
                self.complain(f"version {version} (run {run_id}) is not whole: {error!r}")

    def look_at_tables(self, arguments: list[str]) -> None:
        """The published rows are those of the version that was asked for; nothing is left lying about."""
        with self.warehouse() as warehouse:
            rows = self.reader.look(warehouse)
            left = [row["name"] for row in warehouse.rows(LEFT)]
            n_sets = warehouse.rows(KEPT)[0]["n"]
        wanted = (
            arguments[2].rpartition("/")[2]
            if len(arguments) > 1 and "/" in arguments[2]
            else max(self.versions, key=int)
        )
        if rows is not None and rows.run_id != self.versions[wanted]:
            self.complain(f"{' '.join(arguments)} left the rows of run {rows.run_id}")
        if left:
            self.complain(f"left behind: {left}")
        if n_sets > 6:
            self.complain(f"{n_sets} sets are kept")

    def polled_rows(self) -> None:
        """Every set that was ever seen has the rows that the artifacts of its run give."""
        for (run_id, _), content in self.reader.found.items():
            if content != self.expected.get(run_id):
                self.reader.wrong.append(f"the set of run {run_id} has other rows than its artifacts give")


class Embedded(Series):
    """The engine dies with the job; now and then everything begins in an empty folder."""

    fresh = 0

    def kill(self, stage: str) -> bool:
        if stage == LOADING and self.rng.random() < 0.4:
            return self.kill_first_use()
        return super().kill(stage)

    def after(self, job: Job, status: int) -> None:
        super().after(job, status)
        with self.warehouse() as warehouse:
            self.reader.look(warehouse)

    def kill_first_use(self) -> bool:
        """The first command of all, in an empty folder: it makes the store and loads the sample."""
        self.fresh += 1
        home = self.folder / f"first{self.fresh}"
        first = Series(
            f"{self.name}, first use",
            home,
            f"chdb://{home / 'warehouse'}",
            self._start,
            self.right,
            self.tally,
            self.rng,
            self.number,
        )
        arguments = ["train", "--max-iter", "2", "--holdout", "0", "--threads", "1"]
        job = first.start(arguments)
        hit = job.signal_in(LOADING, self.took["train", LOADING] * (0.4 + 2.0 * self.rng.random()), self.number)
        status = job.end()
        if hit is None:
            self.tally.over += 1
            return False
        self.tally.kills[self.name, hit] += 1
        Series.after(first, job, status)
        self.tally.restarts += 1
        again = first.start(arguments)
        if again.end() != 0:
            self.complain(f"first use, started again, ended with {again.status}: {again.said}; see {home}")
            return True
        self.tally.finished += 1
        if running := first.running():
            self.complain(f"first use: the run(s) {running} are left RUNNING")
        with first.warehouse() as warehouse:
            rows_read = warehouse.rows(
                "SELECT (SELECT count() FROM raw.ratings) + (SELECT count() FROM raw.watched_movies) AS n"
            )
        if rows_read != [{"n": 100_004}]:
            self.complain(f"first use: the sample has {rows_read} interactions; see {home}")
        return True
