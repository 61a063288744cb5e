"""Runs that a kill left as RUNNING, and a store whose making was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from support.fork import run_forked
from support.processes import ROOT, Home

from pipeline.runtime.process import ProcessIdentity
from pipeline.tracking import run as tracking
from pipeline.tracking import stale_runs
from pipeline.tracking.stale_runs import FAILURE, end_stale_runs

pytest_plugins = ["support.homes"]


@pytest.fixture
def gone() -> ProcessIdentity:
    """A process that was, on this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = ProcessIdentity(ProcessIdentity.me().host, process.pid, "0")
        process.communicate(b"\n")
    return owner


def test_only_running_runs_of_dead_processes_here_are_ended(home: Home, gone: ProcessIdentity) -> None:
    client = home.client()
    experiment = client.get_experiment_by_name("rankline").experiment_id
    other = client.create_experiment("another", artifact_location=(home.folder / "other").as_uri())

    def begun(tag: str | None, where: str = experiment, **tags: str) -> str:
        made = tags if tag is None else {**tags, tracking.PROCESS_TAG: tag}
        return str(client.create_run(where, tags=made).info.run_id)

    dead = begun(gone.text)
    nested = begun(gone.text, **{"mlflow.parentRunId": dead})
    elsewhere = begun(gone.text, other)
    says_why = begun(gone.text, failure="the disk is full")
    again = begun(replace(ProcessIdentity.me(), process_started="1").text)  # our number, of an earlier process
    alive = [
        begun(ProcessIdentity.me().text),
        begun(replace(gone, host="another machine").text),
        begun(replace(gone, host="").text),
        begun(None),
        begun("not json"),
    ]
    over = begun(gone.text)
    client.set_terminated(over, "FINISHED")
    calls: list[str] = []
    mlflow.set_tracking_uri(home.env["MLFLOW_TRACKING_URI"])
    assert set(end_stale_runs(home.env["MLFLOW_TRACKING_URI"], calls.append)) == {
        dead,
        nested,
        elsewhere,
        says_why,
        again,
    }
    assert len(calls) == 1
    for run_id in (dead, nested, elsewhere, again):
        run = client.get_run(run_id)
        assert (run.info.status, run.data.tags["failure"]) == ("KILLED", FAILURE)
        assert run.info.end_time
    assert client.get_run(says_why).data.tags["failure"] == "the disk is full"
    assert {client.get_run(run_id).info.status for run_id in alive} == {"RUNNING"}
    assert client.get_run(over).info.status == "FINISHED"
    assert end_stale_runs(home.env["MLFLOW_TRACKING_URI"], calls.append) == []
    assert len(calls) == 1, "with nothing to end nothing is said"


def test_a_run_that_ends_while_one_looks_keeps_its_end(
    home: Home, gone: ProcessIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = home.client()
    mlflow.set_tracking_uri(home.env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("rankline").experiment_id
    run_id = client.create_run(experiment, tags={tracking.PROCESS_TAG: gone.text}).info.run_id

    class Late(ProcessIdentity):
        @property
        def dead(self) -> bool:
            client.set_terminated(run_id, "FINISHED")  # the last thing that it did
            return True

    monkeypatch.setattr(stale_runs, "ProcessIdentity", Late)
    assert end_stale_runs(home.env["MLFLOW_TRACKING_URI"]) == []
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_run_says_from_its_first_moment_whose_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed right after the run was made, before anything else was written to it."""
    uri = home.env["MLFLOW_TRACKING_URI"]
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow.set_tracking_uri(uri)
    made: list[dict[str, str]] = []
    monkeypatch.setattr(tracking.Run, "tags", lambda self, _: made.append(home.client().get_run(self.id).data.tags))
    with tracking.start_run(uri, "rankline", ROOT):
        pass
    assert ProcessIdentity.of(made[0][tracking.PROCESS_TAG]) == ProcessIdentity.me()


@pytest.mark.slow
def test_a_store_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    killed = (
        "import os, signal, sys, mlflow.store.db.utils as utils\n"
        "from pipeline.tracking import run as tracking\n"
        "utils._upgrade_db = lambda engine: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import mlflow.store.tracking.sqlalchemy_store\n"
        "tracking.open_or_make_store(sys.argv[1], print)"
    )
    env = {"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = run_forked(["-c", killed, uri], env, tmp_path, 240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {path.name for path in tmp_path.iterdir()} >= {"mlflow.db.partial"}
    assert not (tmp_path / "mlflow.db").exists()
    code = "import sys; from pipeline.tracking import run as tracking; tracking.open_or_make_store(sys.argv[1], print)"
    done = run_forked(["-c", code, uri], env, tmp_path, 240)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
