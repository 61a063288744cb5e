"""Runs by what a person calls them, and the evaluation that a run has left."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.judged import FOLDER, PER_USER, SUMMARY, Judged, read_judged
from pipeline.registry import MODEL_NAME, ModelVersion, resolve
from pipeline.tracking import as_server_error

__all__ = ["Named", "evaluation_of", "find_run"]


@dataclass(frozen=True)
class Named:
    """A run: `label` is what to call it in a message, `name` its name in MLflow, `version` "" where not asked by it."""

    run_id: str
    label: str
    name: str
    version: str = ""


def find_run(text: str) -> Named:
    """The run that `text` names.

    Parameters
    ----------
    text : a run's id, its first characters (4 at least) or its name where those are one run's alone;
        ``runs:/ID``; ``rankline/3``, ``rankline@champion``, ``rankline`` (the newest)

    Raises
    ------
    InputError
        Where no run, or more than one, is called that.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        if re.fullmatch(rf"(models:/.*|{MODEL_NAME}|{MODEL_NAME}[/@][^/@]+)", text):
            return _of_version(text, resolve(text))
        wanted = text.removeprefix("runs:/").strip("/")
        found: list[Any] = []
        if re.fullmatch(r"[0-9a-f]{4,32}", wanted):
            found = _search(f"attributes.run_id LIKE '{wanted}%'")
        if not found and "'" not in wanted:
            found = _search(f"attributes.run_name = '{wanted}'")
        elif not found:
            found = [run for run in _search("") if run.info.run_name == wanted]
    if not found:
        raise InputError(
            f"No run {text!r} in the MLflow store: give a run's id or name, {MODEL_NAME}/3 or {MODEL_NAME}@champion"
        )
    if len(found) > 1:
        raise InputError(f"{len(found)} runs are called {text!r}: {_listed(found)}; give the id of one")
    return Named(found[0].info.run_id, f"run {found[0].info.run_id[:8]}", str(found[0].info.run_name))


def _of_version(text: str, version: ModelVersion) -> Named:
    if not version.run_id:
        raise InputError(f"No run is recorded behind {text!r}")
    try:
        name = mlflow.MlflowClient().get_run(version.run_id).info.run_name
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise InputError(f"The run {version.run_id} of {version.label} is no longer in the MLflow store") from None
        raise
    return Named(version.run_id, version.label, str(name), version.version)


def _search(text: str) -> list[Any]:
    client = mlflow.MlflowClient()
    found: list[Any] = []
    experiments = [one.experiment_id for one in client.search_experiments()]
    token: str | None = None
    while experiments:
        page = client.search_runs(experiments, text, max_results=500, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def _listed(found: Sequence[Any]) -> str:
    shown = ", ".join(run.info.run_id[:12] for run in found[:5])
    return shown + (", …" if len(found) > 5 else "")


def evaluation_of(run: Named) -> Judged | None:
    """What the run's model was judged to be; None where it was trained before runs were judged, or with none held out.

    Raises InputError where the run is gone, ArtifactError where its evaluation can't be read.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        client = mlflow.MlflowClient()
        try:
            uri = str(client.get_run(run.run_id).info.artifact_uri)
            there = {one.path for one in client.list_artifacts(run.run_id, FOLDER)}
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(f"No run {run.run_id!r} in the MLflow store") from None
            raise
        if not {PER_USER, SUMMARY} <= there:
            return None
        if uri.startswith("file:"):
            return read_judged(Path(unquote(urlsplit(uri).path)) / FOLDER, run.label)
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            for path in (PER_USER, SUMMARY):
                mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path=path, dst_path=scratch)
            return read_judged(Path(scratch) / FOLDER, run.label)
