"""Opening a run in MLflow, and ending it as it went. What is logged between the two: `active_run`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from pipeline import __version__
from pipeline.errors import InputError, RanklineError, ServerError, UsageError
from pipeline.runtime.process import ProcessIdentity
from pipeline.runtime.retry import RetryPolicy
from pipeline.runtime.sqlite_address import sqlite_path
from pipeline.tracking.active_run import PROCESS_TAG, Run, now_ms, points
from pipeline.tracking.artifact_store import artifact_folder, check_artifact_store
from pipeline.tracking.store import (
    as_server_error,
    impatient,
    is_file,
    locked_store,
    open_or_make_store,
    open_store,
    store_in_use,
)

__all__ = [
    "PROCESS_TAG",
    "Run",
    "as_server_error",
    "ending",
    "experiment_id",
    "finish_parent",
    "git_commit",
    "is_file",
    "locked_store",
    "open_or_make_store",
    "open_store",
    "resumed_run",
    "run_name",
    "run_of_mlflow",
    "start_run",
]

DEFAULT_EXPERIMENT = "rankline"  # where no other is given


def git_commit(checkout: Path | None) -> str | None:
    """The commit that is checked out, with "+" for uncommitted changes; None where there is no repository."""
    if checkout is None:
        return None
    try:
        git = ["git", "-C", str(checkout)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if dirty else "")


def run_name(run_id: str) -> str:
    """The name of a run in the open store, "" where it is not there."""
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            return str(mlflow.MlflowClient().get_run(run_id).info.run_name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return ""
            raise


@contextmanager
def start_run(
    uri: str, experiment: str, checkout: Path | None, retry_policy: RetryPolicy | None = None
) -> Iterator[Run]:
    """Open a run. It ends FINISHED, or FAILED or KILLED with the reason in the tag ``failure``.

    Where ``MLFLOW_RUN_ID`` is set (`mlflow run` sets it), that run is used.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID") or None
    tags = {PROCESS_TAG: ProcessIdentity.me().text}
    with as_server_error(uri):
        if run_id is None:
            active = mlflow.start_run(experiment_id=experiment_id(experiment, uri), tags=tags)
        else:
            _check_given(run_id)
            active = mlflow.start_run(run_id=run_id, tags=tags)
    run = Run(active, uri, retry_policy)
    with ending(run, uri):
        with as_server_error(uri):
            check_artifact_store(run.artifacts)
            _mark_experiment(run.experiment_id)
        run.tags_later({"code_version": __version__, "git_commit": git_commit(checkout)})
        yield run


def _check_given(run_id: str) -> None:
    """Raise UsageError where MLFLOW_RUN_ID names no run of the store, as one that a shell still has from elsewhere."""
    try:
        stage = mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        stage = "not"
    if stage != "active":
        state = "is not" if stage == "not" else "was deleted"
        place = f"in {store_in_use()}" if stage == "not" else f"from {store_in_use()}"
        raise UsageError(
            f"The run {run_id!r} that MLFLOW_RUN_ID names {state} {place}: unset MLFLOW_RUN_ID, which `mlflow run` sets"
        )


def _given_experiment(given: str) -> str:
    try:
        experiment = mlflow.get_experiment(given)
        state = "" if experiment.lifecycle_stage == "active" else "was deleted from"
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        state = "is not in"
    if state:
        raise UsageError(
            f"The experiment {given!r} that MLFLOW_EXPERIMENT_ID names {state} {store_in_use()}: unset it, or give "
            "--experiment-name"
        )
    return given


@contextmanager
def run_of_mlflow(uri: str, checkout: Path | None) -> Iterator[Run | None]:
    """The run that `mlflow run` opened for this process, which ends as in `start_run`; None outside of `mlflow run`."""
    if not os.environ.get("MLFLOW_RUN_ID"):
        yield None
        return
    with start_run(uri, "", checkout) as run:
        yield run


