"""Drift on a run of MLflow's own store, and what the store knows of trainings and gates that failed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import mlflow
import pytest

from pipeline.tracking.drift_log import TAG, last_drift, log_drift, step_of
from pipeline.tracking.failures import last_training_failure, refused_in_a_row

pytest_plugins = ["support.homes"]

NIGHT = datetime(2026, 11, 29, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, store_template: Path) -> Iterator[mlflow.MlflowClient]:
    """An empty store in a file, as the one in use."""
    path = tmp_path / "mlflow.db"
    path.write_bytes((store_template / "mlflow.db").read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((tmp_path / "artifacts").as_uri(),))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def run(client: mlflow.MlflowClient, at: int = 0, status: str = "FINISHED", name: str = "rankline", **tags: str) -> str:
    """The run of a training that began at a time."""
    made = client.create_run(client.get_experiment_by_name("rankline").experiment_id, start_time=at, tags=tags)
    client.log_param(made.info.run_id, "name", name)
    client.log_param(made.info.run_id, "algorithm", "NMF")
    if status != "RUNNING":
        client.set_terminated(made.info.run_id, status)
    return str(made.info.run_id)


def test_the_day_is_the_step_and_the_last_measurement_of_a_day_counts(store: mlflow.MlflowClient) -> None:
    assert step_of(datetime(1970, 1, 2, tzinfo=UTC)) == 1
    assert step_of(datetime(1970, 1, 2, 0, 30, tzinfo=timezone(timedelta(hours=2)))) == 0
    run_id = run(store)
    for days, value in ((0, 0.1), (1, 0.2), (2, 0.3)):
        log_drift(run_id, {"psi_popularity": value}, {"at": str(days)}, NIGHT + timedelta(days=days))
    log_drift(run_id, {"psi_popularity": 0.4}, {"at": "2 again"}, NIGHT + timedelta(days=2, hours=3))
    points = store.get_metric_history(run_id, "drift/psi_popularity")
    assert [(point.step - step_of(NIGHT), point.value) for point in points] == [(0, 0.1), (1, 0.2), (2, 0.3), (2, 0.4)]
    assert store.get_run(run_id).data.metrics == {"drift/psi_popularity": 0.4}
    assert store.get_run(run_id).info.status == "FINISHED"
    # One that is too long for a tag leaves the one before.
    log_drift(run_id, {"psi_popularity": 0.5}, {"at": "x" * 5000}, NIGHT)
    assert "2 again" in store.get_run(run_id).data.tags[TAG]

    assert last_drift() is None
    store.create_registered_model("rankline")
    store.create_model_version("rankline", "file:///nowhere", run_id)
    store.set_registered_model_alias("rankline", "champion", "1")
    assert last_drift() == {"at": "2 again"}


def test_the_last_training_that_ended_is_what_counts(store: mlflow.MlflowClient) -> None:
    assert last_training_failure() is None
    run(store, 1)
    assert last_training_failure() is None
    failed = run(store, 2, "FAILED", failure="bad rows")
    run(store, 3, "RUNNING")
    run(store, 4, "FAILED", **{"mlflow.parentRunId": "1" * 32})
    run(store, 5, name="shop")
    store.create_run(store.get_experiment_by_name("rankline").experiment_id, start_time=6)  # no training
    found = last_training_failure()
    assert found is not None
    assert (found.run_id, found.began_ms) == (failed, 2)
    assert last_training_failure("shop") is None
    run(store, 7, "KILLED", failure="interrupted")
    assert last_training_failure() is None
    run(store, 8, "KILLED", failure="its process was killed")
    assert last_training_failure() is not None
    run(store, 9)
    assert last_training_failure() is None


def test_refusals_in_a_row(store: mlflow.MlflowClient) -> None:
    store.create_registered_model("rankline")
    for outcome in ("refused", "promoted", "refused", "", "refused", "refused"):
        version = store.create_model_version("rankline", "file:///nowhere").version
        if outcome:
            store.set_model_version_tag("rankline", version, "promotion", outcome)
    assert refused_in_a_row() == ["6", "5", "3"]
    store.set_model_version_tag("rankline", "5", "promotion", "forced")
    assert refused_in_a_row() == ["6"]
    assert refused_in_a_row("shop") == []
