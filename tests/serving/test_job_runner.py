"""The agent's side of jobs: processes that are watched, ended and followed up; comparisons; what one left."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.stored_evaluations import stored_evaluation

from pipeline.errors import ArtifactError, WarehouseInUseError
from pipeline.options import ServeOptions
from pipeline.runtime.process import ProcessIdentity
from pipeline.serving import job_process, job_runner
from pipeline.serving.job_runner import JobRunner
from pipeline.serving.job_table import Job, JobTable
from pipeline.serving.live_folder import LiveFolder, read_json
from pipeline.serving.service import ServiceConfig
from pipeline.serving.version_comparison import compare_versions
from pipeline.tracking import lookup


class Refreshed:
    """In place of the snapshot: counts how often it was written."""

    def __init__(self) -> None:
        self.count = 0

    def refresh(self, *, now: bool = False) -> None:
        self.count += now


class Runner:
    """A runner whose processes are scripts instead of commands."""

    def __init__(self, live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = LiveFolder(live)
        self.folder.make()
        config = ServiceConfig(ServeOptions(), live, "rankline", "sqlite:///none", config_file=live / "rankline.yaml")
        self.stopping, self.snapshot = threading.Event(), Refreshed()
        self.runner = JobRunner(config, self.folder, lambda: "", self.snapshot, self.stopping)
        self.table = JobTable(self.folder.jobs_path)
        self._patch = monkeypatch

    def program(self, text: str) -> None:
        self._patch.setattr(job_process, "_PROGRAM", (sys.executable, "-c", text))

    def until(self, job: Job, holds: Callable[[Job], bool]) -> Job:
        end = time.monotonic() + 60
        while True:
            self.runner.visit()
            now = self.table.get(job.job_id)
            if holds(now):
                return now
            assert time.monotonic() < end, now
            time.sleep(0.02)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    monkeypatch.setattr(job_process, "_LOOK_SECONDS", 0.02)
    made = Runner(tmp_path / "live", monkeypatch)
    yield made
    made.stopping.set()
    made.runner.close()


TRAINS = """
import json, os, sys
def line(message, **metadata):
    print(json.dumps({"message": message, "level": "info", "metadata": metadata}), file=sys.stderr)
with open(os.environ["RANKLINE_PROGRESS_FILE"], "a") as file:
    for stage, done, note in (("read", 1, ""), ("fit", 1, "loss 9.5"), ("fit", 2, "loss nan"), ("fit", 3, "loss 7")):
        file.write(json.dumps([stage, done, None, note]) + "\\n")
    file.write('["log", 0, null, ""]\\n')
