"""MLflow goes away in the middle: nothing that was trained is lost, and it is logged later, once."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from support.fork import Forked
from support.processes import Home, free_port, wait_for

from pipeline.config import ConfigFile
from pipeline.errors import ArtifactError, InputError, ServerError, UnreachableError
from pipeline.jobs.compare import compare_job
from pipeline.jobs.resume import resume_job
from pipeline.jobs.train import train_job
from pipeline.jobs.tune import tune_job
from pipeline.options import ReadOptions, TrainOptions, TuneOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import registry, store
from pipeline.tracking import run as tracking
from pipeline.tracking.lookup import find_run, text_of
from pipeline.tracking.outbox import pending_in

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

QUICK = TrainOptions(max_iter=5, n_components=2, threads=1)
# `rankline`, which says when it has trained, and then waits to be told to go on.
_PAUSED = """
import sys
from pipeline.cli.main import main
from pipeline.jobs import train as job
train = job.train
def paused(*arguments):
    trained = train(*arguments)
    print("trained", flush=True)
    sys.stdin.readline()
    return trained
job.train = paused
main(sys.argv[1:])
"""


def write_ratings(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{p // 40},{p % 40},{1 + p % 5}" for p in rng.choice(30 * 40, 400, replace=False)]
    path = folder / "ratings.csv"
    path.write_text("user_id,item_id,rating\n" + "\n".join(lines) + "\n")
    return path


def serve(home: Home, port: int) -> Forked:
    server = home.fork(
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", home.env["MLFLOW_TRACKING_URI"]),
        *("--artifacts-destination", str(home.folder / "served")),
        quiet=True,
    )
    wait_for(port)
    return server


def kill(server: Forked) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.takes(40)
def test_a_server_killed_in_the_middle_of_a_training(home: Home) -> None:
    port, ratings = free_port(), write_ratings(home.folder)
    uri = f"http://127.0.0.1:{port}"
    env = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "RANKLINE_RETRIES": "1",
    }
    # The default place is the project's own folder, whose tests run beside each other.
    code = f"from pathlib import Path; import pipeline.settings as s; s.PROJECT_ROOT = Path({str(home.folder)!r})\n"
    options = ("--source", "file", "--input", str(ratings), "--max-iter", "5", "--experiment-name", "served")
    rankline = code + "import sys; from pipeline.cli.main import main; main(sys.argv[1:])"
    server = serve(home, port)
    try:
        train = home.fork("-c", code + _PAUSED, "train", *options, env=env)
        assert train.stdout is not None
        assert train.stdout.readline() == "trained\n"
        kill(server)
        _, stderr = train.communicate("\n", timeout=240)
        assert train.returncode == 4, stderr
        assert "Traceback" not in stderr
        last = stderr.splitlines()[-1]
        (folder,) = pending_in(home.folder / "unlogged")
        assert last.startswith(f"error: MLflow at {uri} failed: ")
        assert last.endswith(f"; the trained model is saved in {folder}; upload it with: rankline resume {folder}")
        assert "was tried 2 times" in last
        (run,) = home.runs("served")
        assert run.info.status == "RUNNING"  # nobody could be told

        # Still away: refused at once, and it stays.
        done = home.python(rankline, "resume", env=env)
        assert done.returncode == 4
        assert f"No MLflow server answers at {uri}" in done.stderr
        facts = json.loads((folder / "kept.json").read_text())

        server = serve(home, port)
        done = home.python(rankline, "resume", str(folder), env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"logged {facts['name']} (run {run.info.run_id[:8]}) as rankline/1\n"
        assert not folder.exists()

        client = mlflow.MlflowClient(uri)
        check_whole(client, client.get_run(run.info.run_id), facts)
        (version,) = client.search_model_versions("name = 'rankline'")
        assert version.run_id == run.info.run_id
    finally:
        kill(server)


def check_whole(client: mlflow.MlflowClient, run: mlflow.entities.Run, facts: dict) -> None:
    """The run holds what was kept, as if nothing had happened."""
    assert run.info.status == "FINISHED"
    assert "failure" not in run.data.tags
    assert run.info.run_name == facts["name"]
    assert facts["metrics"].items() <= run.data.metrics.items()
    assert {"holdout/ndcg_at_10", "cost/seconds_fit", "cost/seconds_total", "cost/peak_memory_mb"} <= set(
        run.data.metrics
    )
    assert facts["params"].items() <= run.data.params.items()
    assert {**facts["tags"], "model_version": "1"}.items() <= run.data.tags.items()
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == facts["curves"]["loss"]
    top = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    four = {"user_features.npy", "movie_features.npy", "seen.npz", "metadata.json"}
    beside = {"scores.npy", "items.npz"}
    assert top == four | beside | {"data_gate.json", "report.html", "pictures", "evaluation"}
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == facts["tags"]["data_digest"][:32]
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    assert sorted((model.name, str(model.status)) for model in models) == [
        ("nmf_model", "READY"),
        ("recommender", "READY"),
    ]


# ---- in this process, on a store in a file --------------------------------------------------------


@pytest.fixture
def settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    uri = home.env["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("RANKLINE_WAREHOUSE", raising=False)
    monkeypatch.setattr("pipeline.runtime.retry.FIRST_WAIT", 0.01)
    before = mlflow.get_tracking_uri()
    yield Settings()
    mlflow.set_tracking_uri(before)


def silent() -> tuple[Reporter, list[str]]:
    said: list[str] = []
    return Reporter(said.append, lambda *_: None), said


def failing(name: str, times: int = 99) -> pytest.MonkeyPatch:
    """The store fails whenever a version is to be made."""
    patch, left = pytest.MonkeyPatch(), [times]
    real = getattr(mlflow, name)

    def broken(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise MlflowException("the disk is gone")
        return real(*arguments, **options)

    patch.setattr(mlflow, name, broken)
    return patch


def train_without_a_registry(home: Home, settings: Settings) -> tuple[Path, dict]:
    """A training that could not be registered, as it is kept."""
    read = ReadOptions(source="file", input=write_ratings(home.folder))
    patch = failing("register_model")
    with pytest.raises(ServerError, match=r"the disk is gone.*; the trained model is saved in .*: rankline resume /"):
        train_job(QUICK, read, settings, silent()[0])
    patch.undo()
    (folder,) = pending_in(settings.unlogged_path)
    return folder, json.loads((folder / "kept.json").read_text())


def test_the_file_of_options_is_kept_and_logged_later_and_compare_shows_what_of_it_differs(
    home: Home, settings: Settings
) -> None:
    read = ReadOptions(source="file", input=write_ratings(home.folder))
    texts = ("# reviewed\nalgorithm: {max_iter: 5}\n", "algorithm: {max_iter: 6}\n")
    path = home.folder / "rankline.yaml"
    path.write_text(texts[0])
    first = Settings.with_config(ConfigFile.read(path))
    path.write_text("algorithm: {max_iter: 4}\n")  # changed while it trains
    patch = failing("register_model")
    with pytest.raises(ServerError, match="rankline resume"):
        train_job(QUICK, read, first, silent()[0])
    patch.undo()
    (resumed,) = resume_job(None, settings, silent()[0])
    path.write_text(texts[1])
    second = train_job(QUICK, read, Settings.with_config(ConfigFile.read(path)), silent()[0])
    for run_id, text in zip((resumed.run_id, second.run_id), texts, strict=True):
        assert text_of(find_run(run_id), "rankline.yaml") == text
    compared = compare_job(resumed.run_id, second.run_id, "ndcg_at_10", settings, silent()[0])
    assert compared.config == (("algorithm.max_iter", "5", "6"),)
    # Without a file there is none.
    third = train_job(QUICK, read, settings, silent()[0])
    assert text_of(find_run(third.run_id), "rankline.yaml") is None


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize(
    ("room", "name", "when"),
    [
        (tracking.Run, "folder", "after"),
        (mlflow.MlflowClient, "log_model_artifacts", "before"),  # half a model
        (registry, "register", "after"),
        (tracking.Run, "finish", "after"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_cut_off_anywhere_and_resumed_it_is_there_once(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch, room, name: str, when: str
) -> None:
    read = ReadOptions(source="file", input=write_ratings(home.folder))
    real = getattr(room, name)

    def deadly(*arguments: object, **options: object) -> object:
        if when == "after":
            real(*arguments, **options)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, name, deadly)
        # Nor can anybody be told.
        patch.setattr(tracking, "_end", lambda *_: mlflow.tracking.fluent._active_run_stack.get().clear())
        reporter, said = silent()
        with pytest.raises(Killed):
            train_job(QUICK, read, settings, reporter)
        (folder,) = pending_in(settings.unlogged_path)
        assert str(folder) in said[-1]
        facts = json.loads((folder / "kept.json").read_text())
        with pytest.raises(Killed):
            resume_job(None, settings, silent()[0])
    (done,) = resume_job(folder.name[:8], settings, silent()[0])
    client = home.client()
    check_whole(client, client.get_run(done.run_id), facts)
    (version,) = client.search_model_versions("name = 'rankline'")
    assert (str(version.version), version.run_id) == (done.version, done.run_id)
    assert not folder.exists()
    with pytest.raises(InputError, match=r"No saved training is .* \(an uploaded one is deleted here\)"):
        resume_job(done.run_id, settings, silent()[0])
    reporter, said = silent()
    assert resume_job(None, settings, reporter) == []
    assert "nothing to log: " in said[0]
    assert len(client.search_model_versions("name = 'rankline'")) == 1
    model = mlflow.pyfunc.load_model(f"models:/rankline/{version.version}")
    assert len(model.predict([{"user_id": 1}], params={"k": 3})) == 3


def test_what_was_changed_is_not_logged(home: Home, settings: Settings) -> None:
    folder, facts = train_without_a_registry(home, settings)
    path = folder / "model" / "movie_features.npy"
    was = path.read_bytes()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    for which in (None, str(folder)):
        with pytest.raises(ArtifactError, match=r"model/movie_features.npy has a wrong checksum"):
            resume_job(which, settings, silent()[0])
    (run,) = home.runs()
    assert run.info.status == "FAILED"
    assert str(folder) in run.data.tags["failure"]
    path.write_bytes(was)
    resume_job(None, settings, silent()[0])
    check_whole(home.client(), home.runs()[0], facts)


def test_a_store_that_knows_no_such_run(home: Home, settings: Settings) -> None:
    folder, _ = train_without_a_registry(home, settings)
    with sqlite3.connect(home.folder / "mlflow.db") as db:
        other = "CASE WHEN run_uuid LIKE 'f%' THEN 'e' ELSE 'f' END"
        db.execute(f"UPDATE runs SET run_uuid = {other} || substr(run_uuid, 2) WHERE 1")
    with pytest.raises(InputError, match=rf"No run {folder.name} in .*; what was trained stays in"):
        resume_job(None, settings, silent()[0])
    assert folder.exists()
    # The next training says so, before anything else.
    reporter, said = silent()
    with pytest.raises(InputError):
        train_job(QUICK, ReadOptions(source="file", input=Path("nope.csv")), settings, reporter)
    assert said == ["1 earlier training(s) are saved but not in MLflow yet: rankline resume uploads them"]


def test_a_short_failure_is_not_even_seen(home: Home, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr("pipeline.tracking.store_errors._transient", lambda *_: True)
    patch = failing("register_model", times=2)
    train_job(QUICK, ReadOptions(source="file", input=write_ratings(home.folder)), settings, silent()[0])
    patch.undo()
    assert home.runs()[0].info.status == "FINISHED"
    assert pending_in(settings.unlogged_path) == []
    assert list(settings.unlogged_path.iterdir()) == []


def test_a_searchs_winner_is_kept_and_ends_the_search(home: Home, settings: Settings) -> None:
    pytest.importorskip("optuna")
    read = ReadOptions(source="file", input=write_ratings(home.folder))
    patch = failing("register_model")
    with pytest.raises(ServerError, match="the trained model is saved in"):
        tune_job(QUICK, TuneOptions(trials=2), read, settings, silent()[0])
    patch.undo()
    (done,) = resume_job(None, settings, silent()[0])
    client = home.client()
    winner = client.get_run(done.run_id)
    parent = client.get_run(winner.data.tags["mlflow.parentRunId"])
    assert (winner.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert (parent.data.tags["winner_run"], parent.data.tags["model_version"]) == (done.run_id, done.version)
    assert "failure" not in {**winner.data.tags, **parent.data.tags}


# ---- a server that hangs --------------------------------------------------------------------------


@pytest.mark.parametrize("healthy", [False, True])
def test_a_server_that_hangs_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, healthy: bool) -> None:
    """Before anything is read or fitted; also one that says it is well and answers nothing else."""
    import threading

    monkeypatch.setattr(store, "HELLO", 1)
    before = mlflow.get_tracking_uri()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            held = []
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                if healthy and b"/health" in held[-1].recv(65536):
                    held[-1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")

        threading.Thread(target=answer, daemon=True).start()
        uri = f"http://ann:s3cret@127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ServerError if healthy else UnreachableError) as error:
            tracking.open_store(uri)
        server.shutdown(socket.SHUT_RDWR)
    mlflow.set_tracking_uri(before)
    assert "s3cret" not in str(error.value)
    assert "MLFLOW_TRACKING_URI" in str(error.value)
