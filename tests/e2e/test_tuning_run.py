"""A search as it stands in MLflow, and what a kill or Ctrl-C leaves of it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.fork import Forked
from support.processes import ROOT, Home, end

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow
pytest.importorskip("optuna")

METRIC, BEST = "validation/ndcg_at_10", "validation/best_ndcg_at_10"


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
    return home.rankline(*options(ratings, *more))


@pytest.mark.takes(40)
def test_mlflow_run_then_what_it_left(home: Home) -> None:
    command = ("mlflow", "run", str(ROOT), "--env-manager", "local", "--experiment-name", "rankline", "-e", "tune")
    searched = ("-P", "trials=3", "-P", "max_iter=10", "-P", "transform=binary")
    done = home.run(*command, *searched, env=home.forked_python())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "better than most popular: yes, +" in done.stdout
    assert "next: rankline promote rankline/1, then rankline score" in done.stdout
    (parent,) = parents(home)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "tune · warehouse"
    params, metrics, tags = parent.data.params, parent.data.metrics, parent.data.tags
    assert params.items() >= {"trials": "3", "transform": "binary", "n_components": "auto", "timeout": "none"}.items()
    assert "best_transform" not in params  # a value was given: it stays
    assert metrics["search/n_trials"] == 3
    assert metrics["test/ndcg_at_10"] > metrics["test/baseline/popular/ndcg_at_10"] > 0
    for name in ("popular", "recent", "item-knn"):
        group = f"baseline/{name}"
        assert metrics.keys() >= {
            f"validation/{group}/ndcg_at_10", f"test/{group}/ndcg_at_10", f"test/{group}/recall_at_10"
        }  # fmt: skip
    assert metrics["ndcg_at_10"] == metrics["test/ndcg_at_10"]
    assert metrics["lift_over_popular"] == metrics["test/lift_over_popular"]
    assert metrics["test/interval/lift_over_popular_low"] <= metrics["test/lift_over_popular"]
    assert tags["better_than_popular"] == "yes"
    below = children(home, parent)
    trials = [below.pop(f"trial {number}") for number in range(3)]
    (winner,) = below.values()
    best = max(trials, key=lambda run: run.data.metrics.get(METRIC, 0) * (run.data.tags["trial_state"] == "complete"))
    assert metrics[BEST] == best.data.metrics[METRIC]
    assert trials[0].data.params["n_components"] == "10"
    assert trials[0].data.tags["trial_state"] == "complete"
    assert all(run.info.end_time >= run.info.start_time > 1.7e12 for run in trials)
    # The winner's training is a training like any other, of the best trial's options, and what is registered.
    assert winner.info.run_name == f"winner: trial {best.info.run_name.removeprefix('trial ')}"
    assert winner.data.params.items() >= best.data.params.items()
    assert {f"best_{name}": value for name, value in best.data.params.items()}.items() <= params.items()
    assert winner.data.tags["tuned_from"] == parent.info.run_id
    assert winner.data.metrics["holdout/ndcg_at_10"] == pytest.approx(metrics["test/ndcg_at_10"], abs=1e-12)
    (version,) = home.client().search_model_versions("name = 'rankline'")
    assert version.run_id == winner.info.run_id
    assert tags["model_version"] == str(version.version)
    folder = home.folder / "artifacts"
    assert (folder / winner.info.run_id / "artifacts" / "user_features.npy").is_file()
    assert (folder / parent.info.run_id / "artifacts" / "trials.png").read_bytes()[:4] == b"\x89PNG"
    with (folder / parent.info.run_id / "artifacts" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [run.data.tags["trial_state"] for run in trials]
    history = home.client().get_metric_history(parent.info.run_id, BEST)
    assert [point.value for point in history] == sorted(point.value for point in history)


@pytest.mark.takes(60)
def test_a_chosen_model_is_one_run_like_any_other(home: Home, ratings: Path) -> None:
    """`mlflow run -P algorithm=auto`, then the gate, the table, and the reasons."""
    command = ("mlflow", "run", str(ROOT), "--env-manager", "local", "--experiment-name", "rankline", "-e", "files")
    given = {"input": ratings, "algorithm": "auto", "budget_minutes": 0.1, "max_iter": 10, "threads": 1}
    words = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
    done = home.run(*command, *words, env=home.forked_python())
    assert done.returncode == 0, done.stdout + done.stderr
    assert " has the highest NDCG@10 of " in done.stdout
    assert "over most popular" in done.stdout
    (run,) = home.runs()
    params, tags = run.data.params, run.data.tags
    assert params["algorithm"] == "auto"  # as asked
    winner = params["algorithm_used"]
    assert params["best_algorithm"] == winner != "auto"
    assert tags["chosen"].endswith("; the time was up)") or tags["chosen"].endswith(" trials)")
    assert run.data.metrics["search/n_trials"] >= 1
    artifacts = home.folder / "artifacts" / run.info.run_id / "artifacts"
    with (artifacts / "candidates.csv").open() as file:
        candidates = list(csv.DictReader(file))
    assert candidates[0]["model"] == winner
    assert float(candidates[0]["validation_ndcg_at_10"]) == run.data.metrics[BEST]
    assert "popular" in {row["model"] for row in candidates}
    assert (artifacts / "trials.csv").is_file()
    assert (artifacts / "pictures" / "candidates.svg").is_file()
    page = (artifacts / "report.html").read_text()
    assert "How it was chosen" in page
    assert "used once, after the choice" in page
    assert "The choice used this part" in tags["mlflow.note.content"]
    assert home.rankline("promote", "rankline/1").returncode in (0, 3)  # by what was found in the time
    for step in ("score", "show"):
        ended = home.rankline(step)
        assert ended.returncode == 0, ended.stderr


# A search that is held after its third trial, as a long one would be.
HELD = """
import sys, time
import pipeline.jobs.tune as job
from pipeline.cli.main import main
ended = job._Log.ended
def slow(self, trial):
    ended(self, trial)
    if trial.number == 2:
        print("three", flush=True)
        time.sleep(600)
job._Log.ended = slow
main(sys.argv[1:])
"""


def held(home: Home, ratings: Path, *more: str) -> Forked:
    process = home.fork("-c", HELD, *options(ratings, *more))
    assert process.stdout is not None
    assert process.stdout.readline() == "three\n", process.communicate()
    return process


@pytest.mark.takes(20)
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
    assert newest.data.metrics["search/n_trials"] == 5
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
        _, stderr = process.communicate(timeout=240)
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
        assert [str(version.version) for version in versions] == ["1"]


def test_a_wrong_search_and_a_missing_extra_fail_in_one_line(home: Home, ratings: Path) -> None:
    done = tune(home, ratings, "--search", "depth")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --search can't search depth; it can ")
    without = "import sys; sys.modules['optuna'] = None; from pipeline.cli.main import main; main(sys.argv[1:])"
    done = home.python(without, *options(ratings))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: Tuning needs Optuna, the extra "tune"')
    assert [run.info.status for run in parents(home)] == ["FAILED"]
    auto = ("train", "--algorithm", "auto", "--source", "file", "--input", str(ratings))
    done = home.python(without, *auto)
    assert done.stderr.splitlines()[-1].startswith('error: Tuning needs Optuna, the extra "tune"')
    assert not (home.folder / "tuning.db").exists()


def test_the_time_is_kept(home: Home, ratings: Path) -> None:
    done = tune(home, ratings, "--trials", "100000", "--timeout", "3")
    assert done.returncode == 0, done.stderr
    assert "the time is up: the best of" in done.stderr
    assert parents(home)[0].data.tags["search_ended"] == "timeout"
