"""Versions of the registered model, and the artifacts behind them."""

from __future__ import annotations

import contextlib
import errno
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException

from pipeline.errors import ArtifactError, InputError, MissingRunError, SignatureError
from pipeline.models.model_files import ALL_FILES, missing_files
from pipeline.models.protocols import SavedModel
from pipeline.models.signatures import SIGNATURE
from pipeline.options.names import DEFAULT_NAME
from pipeline.tracking.champion_log import champion_in
from pipeline.tracking.store import as_server_error, search_runs, store_in_use

__all__ = [
    "CHAMPION",
    "MODEL_NAME",
    "RESTORED_FROM",
    "ModelVersion",
    "check_run",
    "download",
    "is_number",
    "register",
    "resolve",
    "restored_from",
    "run_here",
    "signature_named",
]

MODEL_NAME = DEFAULT_NAME
CHAMPION = "champion"
# Tag of a version, and of its run, that a backup was restored to: the run that the artifacts say made them.
RESTORED_FROM = "restored_from_run"
_SHOWN = 20  # models in a message


@dataclass(frozen=True)
class ModelVersion:
    """Attributes
    ----------
    name, version : name and version in the registry; version is "" for a run or folder that is not registered
    run_id : the training run, "" for a folder
    how : why this version was chosen, for a message
    folder : the folder with the artifacts, if `resolve` was given a folder
    restored_from : the run that made the artifacts, where a backup was restored to another run; else ""
    """

    name: str
    version: str
    run_id: str
    how: str
    folder: Path | None = None
    restored_from: str = ""

    @property
    def made_by(self) -> str:
        """The run that made the artifacts, as answers and rows of tables name it."""
        return self.restored_from or self.run_id

    @property
    def label(self) -> str:
        """The version's name in messages."""
        return (
            f"{self.name}/{self.version}"
            if self.version
            else (str(self.folder) if self.folder else f"runs:/{self.run_id}")
        )

    def number_of(self, model: str) -> str:
        """The version as rows of the model's table show it: the number alone for a version of that model."""
        return self.version if self.name == model or not self.version else self.label


def register(
    model_uri: str, tags: dict[str, str] | None = None, run_id: str | None = None, name: str = MODEL_NAME
) -> str:
    """Make the logged model the newest version of the registered model `name`; returns the version.

    run_id : the run of the model. If it has registered a version already, that version is returned
    """
    if run_id is not None:
        with as_server_error(mlflow.get_tracking_uri()):
            versions = mlflow.MlflowClient().search_model_versions(f"name = '{name}' AND run_id = '{run_id}'")
        if versions:
            return str(versions[0].version)
    # MLflow prints messages here; `train` itself reports the version.
    silence = contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO())
    with as_server_error(mlflow.get_tracking_uri()), silence[0], silence[1]:
        version = mlflow.register_model(model_uri, name, tags=tags)
    return str(version.version)


