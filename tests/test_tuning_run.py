"""A search as it stands in MLflow, and what a kill or Ctrl-C leaves of it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, Home, end

pytest_plugins = ["homes"]
pytestmark = pytest.mark.slow
pytest.importorskip("optuna")

METRIC = "validation_ndcg_at_10"


@pytest.fixture
def ratings(home: Home) -> Path:
    """Small, with two tastes."""
    rng = np.random.default_rng(0)
    rows = [
        f"u{u},{i},{1 + (u + i) % 5},{1_700_000_000 + int(rng.integers(10**7))}"
        for u in range(40)
        for i in rng.choice(50, 12, replace=False)
        if rng.random() < (0.95 if (u + i) % 2 else 0.3)
    ]
    path = home.folder / "ratings.csv"
    path.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    return path


def children(home: Home, parent) -> dict[str, object]:
    """Nested runs by name."""
    return {
        run.info.run_name: run for run in home.runs() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }


def parents(home: Home) -> list:
    """Newest first."""
    return [run for run in home.runs() if "mlflow.parentRunId" not in run.data.tags]


def options(ratings: Path, *more: str) -> tuple[str, ...]:
    quick = ("--max-iter", "20", "--threads", "1")
    return ("tune", "--source", "file", "--input", str(ratings), *quick, *more)


def tune(home: Home, ratings: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return home.run(sys.executable, "-m", "pipeline", *options(ratings, *more), env={"PYTHONPATH": str(ROOT)})


def test_mlflow_run_then_what_it_left(home: Home) -> None:
    command = ("mlflow", "run", str(ROOT), "--env-manager", "local", "--experiment-name", "rankline", "-e", "tune")
    done = home.run(*command, "-P", "trials=3", "-P", "max_iter=10", "-P", "transform=binary")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "better than most popular: yes, +" in done.stdout
    assert "next: rankline promote, then rankline score" in done.stdout
    (parent,) = parents(home)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "tune · warehouse"
    params, metrics, tags = parent.data.params, parent.data.metrics, parent.data.tags
    assert params.items() >= {"trials": "3", "transform": "binary", "n_components": "auto", "timeout": "none"}.items()
    assert "best_transform" not in params  # a value was given: it stays
    assert metrics["n_trials"] == 3
    assert metrics["test_ndcg_at_10"] > metrics["test_popular_ndcg_at_10"] > 0
    for name in ("popular", "recent", "item_knn"):
        assert {f"validation_{name}_ndcg_at_10", f"test_{name}_ndcg_at_10", f"test_{name}_recall_at_10"} <= set(metrics)
    assert metrics["test_lift_over_popular_low"] <= metrics["test_lift_over_popular"]
    assert tags["better_than_popular"] == "yes"
    below = children(home, parent)
    trials = [below.pop(f"trial {number}") for number in range(3)]
    (winner,) = below.values()
    best = max(trials, key=lambda run: run.data.metrics.get(METRIC, 0) * (run.data.tags["trial_state"] == "complete"))
    assert metrics[f"best_{METRIC}"] == best.data.metrics[METRIC]
    assert trials[0].data.params["n_components"] == "10"
    assert trials[0].data.tags["trial_state"] == "complete"
    assert all(run.info.end_time >= run.info.start_time > 1.7e12 for run in trials)
    # The winner's training is a training like any other, of the best trial's options, and what is registered.
    assert winner.info.run_name == f"winner: trial {best.info.run_name.removeprefix('trial ')}"
    assert winner.data.params.items() >= best.data.params.items()
    assert {f"best_{name}": value for name, value in best.data.params.items()}.items() <= params.items()
    assert winner.data.tags["tuned_from"] == parent.info.run_id
    assert winner.data.metrics["holdout_ndcg_at_10"] == pytest.approx(metrics["test_ndcg_at_10"], abs=1e-12)
    (version,) = home.client().search_model_versions("name = 'rankline'")
    assert version.run_id == winner.info.run_id
    assert tags["model_version"] == str(version.version)
    folder = home.folder / "artifacts"
    assert (folder / winner.info.run_id / "artifacts" / "user_features.npy").is_file()
    assert (folder / parent.info.run_id / "artifacts" / "trials.png").read_bytes()[:4] == b"\x89PNG"
    with (folder / parent.info.run_id / "artifacts" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [run.data.tags["trial_state"] for run in trials]
    history = home.client().get_metric_history(parent.info.run_id, f"best_{METRIC}")
    assert [point.value for point in history] == sorted(point.value for point in history)


# A search that is held after its third trial, as a long one would be.
HELD = """
import sys, time
import pipeline.jobs.tune as job
from pipeline.cli import main
ended = job._Log.ended
def slow(self, trial):
    ended(self, trial)
    if trial.number == 2:
        print("three", flush=True)
        time.sleep(60)
