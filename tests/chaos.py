"""Real jobs, killed with SIGKILL at random moments and started again, while a reader looks at the published table.

    python tests/chaos.py [--kills 20] [--seed 1] [--embedded-share 0.2] [--signal KILL|INT|TERM] [--folder PATH]

Two series. Over HTTP: train and score are clients of one engine in a process of its own, which lives on, and a reader
polls analytics.recommendations all the while. Embedded: the engine dies with the job, and a look follows each kill;
now and then in an empty folder, so that the first use of a store and of a warehouse is killed too.

Kills are spread evenly over four stages, which the job's own log lines tell (``--log-format json``): loading (the
store is opened, the run begun, the data or the model read), training (matrix, holdout, fit, judgement), logging
(artifacts, models, pages, registration) and publishing (ranking into the staged table, checks, the exchange, what is
kept). Within its stage a kill comes after a random share of the time that the stage took the last time; the stage it
hit is the one counted.

After each kill the same command is started again and must end with status 0. Then: rows as the artifacts give them,
no run left RUNNING, no staged table and no lock, every registered version whole, the store whole. Every poll must find
one whole set: one run, version and time, every user, ranks 1…k, distinct, known and unseen items, finite scores that
do not rise; and the rows that the artifacts of its run give. Exit status 1 where anything was otherwise; the folder is
then kept.

The jobs of the HTTP series are forked from a process that has imported what they need, so that a kill hits the work
and not Python's start; those of the embedded series are started as a user starts them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.artifact import FactorModel  # noqa: E402  the tree that this file stands in, wherever it is run from
from pipeline.errors import RanklineError  # noqa: E402
from pipeline.scorer import Scorer  # noqa: E402
from pipeline.warehouse import Warehouse, connect  # noqa: E402

N_USERS, N_ITEMS, TASTE, K = 300, 150, 25, 10
LOADING, TRAINING, LOGGING, PUBLISHING = STAGES = ("loading", "training", "logging", "publishing")
OF = {"read": LOADING, "log": LOGGING, "pages": LOGGING, "score": PUBLISHING, "publish": PUBLISHING}
PATIENCE = 240.0  # seconds for a job on a busy machine
PRELOADED = (
    "pipeline.cli", "pipeline.jobs.train", "pipeline.jobs.score", "pipeline.console", "pipeline.pictures",
    "pipeline.pyfunc", "mlflow.sklearn", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store", "sklearn.decomposition", "skops.io", "pandas", "jinja2",
    "clickhouse_connect", "clickhouse_connect.driver.httpclient", "matplotlib.figure", "scipy.stats", "numba",
)  # fmt: skip
UNSAID = (
    "SELECT run_uuid FROM runs WHERE status = 'KILLED' AND NOT EXISTS "
    "(SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = 'failure')"
)
READ = (
    "SELECT user_id, rank, item_id, score, source, model_version, run_id, generated_at FROM analytics.recommendations"
)
LEFT = (
    "SELECT name FROM system.tables WHERE database = 'analytics' "
    "AND (startsWith(name, 'recommendations_staged_') OR startsWith(name, 'publish_lock_'))"
)
KEPT = "SELECT count() AS n FROM system.tables WHERE database = 'analytics' AND name LIKE 'recommendations%'"


# ---- what is right ---------------------------------------------------------------------------


def interactions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) user ids, item ids and ratings: two tastes, everyone with more than K items unseen."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1, N_USERS + 1), TASTE)
    items = np.concatenate(
        [
            rng.choice(
                N_ITEMS, TASTE, replace=False, p=(w := np.where(np.arange(N_ITEMS) % 2 == u % 2, 4.0, 1.0)) / w.sum()
            )
            for u in range(N_USERS)
        ]
    )
    return users, 1000 + items, 1 + rng.integers(0, 5, users.size).astype(np.float32)


@dataclass(frozen=True)
class Rows:
    """A set, by (user, rank): `items` and `scores` have the shape (n_users, K)."""

    run_id: str
    at: int
    items: np.ndarray
    scores: np.ndarray

    @property
    def content(self) -> bytes:
        return self.items.tobytes() + self.scores.tobytes()


class Right:
    """What a set must be like, and which rows a run's artifacts give."""

    def __init__(self) -> None:
        users, items, _ = interactions()
        self.seen = np.zeros((N_USERS + 1, N_ITEMS), bool)
        self.seen[users, items - 1000] = True

    def check(self, table: pa.Table) -> Rows:
        """The set. Raises AssertionError, in words, where it is not whole or not right."""
        assert table.num_rows, "empty"
        marks = table.select(["run_id", "model_version", "generated_at", "source"])
        names = {
            tuple(str(one) for one in mark.values())
            for mark in marks.group_by(marks.column_names).aggregate([]).to_pylist()
        }
        assert len(names) == 1, f"a mix of {sorted(names)}"
        users, ranks, items, scores = (
            table.column(name).to_numpy() for name in ("user_id", "rank", "item_id", "score")
        )
        order = np.lexsort((ranks, users))
        users, ranks, items, scores = (column[order] for column in (users, ranks, items, scores))
        assert np.array_equal(users, np.repeat(np.arange(1, N_USERS + 1), K)), (
            f"{users.size} rows, of {np.unique(users).size} users"
        )
        assert np.array_equal(ranks, np.tile(np.arange(1, K + 1), N_USERS)), "ranks are not 1…k"
        assert ((items >= 1000) & (items < 1000 + N_ITEMS)).all(), "an unknown item"
        assert not self.seen[users, items - 1000].any(), "a seen item"
        items, scores = items.reshape(-1, K), scores.reshape(-1, K)
        assert all(np.unique(row).size == K for row in items), "an item twice"
        assert np.isfinite(scores).all(), "a score is not finite"
        assert (np.diff(scores, axis=1) <= 0).all(), "scores rise"
        at = int(table.column("generated_at").cast(pa.timestamp("ms", "UTC"))[0].value)
        return Rows(str(table.column("run_id")[0]), at, items, scores)

    def of(self, artifacts: Path) -> bytes:
        """The content of the set that is made from the artifacts, which are verified."""
        scorer = Scorer.load(artifacts)
        top = scorer.recommend_rows(np.arange(len(scorer.users)), K)
        return scorer.items.values[top.items].tobytes() + top.scores.astype(np.float32).tobytes()


