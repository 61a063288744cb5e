"""Finds runs by id, name or version, and reads the evaluation of a run."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError, MissingRunError
from pipeline.evaluation.storage import FOLDER, PER_USER, SUMMARY, StoredEvaluation, read_evaluation
from pipeline.tracking.registry import MODEL_NAME, RESTORED_FROM, ModelVersion, is_number, resolve, run_here
from pipeline.tracking.store import as_server_error, search_runs, store_in_use

__all__ = [
    "NIGHT",
    "RunRecord",
    "RunRef",
    "evaluation_files",
    "evaluation_of",
    "find_run",
    "run_record",
    "text_of",
]

NIGHT = "night"  # tag of a run that a nightly job made: the time that the job went by


@dataclass(frozen=True)
class RunRef:
    """A run. `label` is its name in messages, `name` its name in MLflow, `version` the version that named it, or ""."""

    run_id: str
    label: str
    name: str
    version: str = ""


def find_run(text: str, model: str = MODEL_NAME) -> RunRef:
    """The run that `text` names.

    Parameters
    ----------
    text : a run's id, the beginning of an id (at least 4 characters) or a run's name, if unique;
        ``runs:/ID``; ``rankline/3``, ``rankline@champion``, ``rankline`` (the newest); or the number of a version
    model : the registered model, where `text` is a number

    Raises
    ------
    InputError
        No run, or more than one, matches.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        if re.fullmatch(rf"(models:/.*|({MODEL_NAME}|{model})([/@][^/@]+)?)", text):
            return _of_version(text, resolve(text))
        if re.fullmatch(r"[a-z][a-z0-9_]*(/\d+|@[^/@]+)", text):
            with suppress(InputError):  # a run may be called that, too
                return _of_version(text, resolve(text))
        wanted = text.removeprefix("runs:/").strip("/")
        runs: list[Any] = []
        if re.fullmatch(r"[0-9a-f]{4,32}", wanted):
            runs = search_runs(f"attributes.run_id LIKE '{wanted}%'") or search_runs(
                f"tags.{RESTORED_FROM} LIKE '{wanted}%'"
            )
        if not runs and "'" not in wanted:
            runs = search_runs(f"attributes.run_name = '{wanted}'")
        elif not runs:
            runs = [run for run in search_runs("") if run.info.run_name == wanted]
        if not runs and is_number(text):
            with suppress(InputError):
                return _of_version(text, resolve(text, model))
    if not runs:
        raise InputError(f"No run {text!r} in {store_in_use()}: give a run's id or name, {model}/3 or {model}@champion")
    if len(runs) > 1:
        raise InputError(f"{len(runs)} runs are called {text!r}: {_listed(runs)}; give the id of one")
    return RunRef(runs[0].info.run_id, f"run {runs[0].info.run_id[:8]}", str(runs[0].info.run_name))


def _of_version(text: str, version: ModelVersion) -> RunRef:
    if not version.run_id:
        raise InputError(f"No run is recorded behind {text!r}")
    try:
        name = mlflow.MlflowClient().get_run(version.run_id).info.run_name
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MissingRunError(
                f"The run {version.run_id} of {version.label} is no longer in {store_in_use()}"
            ) from None
        raise
    return RunRef(version.run_id, version.label, str(name), version.version)


def _listed(runs: Sequence[Any]) -> str:
    shown = ", ".join(run.info.run_id[:12] for run in runs[:5])
    return shown + (", …" if len(runs) > 5 else "")


def evaluation_of(run: RunRef) -> StoredEvaluation | None:
    """The evaluation of the run's model; None for a run without one (an old run, or one with ``--holdout 0``).

    Raises MissingRunError where the run does not exist, EvaluationError where its evaluation can't be read.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        client = mlflow.MlflowClient()
        try:
            run_id = run_here(run.run_id)
            uri = str(client.get_run(run_id).info.artifact_uri)
            paths = {artifact.path for artifact in client.list_artifacts(run_id, FOLDER)}
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise MissingRunError(f"the run {run.run_id} of {run.label} is no longer in {store_in_use()}") from None
            raise
        if not {PER_USER, SUMMARY} <= paths:
            return None
        if uri.startswith("file:"):
            return read_evaluation(Path(unquote(urlsplit(uri).path)) / FOLDER, run.label)
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            # Use the path that MLflow returns: whether it includes the artifact's folders depends on MLflow's version.
            folders = {
                Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch)).parent
                for path in (PER_USER, SUMMARY)
            }
            return read_evaluation(folders.pop(), run.label)


def text_of(run: RunRef, name: str, most: int = 1 << 20) -> str | None:
    """The text of a file at the run's root; None where the file is missing or has more than `most` bytes.

    Raises MissingRunError where the run does not exist.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        run_id = _run_of(run)
        artifacts = mlflow.MlflowClient().list_artifacts(run_id)
        sizes = {artifact.path: artifact.file_size for artifact in artifacts}
        if name not in sizes or (sizes[name] or 0) > most:
            return None
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=scratch)
            return Path(path).read_text(encoding="utf-8", errors="replace")


def _run_of(run: RunRef) -> str:
    """The run's id, or that of the run that it was restored to. Raises MissingRunError where neither exists."""
    try:
        return run_here(run.run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise MissingRunError(f"the run of {run.label} is no longer in {store_in_use()}") from None
        raise


class RunRecord(NamedTuple):
    """What a run says: `params` as they were logged, `tags`, and when it began."""

    params: Mapping[str, str]
    tags: Mapping[str, str]
    started: datetime

    @property
    def trained(self) -> datetime:
        """When it was trained, by the clock of the nightly job that did it, if one did."""
        try:
            at = datetime.fromisoformat(self.tags.get(NIGHT, ""))
        except ValueError:
            return self.started
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def run_record(run: RunRef) -> RunRecord:
    """What the run says. Raises MissingRunError where it does not exist."""
    with as_server_error(mlflow.get_tracking_uri()):
        found = mlflow.MlflowClient().get_run(_run_of(run))
    started = datetime.fromtimestamp(found.info.start_time / 1000, UTC)
    return RunRecord(dict(found.data.params), dict(found.data.tags), started)


def evaluation_files(run: RunRef, into: Path) -> Path | None:
    """A copy of the two files of the run's evaluation, in the folder `into`; None for a run without one.

    Raises MissingRunError where the run does not exist.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        run_id = _run_of(run)
        paths = {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id, FOLDER)}
        if not {PER_USER, SUMMARY} <= paths:
            return None
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            for path in (PER_USER, SUMMARY):
                copied = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch)
                shutil.copyfile(copied, into / Path(path).name)
    return into