def resolve(model: str | None, name: str = MODEL_NAME) -> ModelVersion:
    """The version that `model` names.

    Parameters
    ----------
    model : ``rankline@champion``, ``rankline/3``, ``rankline`` (the newest), with or without
        ``models:/`` in front; ``runs:/RUN_ID``; a folder; or a number, a version of `name`. None: the champion of
        `name`, else its newest version
    name : the registered model where `model` names none

    Raises
    ------
    InputError
        Where there is no such version.
    """
    if model is None:
        try:
            return resolve(f"{name}@{CHAMPION}")
        except InputError:
            newest = resolve(name)
            return replace(newest, how=f"{newest.how}; none is promoted yet")
    if model.startswith("runs:/"):
        run_id = model.removeprefix("runs:/").strip("/").split("/")[0]
        return ModelVersion(name, "", run_id, "as asked")
    text = model.removeprefix("models:/")
    if not model.startswith("models:/") and Path(model).is_dir():
        return ModelVersion("", "", "", "as asked", Path(model))
    if is_number(text):
        text = f"{name}/{text}"
    match = re.fullmatch(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?", text)
    if match is None:
        raise InputError(f"No model {model!r}: write {name}@champion, {name}/3, runs:/RUN_ID or a folder")
    alias, version = match["alias"], match["version"]
    with as_server_error(mlflow.get_tracking_uri()):
        return _from_registry(model, match["name"], alias, version)


def is_number(text: str) -> bool:
    """Whether a text is the number of a version, and not the beginning of a run's id."""
    return text.isascii() and text.isdecimal() and len(text) < 7


def _from_registry(model: str, name: str, alias: str | None, version: str | None) -> ModelVersion:
    client = mlflow.MlflowClient()
    try:
        if alias == CHAMPION:
            page = client.get_registered_model(name)
            number = champion_in(page.tags, str(page.aliases.get(alias, "")))
            if not number:
                raise InputError(_no_version(client, name, alias))
            registered, how = client.get_model_version(name, number), f"the {alias}"
        elif alias is not None:
            registered = client.get_model_version_by_alias(name, alias)
            how = f"the {alias}"
        elif version is not None:
            registered = client.get_model_version(name, version)
            how = "as asked"
        else:
            newest = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"], max_results=1)
            if not newest:
                raise InputError(_no_version(client, name))
            registered, how = newest[0], "the newest version"
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise InputError(_no_version(client, name, alias, version)) from None
        raise
    before = str(registered.tags.get(RESTORED_FROM, ""))
    run_id = str(registered.run_id or "")
    return ModelVersion(str(registered.name), str(registered.version), run_id, how, restored_from=before)


def _no_version(client: mlflow.MlflowClient, name: str, alias: str | None = None, version: str | None = None) -> str:
    """What is missing, in which store, and what there is instead."""
    store = store_in_use()
    names = sorted(str(model.name) for model in client.search_registered_models(max_results=_SHOWN))
    if name in names or name == MODEL_NAME:
        missing = f"alias {alias!r}" if alias else f"version {version}"
        if alias == CHAMPION:
            missing = CHAMPION
        newest = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"], max_results=1)
        if newest:
            return f"{name} has no {missing} in {store}; its newest version is {name}/{newest[0].version}"
        typed = "" if name == MODEL_NAME else f" --name {name}"
        others = f" (there are {', '.join(names)})" if names else ""
        return (
            f"No version of {name!r} is registered yet in {store}{others}; "
            f"train one first (make train, or rankline train{typed})"
        )
    registered = f"there are {', '.join(names)}" if names else "no model is registered there yet"
    return f"No model of the name {name!r} in {store}: {registered}; rankline train --name NAME makes one"


def _no_run(version: ModelVersion) -> str:
    if not version.version:
        return f"No run {version.run_id!r} in {store_in_use()}"
    how = f", {version.how}," if version.how and version.how != "as asked" else ""
    return (
        f"The run {version.run_id} of {version.label}{how} is no longer in {store_in_use()}, and its model with it: "
        f"--model {version.name}/NUMBER names another version, and "
        f"rankline promote {version.name}/NUMBER --force --reason … makes one champion"
    )


def download(version: ModelVersion, into: Path, names: Sequence[str] | None = None) -> Path:
    """The folder with the saved model: the original one if it is on this machine, else a download in `into`.

    names : the files to download, and the signature if there is one; default, all files of the saved model

    Raises MissingRunError where the run does not exist, ArtifactError where it lacks a file.
    """
    if version.folder is not None:
        return version.folder
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            run_id = run_here(version.run_id)
            uri = str(mlflow.MlflowClient().get_run(run_id).info.artifact_uri)
            here = Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None
            if here is not None and here.is_dir():
                return here
            paths = {str(file.path) for file in mlflow.MlflowClient().list_artifacts(run_id)}
            if names is None:
                names = (*(name for name in ALL_FILES if name in paths), *missing_files(paths))
            elif SIGNATURE in paths:
                names = (*names, SIGNATURE)
            for name in names:
                mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(into))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise MissingRunError(_no_run(version)) from None
            raise
        except OSError as error:
            if isinstance(error, requests.RequestException) or error.errno not in (None, errno.ENOENT):
                raise  # not of the files: the store does not answer, or this machine can't take them
            raise ArtifactError(f"The artifacts of run {version.run_id} could not be fetched ({error})") from None
    return into


def run_here(run_id: str) -> str:
    """The run of that id, or the one that it was restored to where a backup was registered again."""
    client = mlflow.MlflowClient()
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST" or not re.fullmatch(r"\w+", run_id):
            raise
        if not (restored := search_runs(f"tags.{RESTORED_FROM} = '{run_id}'")):
            raise
        return str(restored[0].info.run_id)
    return run_id


def restored_from(version: ModelVersion) -> str:
    """The run that the version's artifacts are of, where they were restored to another one; else ""."""
    if version.restored_from:
        return version.restored_from
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            return str(mlflow.MlflowClient().get_run(version.run_id).data.tags.get(RESTORED_FROM, ""))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return ""
            raise


@contextmanager
def signature_named(version: ModelVersion) -> Iterator[None]:
    """Say in a SignatureError which version it is about: its files may be in a folder that is soon gone."""
    try:
        yield
    except SignatureError as error:
        raise SignatureError(f"{version.label}: {error}" if version.folder is None else str(error)) from None


def check_run(model: SavedModel, version: ModelVersion) -> None:
    """Raise ArtifactError where the artifacts say that another run made them, as those do that somebody copied.

    Artifacts of before they said so pass, and those that were restored to another run, which has a tag of that.
    """
    made_by = str(model.meta.get("run_id") or "")
    if version.run_id and made_by and made_by != version.run_id and made_by != restored_from(version):
        raise ArtifactError(
            f"The artifacts of {version.label} are those of another run: metadata.json says {made_by}, and the version "
            f"is of run {version.run_id}. Put that run's own artifacts back, or name the other: --model runs:/{made_by}"
        )