line("read 7 interactions")
print("a warning of a library", file=sys.stderr)
line("log", stage="log")
line(json.dumps({"arguments": sys.argv[1:], "config": os.environ["RANKLINE_CONFIG"]}))
line("trained", version="3", run_id="r")
"""


def test_a_training_is_a_process_with_what_was_asked_for_and_is_seen(runner: Runner) -> None:
    runner.program(TRAINS)
    job, _ = runner.table.add("train", {"options": {"algorithm": "als", "n_components": 8, "split_cutoff": None}})
    done = runner.until(job, lambda job: job.ended)
    assert (done.state, done.reason, done.result["version"]) == ("done", "", "3")
    seen = read_json(runner.folder.training_snapshot)
    assert (seen["job_id"], seen["stage"], seen["loss"]) == (job.job_id, "log", [[1, 9.5], [3, 7.0]])
    first, second, third, fourth = seen["lines"]
    assert (first, second, fourth) == ("read 7 interactions", "a warning of a library", "trained")
    said = json.loads(third)
    options = ["--algorithm=als", "--n-components=8", "--split-cutoff=none"]
    head = ["train", "--name", "rankline", "--log-format", "json", "--on-interrupt=stop"]
    assert said == {"arguments": [*head, *options], "config": str(runner.folder.root / "rankline.yaml")}
    assert runner.snapshot.count == 1  # the new version is known when the job is done


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('import sys; sys.exit(\'{"message": "too little data", "level": "error"}\')', "too little data"),
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "it was ended by signal 9"),
    ],
)
def test_a_training_that_fails_says_why(runner: Runner, program: str, reason: str) -> None:
    runner.program(program)
    job, _ = runner.table.add("train", {"options": {}})
    failed = runner.until(job, lambda job: job.ended)
    assert (failed.state, failed.reason) == ("failed", reason)


def test_options_that_are_not_of_the_list_are_never_typed(runner: Runner) -> None:
    for request in ({"options": {"input": "/etc/passwd"}}, {"options": {"name": "x"}}, {}):
        job, _ = runner.table.add("train", request)
        runner.runner.visit()
        assert "can't be read" in runner.table.get(job.job_id).reason


def test_when_the_service_stops_a_training_is_asked_to_end_and_then_killed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_process, "_GRACE_SECONDS", 0.2)
    ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    for program in ("import time; print('begun', flush=True); time.sleep(600)", f"{ignores}time.sleep(600)"):
        runner.stopping.clear()
        runner.program(program)
        job, _ = runner.table.add("train", {"options": {}})
        running = runner.until(job, lambda job: job.state == "running" and job.process != "")
        runner.stopping.set()
        runner.runner.close()
        stopped = runner.table.get(job.job_id)
        assert (stopped.state, stopped.reason) == ("failed", "the service stopped while it ran")
        assert ProcessIdentity.of(running.process).dead


def test_a_forgetting_waits_for_the_warehouse(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_FIRST_PAUSE", 0.01)
    gate = runner.folder.root / "free"
    error = json.dumps({"message": "the warehouse is locked", "level": "error"})
    done = json.dumps(
        {"message": "forgotten", "level": "info", "metadata": {"rows": {"raw.ratings": 2}, "commands": []}}
    )
    runner.program(
        f"import os, sys\nassert sys.argv[1:] == ['forget', '--yes', '--log-format', 'json', '--', '-7']\n"
        f"print({done!r} if os.path.exists({str(gate)!r}) else {error!r}, file=sys.stderr)\n"
        f"sys.exit(0 if os.path.exists({str(gate)!r}) else 4)"
    )
    job, _ = runner.table.add("forget", {"user": "-7"})
    waiting = runner.until(job, lambda job: job.state == "queued" and job.reason != "")
    assert (waiting.reason, waiting.request) == ("the warehouse is locked", {"user": "-7"})
    gate.touch()
    ended = runner.until(job, lambda job: job.ended)
    assert (ended.state, ended.reason, ended.result) == ("done", "", {"rows": {"raw.ratings": 2}})
    assert ended.request == {}
    assert list(runner.folder.jobs.iterdir()) == []


def test_a_training_waits_for_the_embedded_warehouse_and_begins_anew(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "_FIRST_PAUSE", 0.01)
    gate = runner.folder.root / "free"
    in_use = {"message": "it is in use", "level": "error", "metadata": {"error": WarehouseInUseError.__name__}}
    runner.program(f"import os, sys\nif not os.path.exists({str(gate)!r}): sys.exit({json.dumps(in_use)!r})\n{TRAINS}")
    job, _ = runner.table.add("train", {"options": {}})
    waiting = runner.until(job, lambda job: job.state == "queued" and job.reason != "")
    assert (waiting.reason, waiting.finished) == ("it is in use", None)
    assert runner.table.add("train", {}, unless=("train",))[1] is False  # it counts as one that runs
    gate.touch()
    done = runner.until(job, lambda job: job.ended)
    assert (done.state, done.reason, done.result["version"]) == ("done", "", "3")
    lines = read_json(runner.folder.training_snapshot)["lines"]
    assert (len(lines), lines[0]) == (4, "read 7 interactions")  # of the last try alone


def test_a_training_waits_for_a_forgetting_that_runs(runner: Runner) -> None:
    gate = runner.folder.root / "free"
    runner.program(
        f"import os, sys, time\nwhile 'forget' in sys.argv and not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    )
    forget, _ = runner.table.add("forget", {"user": "7"})
    train, _ = runner.table.add("train", {"options": {}})
    runner.until(forget, lambda job: job.state == "running")
    for _ in range(3):
        runner.runner.visit()
    assert runner.table.get(train.job_id).state == "queued"
    gate.touch()
    assert runner.until(train, lambda job: job.ended).state == "done"
    assert runner.table.get(forget.job_id).state == "done"


def test_a_forgetting_that_is_refused_is_not_tried_again(runner: Runner) -> None:
    line = json.dumps({"message": "rows are left", "level": "error"})
    runner.program(f"import sys; print({line!r}, file=sys.stderr); sys.exit(3)")
    job, _ = runner.table.add("forget", {"user": "7"})
    assert runner.until(job, lambda job: job.ended).reason == "rows are left"


def test_what_a_killed_agent_left_running_is_ended(runner: Runner) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    jobs = {kind: runner.table.add(kind, {"user": "7"})[0] for kind in ("train", "forget", "activate", "compare")}
    for job in jobs.values():
        runner.table.start(job.job_id)
    runner.table.has_process(jobs["train"].job_id, ProcessIdentity.with_pid(child.pid).text)
    # A number that another process has by now is left alone.
    reused = ProcessIdentity.me()
    runner.table.has_process(jobs["forget"].job_id, ProcessIdentity(reused.host, reused.pid, "1").text)
    runner.runner.begin()
    assert child.wait(30) == -15
    after = {kind: runner.table.get(job.job_id) for kind, job in jobs.items()}
    assert {kind: job.state for kind, job in after.items()} == {
        "train": "failed", "forget": "queued", "activate": "failed", "compare": "failed"
    }  # fmt: skip
    assert after["train"].reason == "the agent ended while it ran"
    assert "which version is champion" in after["activate"].reason
    assert [job.kind for job in runner.table.due()] == ["forget"]


def test_a_damaged_table_is_said_and_stops_nothing(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    runner.folder.jobs_path.write_bytes(b"damaged, and no database at all " * 40)
    runner.runner.begin()
    runner.runner.visit()
    runner.folder.jobs_path.unlink()
    runner.program(TRAINS)
    job, _ = runner.table.add("train", {"options": {}})
    assert runner.until(job, lambda job: job.ended).state == "done"


# ---- comparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["5" * 64, "6" * 64])
def test_two_evaluations_user_by_user_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    folder = LiveFolder(tmp_path)
    folder.make()
    rng = np.random.default_rng(0)
    ndcg = rng.random(50)
    found = {"r1": stored_evaluation(ndcg), "r2": stored_evaluation(ndcg + 0.25, split=split), "r3": None}
    monkeypatch.setattr(lookup, "evaluation_of", lambda run: found[run.run_id])

    def compared(a: str, b: str) -> dict[str, object]:
        compare_versions(folder, {"a": {"run_id": a, "label": "rankline/1"}, "b": {"run_id": b, "label": "rankline/2"}})
        return read_json(folder.comparison(a, b))

    value = compared("r1", "r2")
    if split == "5" * 64:
        assert value["reason"] == ""
        assert set(value["difference"]) == {"ndcg_at_10"}  # not the baseline's
        row = value["difference"]["ndcg_at_10"]
        assert row["a"] == pytest.approx(ndcg.mean())
        assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.25, 0.25, 0.25))
    else:
        assert (value["difference"], "different splits" in value["reason"]) == ({}, True)
    assert "without a holdout" in compared("r1", "r3")["reason"]

    def broken(run: object) -> None:
        raise ArtifactError("gone")

    monkeypatch.setattr(lookup, "evaluation_of", broken)
    assert compared("r2", "r1") == {"difference": {}, "reason": "gone"}
