"""Deletes versions with what is behind them: the version, the models that its run logged, and the run's files.

The run stays, with its parameters and metrics: they take next to nothing, and tell what there once was. Before anything
is deleted the run is marked with a tag, so a process that is killed in the middle leaves what the next one finishes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.tracking.artifact_store import local_folder
from pipeline.tracking.champion_lock import champion_lock
from pipeline.tracking.registry import RESTORED_FROM
from pipeline.tracking.store import as_server_error, is_file, locked_store, search_runs
from pipeline.tracking.versions import last_good

__all__ = ["FOLDED_FROM", "VersionFacts", "aliases_of", "all_versions", "bytes_of", "delete_old", "finish_deletions"]

FOLDED_FROM = "folded_from"  # tag of a version that new data was folded into: the version that it comes from
_MARK = "rankline_deleting"  # tag of a run: the version of it that is being deleted, such as rankline/7
_GONE = "artifacts_deleted_at"
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class VersionFacts(NamedTuple):
    """A version of a model.

    Attributes
    ----------
    created_ms : milliseconds since 1970
    folded_from : the version that new data was folded into; "" for a trained one
    restored_from : the run that made its artifacts, where a backup was restored to another run; else ""
    """

    version: str
    run_id: str
    created_ms: int
    folded_from: str = ""
    restored_from: str = ""


def all_versions(model: str) -> list[VersionFacts]:
    """Every version of the model; [] where there is no such model."""
    with as_server_error(mlflow.get_tracking_uri()):
        found = mlflow.search_model_versions(filter_string=f"name = '{model}'")
    return [
        VersionFacts(
            str(version.version),
            str(version.run_id or ""),
            int(version.creation_timestamp),
            str(version.tags.get(FOLDED_FROM, "")),
            str(version.tags.get(RESTORED_FROM, "")),
        )
        for version in found
    ]


def aliases_of(model: str) -> dict[str, str]:
    """Alias → version; {} where there is no such model."""
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            aliases = mlflow.MlflowClient().get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
    return {str(alias): str(version) for alias, version in aliases.items()}


def delete_old(version: VersionFacts, model: str) -> bool:
    """Delete the version and what is behind it; False, with nothing deleted, where it is needed by now.

    Nobody is promoted meanwhile. May be repeated after an interrupt: see `finish_deletions`.
    """
    uri = mlflow.get_tracking_uri()
    client = mlflow.MlflowClient()
    with as_server_error(uri):
        others = _versions_of_run(version.run_id) - {(model, version.version)}
        run = _run(client, version.run_id)
        with locked_store(uri), champion_lock(not is_file(uri), model):
            if version.version in {*aliases_of(model).values(), *last_good(model)}:
                return False
            if run is not None and not others:
                client.set_tag(version.run_id, _MARK, f"{model}/{version.version}")
            with _Missing():
                client.delete_model_version(model, version.version)
        if run is not None and not others:
            _delete_files(client, run)
    return True


def finish_deletions(model: str) -> list[str]:
    """Finish what killed processes began; returns the versions: ``rankline/7``."""
    client = mlflow.MlflowClient()
    finished = []
    with as_server_error(mlflow.get_tracking_uri()):
        for run in search_runs(f"tags.{_MARK} LIKE '{model}/%'"):
            if _versions_of_run(str(run.info.run_id)):
                # Killed before the version was deleted: whether it goes is decided anew.
                client.delete_tag(run.info.run_id, _MARK)
                continue
            _delete_files(client, run)
            finished.append(str(run.data.tags[_MARK]))
    return finished


def bytes_of(version: VersionFacts) -> int:
    """Size of the files behind the version, as far as they are on this machine."""
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()):
        run = _run(client, version.run_id)
        if run is None:
            return 0
        places = [str(run.info.artifact_uri), *(str(model.artifact_location) for model in _logged_models(client, run))]
    folders = [folder for place in places if (folder := local_folder(place)) is not None]
    return sum(_size(Path(root) / name) for top in folders for root, _, names in os.walk(top) for name in names)


def _delete_files(client: mlflow.MlflowClient, run: Any) -> None:
    """The models that the run logged, and its files; last its mark."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run_id = str(run.info.run_id)
    for model in _logged_models(client, run):
        # Never a folder that is not the model's own.
        if str(model.model_id) in str(model.artifact_location):
            with _Missing():
                get_artifact_repository(str(model.artifact_location)).delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's own
        with _Missing():
            client.delete_logged_model(model.model_id)
    if run_id in str(run.info.artifact_uri):
        with _Missing():
            get_artifact_repository(str(run.info.artifact_uri)).delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's own
    client.set_tag(run_id, _GONE, datetime.now(UTC).isoformat(timespec="seconds"))
    with _Missing():
        client.delete_tag(run_id, _MARK)


class _Missing:
    """Let nothing happen where MLflow says that what is to be deleted is not there."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: object) -> bool:
        missing = isinstance(error, MlflowException) and error.error_code in _MISSING
        return missing or isinstance(error, FileNotFoundError)


def _logged_models(client: mlflow.MlflowClient, run: Any) -> list[Any]:
    return list(client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"))


def _versions_of_run(run_id: str) -> set[tuple[str, str]]:
    """(model, version) of every version that the run registered, of any model."""
    if not run_id:
        return set()
    found = mlflow.search_model_versions(filter_string=f"run_id = '{run_id}'")
    return {(str(version.name), str(version.version)) for version in found}


def _run(client: mlflow.MlflowClient, run_id: str) -> Any:
    """The run; None where it is not there any more."""
    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in _MISSING:
            return None
        raise


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
