"""Nested runs of a search in MLflow: one for each trial, and one for the training of the winner."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import mlflow
from mlflow.entities import Metric, Param, RunTag

from pipeline import __version__
from pipeline.runtime.process import ProcessIdentity
from pipeline.runtime.retry import RetryPolicy
from pipeline.tracking.run import PROCESS_TAG, Run, as_server_error, ending
from pipeline.tracking.stale_runs import FAILURE

__all__ = ["EndedRun", "abandoned", "log_picture", "log_step", "nested_run", "write_run"]

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"


@dataclass(frozen=True)
class EndedRun:
    """A nested run that has ended.

    Attributes
    ----------
    curve : a metric's name, and its value after each step
    started : seconds since 1970
    """

    name: str
    status: Literal["FINISHED", "FAILED"]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    curve: tuple[str, Mapping[int, float]]
    tags: Mapping[str, str]
    started: float
    seconds: float


def write_run(parent: Run, uri: str, ended: EndedRun) -> str:
    """Write an ended run below `parent`, in three requests; returns its id."""
    client = mlflow.MlflowClient()
    begin, end = int(ended.started * 1000), int((ended.started + ended.seconds) * 1000)
    points = [Metric(key, float(value), end, 0) for key, value in ended.metrics.items()]
    curve, values = ended.curve
    points += [Metric(curve, float(value), end, step) for step, value in values.items()]
    with as_server_error(uri):
        run = client.create_run(parent.experiment_id, begin, _tags(parent, ended.name), ended.name)
        client.log_batch(
            run.info.run_id,
            points,
            [Param(key, str(value)[:6000]) for key, value in ended.params.items()],
            [RunTag(key, value[:5000]) for key, value in ended.tags.items() if value],
        )
        client.set_terminated(run.info.run_id, ended.status, end)
    return str(run.info.run_id)


@contextmanager
def nested_run(parent: Run, uri: str, name: str, retry_policy: RetryPolicy | None = None) -> Iterator[Run]:
    """Open a run below the active one. It ends as in `tracking.start_run`."""
    tags = _tags(parent, name)
    with as_server_error(uri):
        # Start it by its id: by default MLflow would start the run of MLFLOW_RUN_ID, the parent, again.
        child = mlflow.MlflowClient().create_run(parent.experiment_id, tags=tags, run_name=name)
        active = mlflow.start_run(run_id=child.info.run_id, nested=True)
    run = Run(active, uri, retry_policy)
    with ending(run, uri):
        yield run


def _tags(parent: Run, name: str) -> dict[str, str]:
    return {_PARENT: parent.id, _NAME: name, "code_version": __version__, PROCESS_TAG: ProcessIdentity.me().text}


def abandoned(run: Run, uri: str, study: str, place: str) -> list[str]:
    """End earlier RUNNING runs of the study as KILLED; returns the ids of all its killed runs.

    `place` identifies the machine and the file with the trials: the same search elsewhere is another study.
    One process at a time searches a study (`open_study`), so any other RUNNING run of it has a dead process.
    """
    client = mlflow.MlflowClient()
    in_study = f"tags.study = '{study}' and tags.study_place = '{place}'"
    states = ("attributes.status = 'RUNNING'", f"attributes.status = 'KILLED' and tags.failure = '{FAILURE}'")
    with as_server_error(uri):
        running, ended = (
            [
                found_run.info.run_id
                for found_run in client.search_runs([run.experiment_id], f"{in_study} and {state}", max_results=100)
                if found_run.info.run_id != run.id
            ]
            for state in states
        )
        for run_id in running:
            client.set_tag(run_id, "failure", FAILURE)
            client.set_terminated(run_id, "KILLED")
    return running + ended


def log_step(run: Run, uri: str, values: Mapping[str, float], step: int) -> None:
    """Log metrics at a step."""
    now = int(time.time() * 1000)
    points = [Metric(name, float(value), now, step) for name, value in values.items()]
    with as_server_error(uri):
        mlflow.MlflowClient().log_batch(run.id, points)


def log_picture(run: Run, uri: str, name: str, figure: Any) -> None:
    """Log a matplotlib figure as an artifact."""
    with as_server_error(uri):
        mlflow.MlflowClient().log_figure(run.id, figure, name)