@contextmanager
def resumed_run(uri: str, run_id: str, retry_policy: RetryPolicy | None = None) -> Iterator[Run]:
    """Reopen an earlier run, which ends as in `start_run`. Raises InputError where it does not exist."""
    with as_server_error(uri):
        try:
            client = mlflow.MlflowClient()
            if client.get_run(run_id).info.lifecycle_stage == "deleted":
                raise InputError(f"The run {run_id} was deleted from {store_in_use()}")
            # Set before the status is RUNNING: `end_stale_runs` ends RUNNING runs of dead processes.
            client.set_tag(run_id, PROCESS_TAG, ProcessIdentity.me().text)
            active = mlflow.start_run(run_id=run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(f"No run {run_id} in {store_in_use()}") from None
            raise
    run = Run(active, uri, retry_policy)
    with ending(run, uri):
        yield run


def finish_parent(run: Run, version: str) -> None:
    """Set the parent run of the search FINISHED and name the winner there; nothing where the run has no parent."""
    client = mlflow.MlflowClient()

    def once() -> None:
        parent = client.get_run(run.id).data.tags.get("mlflow.parentRunId")
        if parent is None or client.get_run(parent).info.status == "FINISHED":
            return
        for key, value in (("model_version", version), ("winner_run", run.id)):
            client.set_tag(parent, key, value)
        if "failure" in client.get_run(parent).data.tags:
            client.delete_tag(parent, "failure")
        client.set_terminated(parent, "FINISHED")

    run.retry("ending the search's run", once)


@contextmanager
def ending(run: Run, uri: str) -> Iterator[None]:
    """End the active run: FINISHED, or FAILED or KILLED with the reason in the tag ``failure``."""
    try:
        yield
    except KeyboardInterrupt:
        _end(run, "KILLED", "interrupted")
        raise
    except RanklineError as error:
        _end(run, "FAILED", str(error))
        raise
    except BaseException as error:
        _end(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    _end(run, "FINISHED", None)


def _end(run: Run, status: str, failure: str | None) -> None:
    if status == "FINISHED":
        if held := run.held():
            run.metrics(held)
        run.tags(run.held_tags())
        run.finish()
        # Clears MLflow's active run. The store has the status already, so this request may fail.
        with impatient(), suppress(MlflowException):
            mlflow.end_run(status)
        return
    # The store itself may have failed: show the original error, and without a long wait.
    client = mlflow.MlflowClient()
    with impatient():
        with suppress(Exception):
            tags = [RunTag(key, value) for key, value in run.held_tags().items()]
            client.log_batch(run.id, metrics=points(run.held(), now_ms()), tags=tags)
        with suppress(Exception):
            client.set_tag(run.id, "failure", (failure or "")[:5000])
        with suppress(Exception):
            mlflow.end_run(status)


def _mark_experiment(experiment_id: str) -> None:
    """Set the experiment's kind, so that the UI opens the list of runs and not a page on language models."""
    client = mlflow.MlflowClient()
    if "mlflow.experimentKind" not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")


def experiment_id(name: str, uri: str) -> str:
    """The id of the experiment, which is created if it does not exist.

    ``MLFLOW_EXPERIMENT_ID`` names it where no name was given. Raises UsageError where it names none of the store.
    """
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given and name == DEFAULT_EXPERIMENT:
        return _given_experiment(given)
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            raise ServerError(
                f"The experiment {name!r} is deleted; restore it "
                f"(mlflow experiments restore -x {experiment.experiment_id}) or give another --experiment-name"
            )
        return str(experiment.experiment_id)
    # For a store in a file: beside it, whatever the working folder is. A server chooses its own location.
    path = sqlite_path(uri)
    location = artifact_folder(path, name).as_uri() if path is not None else None
    with locked_store(uri):
        experiment = mlflow.get_experiment_by_name(name)  # another process may have created it meanwhile
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(mlflow.create_experiment(name, artifact_location=location))
