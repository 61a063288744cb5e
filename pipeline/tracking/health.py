"""Diagnostic checks of MLflow's store: its answer, its content, its artifact store, and runs that never ended."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import RanklineError, ServerError
from pipeline.models.model_files import missing_files
from pipeline.options.names import DEFAULT_NAME
from pipeline.runtime.diagnostics import Check, Finding, Group, fail, ok, warn, writable
from pipeline.runtime.redact import store_shown
from pipeline.runtime.sqlite_address import sqlite_path
from pipeline.tracking.artifact_store import check_artifact_store
from pipeline.tracking.store_errors import package_of

__all__ = ["artifact_folder", "store_group"]

_NOT_WRITABLE = "make the folder, let this user write to it, or name another store in MLFLOW_TRACKING_URI"
_HINT = "is the server up, and is MLFLOW_TRACKING_URI its address?"
# MLflow's client would retry for minutes; these limits fit into the time of one check.
_REQUEST_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "6"}
_EXPERIMENT = "rankline"
_LONG = 6 * 3600  # seconds; a run that is still RUNNING after that may be dead


def store_group(uri: str, model: str = DEFAULT_NAME) -> Group:
    """The checks of the store, in order; `model` is the registered model whose version is checked."""
    os.environ.update(_REQUEST_LIMITS)
    look = _Look(uri, model)
    checks = (
        Check("reachable", look.reachable),
        Check("experiment", look.experiment),
        Check("model", look.model),
        Check("artifacts", look.artifacts),
        Check("runs", look.runs),
    )
    return Group("mlflow", checks, server=_HINT)


def artifact_folder(uri: str) -> Path | None:
    """The folder of the artifacts of a store in a file; None for every other store."""
    path = sqlite_path(uri)
    return path.parent / "mlruns" if path is not None else None


class _Look:
    def __init__(self, uri: str, model: str) -> None:
        self._uri, self._model = uri, model
        self._client: Any = None
        self._experiment: Any = None
        self._name = (
            os.environ.get("RANKLINE_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        )

    def reachable(self) -> Iterator[Finding]:
        """Open the store as a command does, but do not create a missing file."""
        shown, path = store_shown(self._uri), sqlite_path(self._uri)
        if shown is None:
            yield fail("reachable", "MLFLOW_TRACKING_URI is no address that MLflow knows", _HINT)
            return
        if path is not None and not path.exists():
            if path.parent.is_dir() and writable(path.parent):
                yield warn("reachable", f"{path} is not there yet", "the first training makes it")
            else:
                yield fail(
                    "reachable", f"{path} can't be made: its folder is missing or can't be written", _NOT_WRITABLE
                )
            return
        if path is not None and not writable(path.parent):
            yield warn(
                "writable", f"{path.parent} can't be written: only commands that read the store work", _NOT_WRITABLE
            )
        import mlflow

        from pipeline.tracking import run as tracking

        start = time.perf_counter()
        try:
            tracking.open_store(self._uri)
        except ServerError as error:
            todo = "mlflow db upgrade ADDRESS" if "out-of-date database schema" in str(error) else _HINT
            yield fail("reachable", str(error), todo, server=True)
            return
        except RanklineError as error:
            yield fail("reachable", str(error), _HINT)
            return
        took = time.perf_counter() - start
        self._client = mlflow.MlflowClient()
        version = f"MLflow {self._version()}" if self._uri.startswith(("http://", "https://")) else "a store in a file"
        if path is None and version.startswith("a store"):
            version = "a database"
        yield ok("reachable", f"{shown}: {version}, in {took:.2f} s")

    def _version(self) -> str:
        """The version of the server."""
        import requests

        from pipeline.tracking import http

        try:
            answer = http.get(self._uri.rstrip("/") + "/version", 5)
        except requests.RequestException:
            return "of unknown version"
        text = answer.text.strip()
        return text if answer.ok and len(text) < 20 else "of unknown version"

    def experiment(self) -> Iterator[Finding]:
        """Check the experiment that training writes to."""
        if self._client is None:
            return
        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            yield ok("experiment", f"{self._name} is not there yet: the first training makes it")
        elif experiment.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore -x {experiment.experiment_id}"
            yield fail("experiment", f"{self._name} is deleted", f"{restore}, or another --experiment-name")
        else:
            self._experiment = experiment
            yield ok("experiment", f"{self._name}: artifacts in {experiment.artifact_location}")

    def model(self) -> Iterator[Finding]:
        """Check the version that scoring uses (the champion, else the newest) and its artifacts."""
        if self._client is None:
            return
        from mlflow.exceptions import MlflowException

        from pipeline.tracking.registry import resolve

        try:
            version = resolve(None, self._model)
        except ServerError as error:
            yield fail("model", str(error), _HINT, server=True)
            return
        except RanklineError as error:
            yield warn("model", str(error), "rankline train registers the first version")
            return
        said = f"{version.label} ({version.how}), run {version.run_id[:8]}"
        try:
            paths = {artifact.path for artifact in self._client.list_artifacts(version.run_id)}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            other = f"rankline promote {version.name}/NUMBER --force --reason … makes another one champion"
            yield fail("model", f"{said}, which is no longer there", other)
            return
        if lost := missing_files(paths):
            yield fail("model", f"{said}: no {', '.join(lost)}", "its artifacts are gone: train again")
        else:
            yield ok("model", f"{said}, its artifacts are there")

    def artifacts(self) -> Iterator[Finding]:
        """Write a small file to the artifact store through MLflow, and delete it. No run is created."""
        if self._client is None:
            return
        if self._experiment is None:
            folder = artifact_folder(self._uri)
            if folder is None:
                yield ok("artifacts", "not tried: the first training makes the experiment")
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        location, name = str(self._experiment.artifact_location), f".rankline-doctor-{secrets.token_hex(4)}"
        shown = store_shown(location) or location.partition("@")[2] or location
        try:
            check_artifact_store(location)
        except (ImportError, ServerError) as error:
            text = f"{shown} needs the package {package_of(error)}" if isinstance(error, ImportError) else str(error)
            yield fail("artifacts", text, "training would end before its fit", server=True)
            return
        store = get_artifact_repository(location)
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            path = Path(scratch) / "probe.txt"
            path.write_text("rankline doctor tries whether artifacts can be written; it may be deleted\n")
            try:
                store.log_artifact(str(path), name)  # type: ignore[no-untyped-call]
                paths = {artifact.path for artifact in store.list_artifacts(name)}
            except Exception as error:  # noqa: BLE001  (each kind of artifact store raises its own errors)
                text = " ".join(str(error).split())[:200]
                yield fail(
                    "artifacts",
                    f"{shown} can't be written ({type(error).__name__}: {text})",
                    "training would fail at its end: give this user the right to, and room",
                )
                return
            finally:
                _undo(store, location, name)
        if f"{name}/probe.txt" in paths:
            yield ok("artifacts", f"{shown} can be written")
        else:
            yield fail("artifacts", f"{shown}: what was written is not there", "look at the artifact store")

    def runs(self) -> Iterator[Finding]:
        """Check for runs that never ended."""
        if self._experiment is None:
            return
        running = self._client.search_runs(
            [self._experiment.experiment_id],
            "attributes.status = 'RUNNING'",
            order_by=["start_time ASC"],
            max_results=50,
        )
        now = time.time()
        old = [run for run in running if now - run.info.start_time / 1000 > _LONG]
        if old:
            ids = ", ".join(run.info.run_id for run in old[:3]) + (" …" if len(old) > 3 else "")
            end = f"python -c \"import mlflow; mlflow.MlflowClient().set_terminated('{old[0].info.run_id}', 'KILLED')\""
            yield warn(
                "runs", f"{len(old)} left RUNNING for hours: {ids}", f"where nothing trains there any more: {end}"
            )
        elif running:
            since = datetime.fromtimestamp(running[0].info.start_time / 1000, UTC)
            yield ok("runs", f"{len(running)} going on, the first since {since:%H:%M} UTC")
        else:
            yield ok("runs", "none is left RUNNING")


def _undo(store: Any, location: str, name: str) -> None:
    """Delete the probe and its folder."""
    try:
        store.delete_artifacts(name)
        if location.startswith("file:"):
            folder = Path(unquote(urlsplit(location).path)) / name
            if folder.is_dir():
                folder.rmdir()
    except Exception:  # noqa: BLE001, S110  (a probe left behind says in its text that it may be deleted)
        pass