# ---- jobs ------------------------------------------------------------------------------------


@dataclass
class Job:
    """A process of ours under way, and what its log lines say."""

    pid: int
    log: Any
    wait: Callable[[], int]
    command: str
    started: float = field(default_factory=time.monotonic)
    stage: str = LOADING
    begun: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False
    status: int | None = None

    def __post_init__(self) -> None:
        self.begun[LOADING] = self.started
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.log:
            self.lines.append(line.rstrip())
            try:
                stage = json.loads(line)["metadata"].get("stage")
            except (ValueError, KeyError, TypeError):
                continue
            if stage is not None:
                stage = OF.get(stage, TRAINING)
                with self.changed:
                    if stage not in self.begun:
                        self.stage, self.begun[stage] = stage, time.monotonic()
                        self.changed.notify_all()
        self.log.close()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def signal_in(self, stage: str, delay: float, number: signal.Signals) -> str | None:
        """Send the signal so many seconds into the stage; the stage it hit, None where the job was over by then."""
        with self.changed:
            self.changed.wait_for(lambda: stage in self.begun or self.over, PATIENCE)
            self.changed.wait_for(lambda: self.over, max(0.0, self.begun.get(stage, 0) + delay - time.monotonic()))
            hit = self.stage
        if self.over:
            return None
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return None
        return hit

    def end(self) -> int:
        """Its exit status, a signal's as −number; stopped where it hangs."""
        timer = threading.Timer(PATIENCE, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        self.status = self.wait()
        timer.cancel()
        self._listener.join(10)
        return self.status

    def durations(self) -> dict[str, float]:
        """Seconds by stage."""
        marks = [*self.begun.items(), ("", time.monotonic())]
        return {stage: marks[i + 1][1] - at for i, (stage, at) in enumerate(marks[:-1])}

    @property
    def said(self) -> str:
        """Its last lines, for a report."""
        return " | ".join(self.lines[-3:])[-700:]


class Nursery:
    """A process with everything imported, from which jobs are forked: see `nurse`."""

    def __init__(self, folder: Path) -> None:
        self.ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--nurse", str(theirs.fileno())],
            cwd=folder, pass_fds=[theirs.fileno()], env=environment(folder, ""), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self.answers = self.ours.makefile("r")
        self.answers.readline()

    def start(self, arguments: list[str], env: dict[str, str]) -> Job:
        read, write = os.pipe()
        socket.send_fds(self.ours, [json.dumps({"arguments": arguments, "env": env}).encode() + b"\n"], [write])
        os.close(write)
        pid = int(self.answers.readline())
        return Job(pid, os.fdopen(read, "r", errors="replace"), lambda: int(self.answers.readline()), arguments[0])

    def stop(self) -> None:
        self.answers.close()
        self.ours.close()
        self.process.wait()


def nurse(fd: int) -> None:
    """Fork a job for each request, one at a time; answers with its number, and with its status when it has ended."""
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    channel = socket.socket(fileno=fd)
    channel.send(b"ready\n")
    while True:
        text, fds, _, _ = socket.recv_fds(channel, 65536, 1)
        if not text:
            return
        request = json.loads(text)
        pid = os.fork()
        if pid == 0:
            channel.close()
            os.setsid()
            os.dup2(fds[0], 2)
            os.close(fds[0])
            os.environ.clear()
            os.environ.update(request["env"])
            from pipeline import cli

            try:
                cli.main(request["arguments"])
            except SystemExit as leave:
                sys.stderr.flush()
                os._exit(leave.code if isinstance(leave.code, int) else 1)
        os.close(fds[0])
        channel.send(f"{pid}\n".encode())
        channel.send(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())


def environment(folder: Path, dsn: str) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLINE_", "MLFLOW_"))}
    return {
        **keep,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "RANKLINE_WAREHOUSE": dsn,
        "OMP_NUM_THREADS": "1",
    }


def started(arguments: list[str], folder: Path, env: dict[str, str]) -> Job:
    """A job as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    return Job(process.pid, process.stderr, process.wait, arguments[0])


# ---- the reader ------------------------------------------------------------------------------


class Reader:
    """Looks at the published table again and again; from the first set on there must always be a whole one."""

    def __init__(self, right: Right) -> None:
        self.right = right
        self.polls = 0
        self.wrong: list[str] = []
        self.found: dict[tuple[str, int], bytes] = {}

    def look(self, warehouse: Warehouse, there: bool = True) -> Rows | None:
        """One poll; `there`: a set was published before."""
        self.polls += 1
        try:
            rows = self.right.check(warehouse.table(READ))
            content = self.found.setdefault((rows.run_id, rows.at), rows.content)
            assert content == rows.content, f"the set of run {rows.run_id} changed"
        except (AssertionError, RanklineError) as error:
            if there or not isinstance(error, RanklineError):
                self.wrong.append(f"{time.strftime('%X')} poll {self.polls}: {error}")
            return None
        return rows

    def keep_looking(self, dsn: str) -> Callable[[], None]:
        """Polls in a thread of its own until the function that is returned is called."""
        stop = threading.Event()

        def poll() -> None:
            published = False
            with connect(dsn) as warehouse:
                while not stop.wait(0.03):
                    published = self.look(warehouse, published) is not None or published

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(60)

        return end


# ---- a series --------------------------------------------------------------------------------


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
    """A home, its jobs and what they are judged by."""

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
            found = db.execute(text).fetchall()
        db.close()
        return found

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
        one = Series(
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
        job = one.start(arguments)
        hit = job.signal_in(LOADING, self.took["train", LOADING] * (0.4 + 2.0 * self.rng.random()), self.number)
        status = job.end()
        if hit is None:
            self.tally.over += 1
            return False
        self.tally.kills[self.name, hit] += 1
        Series.after(one, job, status)
        self.tally.restarts += 1
        again = one.start(arguments)
        if again.end() != 0:
            self.complain(f"first use, started again, ended with {again.status}: {again.said}; see {home}")
            return True
        self.tally.finished += 1
        if running := one.running():
            self.complain(f"first use: the run(s) {running} are left RUNNING")
        with one.warehouse() as warehouse:
            found = warehouse.rows(
                "SELECT (SELECT count() FROM raw.ratings) + (SELECT count() FROM raw.watched_movies) AS n"
            )
        if found != [{"n": 100_004}]:
            self.complain(f"first use: the sample has {found} interactions; see {home}")
        return True


# ---- all of it -------------------------------------------------------------------------------


def engine(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The engine behind an HTTP endpoint, in a process of its own, and its address."""
    program = [
        sys.executable,
        str(Path(__file__).with_name("clickhouse_http.py")),
        str(folder / "engine"),
        "chaos",
        "chaos",
    ]
    log = (folder / "engine.log").open("w")  # of clients that were killed it says that they broke off
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    return process, f"clickhouse://chaos:chaos@127.0.0.1:{int(process.stdout.readline())}"


def forget_log(dsn: str) -> None:
    """The test server remembers every statement; nobody asks it for them here."""
    from urllib.request import Request, urlopen

    address = "http://" + dsn.rpartition("@")[2]
    with urlopen(Request(f"{address}/-/clear", data=b"", method="POST"), timeout=30) as answer:
        answer.read()


def run(kills: int, seed: int, share: float, number: signal.Signals, folder: Path, console: Console) -> bool:
    right, tally, rng = Right(), Tally(), random.Random(seed)
    n_embedded = round(kills * share)
    n = {"HTTP": kills - n_embedded, "embedded": n_embedded}
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    readers = []
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("beginning", total=kills)

        def go_through(series: Series) -> None:
            readers.append(series.reader)
            try:
                series.warm_up()
                done = 0
                while done < n[series.name] and len(tally.wrong) < 20:
                    by_stage = {stage: tally.kills[series.name, stage] for stage in STAGES}
                    # Publishing last: by then there is another version to publish.
                    stage = min(STAGES, key=lambda one: (by_stage[one], one == PUBLISHING, rng.random()))
                    if series.kill(stage):
                        done += 1
                        wrong = len(tally.wrong) + sum(len(one.wrong) for one in readers)
                        bars.update(
                            task, advance=1, description=f"{series.name}: {series.reader.polls:,} polls, {wrong} wrong"
                        )
                    if series.name == "HTTP":
                        forget_log(series.dsn)
                series.polled_rows()
            except AssertionError as error:
                series.complain(f"it did not begin: {error}")

        if n["HTTP"]:
            server, dsn = engine(folder)
            nursery = Nursery(folder)
            series = Series("HTTP", folder / "http", dsn, nursery.start, right, tally, rng, number)
            stop = series.reader.keep_looking(dsn)
            try:
                go_through(series)
            finally:
                stop()
                nursery.stop()
                server.communicate("")
        if n["embedded"]:
            home = folder / "embedded"
            embedded = Embedded(
                "embedded",
                home,
                f"chdb://{home / 'warehouse'}",
                lambda a, e: started(a, home, e),
                right,
                tally,
                rng,
                number,
            )
            go_through(embedded)
    return report(tally, readers, kills, seed, number, folder, console)


def report(
    tally: Tally, readers: list[Reader], kills: int, seed: int, number: signal.Signals, folder: Path, console: Console
) -> bool:
    table = Table(title=f"{number.name}, seed {seed}", title_justify="left")
    table.add_column("")
    for stage in (*STAGES, "all"):
        table.add_column(stage, justify="right")
    for name in sorted({name for name, _ in tally.kills}):
        counts = [tally.kills[name, stage] for stage in STAGES]
        table.add_row(f"kills, {name}", *(str(one) for one in (*counts, sum(counts))))
    table.add_section()
    n_kills, n_wrong = sum(tally.kills.values()), sum(len(one.wrong) for one in readers)
    for name, value in (
        ("polls", f"{sum(one.polls for one in readers):,}"),
        ("wrong polls", n_wrong),
        ("sets seen", sum(len(one.found) for one in readers)),
        ("restarts that finished", f"{tally.finished} of {tally.restarts}"),
        ("runs RUNNING after a kill, ended by the restart", tally.left_running),
        ("other violations", len(tally.wrong)),
        ("jobs that were over before the kill came", tally.over),
    ):
        table.add_row(name, *[""] * len(STAGES), str(value))
    console.print(table)
    ok = n_kills >= kills and not n_wrong and not tally.wrong and tally.finished == tally.restarts
    for one in [*tally.wrong, *(line for reader in readers for line in reader.wrong)][:20]:
        console.print(f"wrong: {one}", markup=False, soft_wrap=True)
    console.print(f"verdict: {'unharmed' if ok else f'violations; everything is kept in {folder}'}", soft_wrap=True)
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded-share", type=float, default=0.2, help="of the kills, 0–1")
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one, removed if all is well")
    parser.add_argument("--nurse", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.nurse is not None:
        nurse(arguments.nurse)
        return 0
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="rankline-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    ok = run(
        arguments.kills,
        arguments.seed,
        arguments.embedded_share,
        signal.Signals[f"SIG{arguments.signal}"],
        folder,
        console,
    )
    if ok and arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
