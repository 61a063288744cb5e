"""Versions of the registered model, and the artifacts behind them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.artifact import FILES
from pipeline.errors import ArtifactError, InputError
from pipeline.tracking import as_server_error

__all__ = ["CHAMPION", "MODEL_NAME", "ModelVersion", "download", "register", "resolve"]

MODEL_NAME = "rankline"
CHAMPION = "champion"


@dataclass(frozen=True)
class ModelVersion:
    """Attributes
    ----------
    name, version : of the registry; version is "" for a run or a folder that is not registered
    run_id : the training run, "" for a folder
    how : why this one, in words
    folder : where the artifacts are, for a folder
    """

    name: str
    version: str
    run_id: str
    how: str
    folder: Path | None = None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return (
            f"{self.name}/{self.version}"
            if self.version
            else (str(self.folder) if self.folder else f"runs:/{self.run_id}")
        )


def register(model_uri: str, tags: dict[str, str] | None = None, run_id: str | None = None) -> str:
    """Make the logged model the newest version of `rankline`; returns the version.

    run_id : a run that makes one version only: where it has one already, that is it
    """
    if run_id is not None:
        with as_server_error(mlflow.get_tracking_uri()):
            there = mlflow.MlflowClient().search_model_versions(f"name = '{MODEL_NAME}' AND run_id = '{run_id}'")
        if there:
            return str(there[0].version)
    # It prints what it does; who trains a model is told the version at the end.
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with as_server_error(mlflow.get_tracking_uri()), silence[0], silence[1]:
        version = mlflow.register_model(model_uri, MODEL_NAME, tags=tags)
    return str(version.version)


def resolve(model: str | None) -> ModelVersion:
    """The version that `model` names.

    Parameters
    ----------
    model : ``rankline@champion``, ``rankline/3``, ``rankline`` (the newest), with or without
        ``models:/`` in front; ``runs:/RUN_ID``; or a folder. None: the champion, else the newest.

    Raises
    ------
    InputError
        Where there is no such version.
    """
    if model is None:
        try:
            return resolve(f"{MODEL_NAME}@{CHAMPION}")
        except InputError:
            newest = resolve(MODEL_NAME)
            return replace(newest, how=f"{newest.how}; none is promoted yet")
    if model.startswith("runs:/"):
        run_id = model.removeprefix("runs:/").strip("/").split("/")[0]
        return ModelVersion(MODEL_NAME, "", run_id, "as asked")
    text = model.removeprefix("models:/")
    if not model.startswith("models:/") and Path(model).is_dir():
        return ModelVersion("", "", "", "as asked", Path(model))
    match = re.fullmatch(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?", text)
    if match is None:
        raise InputError(f"No model {model!r}: write rankline@champion, rankline/3, runs:/RUN_ID or a folder")
    name, alias, version = match["name"], match["alias"], match["version"]
    with as_server_error(mlflow.get_tracking_uri()):
        return _from_registry(model, name, alias, version)


def _from_registry(model: str, name: str, alias: str | None, version: str | None) -> ModelVersion:
    client = mlflow.MlflowClient()
    try:
        if alias is not None:
            found = client.get_model_version_by_alias(name, alias)
            how = f"the {alias}"
        elif version is not None:
            found = client.get_model_version(name, version)
            how = "as asked"
        else:
            newest = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"], max_results=1)
            if not newest:
                raise InputError(
                    f"No version of {name!r} is registered yet; train one first (make train, or rankline train)"
                )
            found, how = newest[0], "the newest version"
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise InputError(f"No model {model!r} in the registry; `mlflow ui` shows those there are") from None
        raise
    return ModelVersion(str(found.name), str(found.version), str(found.run_id or ""), how)


def download(version: ModelVersion, into: Path, names: Sequence[str] = FILES) -> Path:
    """The folder with the four artifacts: in place where they are on this machine, else `names` fetched into `into`.

    Raises InputError where there is no such run, ArtifactError where it has no such files.
    """
    if version.folder is not None:
        return version.folder
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            uri = str(mlflow.MlflowClient().get_run(version.run_id).info.artifact_uri)
            here = Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None
            if here is not None and here.is_dir():
                return here
            for name in names:
                mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=name, dst_path=str(into))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(f"No run {version.run_id!r} in the MLflow store") from None
            raise
        except OSError as error:
            raise ArtifactError(f"The artifacts of run {version.run_id} could not be fetched ({error})") from None
    return into
