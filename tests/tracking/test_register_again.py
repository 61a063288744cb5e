"""Versions of a backup are registered again: on a real MLflow server, and from there in a file."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from support.processes import Home, answers, free_port
from support.stored_evaluations import add_version, stored_evaluation

from pipeline.errors import MissingRunError
from pipeline.jobs.load_model import loaded
from pipeline.jobs.promote import why_unusable
from pipeline.models.factor_model import FactorModel
from pipeline.models.saved_model import with_meta
from pipeline.monitoring.retention import Needs, plan_retention
from pipeline.runtime.archive import Archive, ArchiveWriter
from pipeline.runtime.progress import Reporter, silent
from pipeline.tracking import champion as champions
from pipeline.tracking import register_again as module
from pipeline.tracking.lookup import RunRef, evaluation_of, find_run, run_record, text_of
from pipeline.tracking.register_again import register_again
from pipeline.tracking.registry import RESTORED_FROM
from pipeline.tracking.store import open_store, search_runs
from pipeline.tracking.store_copy import StoreFiles, back_up_store
from pipeline.tracking.version_deletion import all_versions

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

QUIET = Reporter(lambda _: None, silent)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def backed_up(uri: str, folder: Path, runs: set[str]) -> tuple[Archive, StoreFiles]:
    open_store(uri)
    with ArchiveWriter(folder, NOW) as writer:
        files = back_up_store(uri, writer.folder, runs)
        writer.keep({"store": files.facts})
    archive = Archive.open(folder)
    return archive, StoreFiles.of(archive.facts["store"])


def empty(folder: Path, template: Path) -> str:
    folder.mkdir()
    (folder / "mlflow.db").write_bytes((template / "mlflow.db").read_bytes())
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((folder / "artifacts").as_uri(),))
    return f"sqlite:///{folder / 'mlflow.db'}"


@contextmanager
def served(home: Home, folder: Path, template: Path) -> Iterator[str]:
    port, store = free_port(), empty(folder, template)
    with sqlite3.connect(folder / "mlflow.db") as db:  # one that the server makes hands its artifacts through
        db.execute("DELETE FROM experiments WHERE name = 'rankline'")
    server = home.fork(
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", store),
        *("--artifacts-destination", str(folder / "artifacts")),
        quiet=True,
    )
    try:
        answers(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def state(uri: str) -> dict[str, Any]:
    """What must be the same wherever the versions are."""
    open_store(uri)
    client = mlflow.MlflowClient()
    page = client.get_registered_model("rankline")
    found: dict[str, Any] = {
        "aliases": {alias: str(number) for alias, number in page.aliases.items()},
        "tags": dict(page.tags),
        "history": champions.history(),
    }
    for one in all_versions("rankline"):
        with loaded(f"rankline/{one.version}", QUIET, "rankline") as (scorer, version):
            lists = [scorer.recommend(user, 3) for user in scorer.users.values[:3].tolist()]
            found[one.version] = (version.made_by, repr(lists), str(scorer.model.meta))
        run = find_run(f"rankline/{one.version}")
        assert why_unusable(run, "rankline") == ""
        said = client.get_run(run.run_id)
        tags = client.get_model_version("rankline", one.version).tags
        assert said.info.status == "FINISHED"
        found[one.version] += (
            dict(said.data.params),
            dict(said.data.metrics),
            said.info.start_time,
            run.name,
            {key: value for key, value in tags.items() if key != RESTORED_FROM},
            run_record(run).trained,
        )
        evaluation = evaluation_of(run)
        found[one.version] += (None if evaluation is None else evaluation.columns["ndcg_at_10"].tolist(),)
    return found


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def runs(here: Home, rng: np.random.Generator, make_model: Callable[..., FactorModel]) -> dict[str, str]:
    """Version 2 of two, the champion; the first one was champion before, and is gone. Version → run."""
    client, found = here.client(), {}
    open_store(here.env["MLFLOW_TRACKING_URI"])
    for number in (1, 2):
        run_id, version = add_version(
            here, make_model(rng), stored_evaluation(np.full(4, number / 10)), f"run {number}"
        )
        folder = here.folder / "artifacts" / run_id / "artifacts"
        model = make_model(rng)
        with_meta(model, {**model.meta, "run_id": run_id}).save(folder)
        (folder / "notes.txt").write_text("more of the run")
        client.log_param(run_id, "k", number)
        client.log_metric(run_id, "ndcg_at_10", number / 10)
        client.set_tag(run_id, "night", "2026-10-01T02:00:00+00:00")
        client.set_model_version_tag("rankline", version, "promotion", "promoted")
        found[version] = run_id
    champions.promote("1", instead_of="", how="promoted")
    champions.promote("2", instead_of="1", how="promoted", reason="better")
    client.set_registered_model_alias("rankline", "experiment-x-b", "2")
    client.delete_model_version("rankline", "1")
    return {"2": found["2"]}


@pytest.mark.takes(30)
def test_on_a_server_and_from_it_the_same_versions_are_there_again(
    here: Home, runs: dict[str, str], store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(here.env["MLFLOW_TRACKING_URI"])
    archive, files = backed_up(here.env["MLFLOW_TRACKING_URI"], tmp_path / "of a file", {runs["2"]})
    with served(here, tmp_path / "served", store_template) as uri:
        # A process that is killed before its version is registered leaves a run that the next one goes on with.
        def die(*_: object) -> str:
            raise Killed

        monkeypatch.setattr(module, "register", die)
        with pytest.raises(Killed):
            register_again(archive, files, uri)
        monkeypatch.undo()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert register_again(archive, files, uri) == ("registered", 1)
        assert state(uri) == before
        assert register_again(archive, files, uri) == ("there already", 0)
        assert len(search_runs(f"tags.{RESTORED_FROM} != ''")) == 1
        listed = {file.path for file in mlflow.MlflowClient().list_artifacts(find_run("rankline/2").run_id)}
        assert {"notes.txt", "evaluation", "metadata.json"} <= listed
        # Rows of the published table name the run of before: it is found, and keeps its version.
        with loaded(f"runs:/{runs['2']}", QUIET, "rankline") as (scorer, _):
            assert scorer.model.meta["run_id"] == runs["2"]
        # A version that was folded in names the run of its training, which may not have been in the backup.
        assert text_of(RunRef(runs["2"], "rankline/2", ""), "notes.txt") == "more of the run"
        with pytest.raises(MissingRunError, match="the run of rankline/1 is no longer in"):
            text_of(RunRef("f" * 32, "rankline/1", ""), "data_gate.json")
        published = Needs({}, published={runs["2"]: "analytics.recommendations"})
        plan = plan_retention(all_versions("rankline"), published, keep_versions=1, keep_champions_days=0, now=NOW)
        assert "analytics.recommendations was made from it" in plan.kept["2"]

        archive, files = backed_up(uri, tmp_path / "of a server", {runs["2"], "f" * 32})
        assert files.missing == ("f" * 32,)
        new = empty(tmp_path / "new", store_template)
        assert register_again(archive, files, new) == ("registered", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new)
    assert state(new) == before


def test_other_versions_of_these_numbers_stay(
    here: Home, runs: dict[str, str], store_template: Path, tmp_path: Path
) -> None:
    archive, files = backed_up(here.env["MLFLOW_TRACKING_URI"], tmp_path / "backup", set())
    uri, said = empty(tmp_path / "other", store_template), list[str]()
    open_store(uri)
    client = mlflow.MlflowClient()
    client.create_registered_model("rankline")
    client.create_model_version("rankline", "nowhere:/")
    assert register_again(archive, files, uri, say=said.append) == ("kept", 0)
    assert "has other versions (rankline/1): they stay" in said[-1]
    assert [one.version for one in all_versions("rankline")] == ["1"]
    # A number that was used there and deleted can't be given again: nothing is registered under another one.
    client.delete_model_version("rankline", "1")
    for _ in range(2):
        client.delete_model_version("rankline", str(client.create_model_version("rankline", "nowhere:/").version))
    with pytest.raises(module.RefusedError, match=r"gives the number 4 to what was rankline/1"):
        register_again(archive, files, uri)
    assert all_versions("rankline") == []
