"""Runs below a run: a trial each, and the winner's training. As `tracking`, in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import mlflow
from mlflow.entities import Metric, Param, RunTag

from pipeline import __version__
from pipeline.orphans import FAILURE
from pipeline.owner import Owner
from pipeline.patience import Patience
from pipeline.tracking import PROCESS_TAG, Run, as_server_error, ending

__all__ = ["abandoned", "log_picture", "log_step", "nested_run", "write_run"]

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


def write_run(
    parent: Run,
    uri: str,
    name: str,
    *,
    status: Literal["FINISHED", "FAILED"],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    curve: tuple[str, Mapping[int, float]],
    tags: Mapping[str, str],
    started: float,
    seconds: float,
) -> str:
    """A nested run of something that has ended, in three requests; returns its id.

    started : epoch seconds
    curve : a metric's name, and its value after each step
    """
    client = mlflow.MlflowClient()
    begin, end = int(started * 1000), int((started + seconds) * 1000)
    points = [Metric(key, float(value), end, 0) for key, value in metrics.items()]
    points += [Metric(curve[0], float(value), end, step) for step, value in curve[1].items()]
    with as_server_error(uri):
        made = _tags(parent, name)
        run = client.create_run(parent.experiment_id, begin, made, name)
        client.log_batch(
            run.info.run_id,
            points,
            [Param(key, str(value)[:6000]) for key, value in params.items()],
            [RunTag(key, value[:5000]) for key, value in tags.items() if value],
        )
        client.set_terminated(run.info.run_id, status, end)
    return str(run.info.run_id)


@contextmanager
def nested_run(parent: Run, uri: str, name: str, patience: Patience | None = None) -> Iterator[Run]:
    """A run below the one that is active, which ends as `tracking.start_run`'s does."""
    made = _tags(parent, name)
    with as_server_error(uri):
        # By its id: left to itself MLflow would take up the run of MLFLOW_RUN_ID, the parent, once more.
        child = mlflow.MlflowClient().create_run(parent.experiment_id, tags=made, run_name=name)
        active = mlflow.start_run(run_id=child.info.run_id, nested=True)
    run = Run(active, uri, patience)
    with ending(run, uri):
        yield run


def _tags(parent: Run, name: str) -> dict[str, str]:
    return {_PARENT: parent.id, _NAME: name, "code_version": __version__, PROCESS_TAG: Owner.me().text}


def abandoned(run: Run, uri: str, study: str, place: str) -> list[str]:
    """Earlier runs of the study that were killed, ended as KILLED where they are not yet; returns their ids.

    `place` says whose: the same search on another machine keeps its trials elsewhere, and is none of ours.
    One process at a time searches a study (`open_study`), so one that is RUNNING is dead, wherever it ran.
    """
    client = mlflow.MlflowClient()
    of_the_study = f"tags.study = '{study}' and tags.study_place = '{place}'"
    states = ("attributes.status = 'RUNNING'", f"attributes.status = 'KILLED' and tags.failure = '{FAILURE}'")
    with as_server_error(uri):
        running, ended = (
            [
                one.info.run_id
                for one in client.search_runs([run.experiment_id], f"{of_the_study} and {state}", max_results=100)
                if one.info.run_id != run.id
            ]
            for state in states
        )
        for other in running:
            client.set_tag(other, "failure", FAILURE)
            client.set_terminated(other, "KILLED")
    return running + ended


def log_step(run: Run, uri: str, values: Mapping[str, float], step: int) -> None:
    """Metrics at a step."""
    now = int(time.time() * 1000)
    points = [Metric(name, float(value), now, step) for name, value in values.items()]
    with as_server_error(uri):
        mlflow.MlflowClient().log_batch(run.id, points)


def log_picture(run: Run, uri: str, name: str, figure: Any) -> None:
    """A matplotlib figure as an artifact."""
    with as_server_error(uri):
        mlflow.MlflowClient().log_figure(run.id, figure, name)