job._Log.ended = slow
main(sys.argv[1:])
"""


def held(home: Home, ratings: Path, *more: str) -> subprocess.Popen[str]:
    process = home.start(sys.executable, "-c", HELD, *options(ratings, *more), env={"PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    assert process.stdout.readline() == "three\n", process.communicate()
    return process


def test_after_a_kill_it_goes_on(home: Home, ratings: Path) -> None:
    process = held(home, ratings, "--trials", "5")
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    assert [run.info.status for run in parents(home)] == ["RUNNING"]
    done = tune(home, ratings, "--trials", "5")
    assert done.returncode == 0, done.stderr
    assert "resuming: 3 of 5 trials are done" in done.stderr
    newest, killed = parents(home)
    assert (newest.info.status, killed.info.status) == ("FINISHED", "KILLED")
    assert killed.data.tags["failure"].startswith("its process was killed")
    assert newest.data.tags["resumed_from"] == killed.info.run_id
    assert set(children(home, killed)) == {"trial 0", "trial 1", "trial 2"}
    assert set(children(home, newest)) >= {"trial 3", "trial 4"}
    assert newest.data.metrics["n_trials"] == 5
    # The same search at one sitting finds the same.
    whole = tune(home, ratings, "--trials", "5", "--resume", "no")
    assert whole.returncode == 0, whole.stderr
    tables = [
        (home.folder / "artifacts" / run.info.run_id / "artifacts" / "trials.csv").read_text()
        for run in parents(home)[:2]
    ]
    without_seconds = [[row[:3] + row[4:] for row in csv.reader(table.splitlines())] for table in tables]
    assert without_seconds[0] == without_seconds[1]


@pytest.mark.parametrize("answer", ["stop", "keep"])
def test_ctrl_c(home: Home, ratings: Path, answer: str) -> None:
    process = held(home, ratings, "--trials", "5", "--on-interrupt", answer)
    try:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        end(process)
    (parent,) = parents(home)
    versions = home.client().search_model_versions("name = 'rankline'")
    assert "Traceback" not in stderr
    assert (home.folder / "artifacts" / parent.info.run_id / "artifacts" / "trials.csv").is_file()
    if answer == "stop":
        assert process.returncode == 130
        assert parent.info.status == "KILLED"
        assert parent.data.tags["failure"] == "interrupted"
        assert not versions
    else:
        assert process.returncode == 0, stderr
        assert "interrupted, and kept: the best of 3 trials" in stderr
        assert parent.info.status == "FINISHED"
        assert parent.data.tags["search_ended"] == "interrupted"
        assert [str(one.version) for one in versions] == ["1"]


def test_a_wrong_search_and_a_missing_extra_fail_in_one_line(home: Home, ratings: Path) -> None:
    done = tune(home, ratings, "--search", "depth")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --search can't search depth; it can ")
    without = "import sys; sys.modules['optuna'] = None; from pipeline.cli import main; main(sys.argv[1:])"
    done = home.run(sys.executable, "-c", without, *options(ratings), env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: Tuning needs Optuna, the extra "tune"')
    assert [run.info.status for run in parents(home)] == ["FAILED", "FAILED"]
    assert not (home.folder / "tuning.db").exists()


def test_the_time_is_kept(home: Home, ratings: Path) -> None:
    start = time.monotonic()
    done = tune(home, ratings, "--trials", "100000", "--timeout", "3")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 60
    assert "the time is up: the best of" in done.stderr
    assert parents(home)[0].data.tags["search_ended"] == "timeout"
