"""MLflow: does its store answer, what is in it, can artifacts be written, which runs never ended."""

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

from pipeline.artifact import FILES
from pipeline.checkup.finding import Finding, fail, ok, warn
from pipeline.checkup.machine import writable
from pipeline.checkup.surroundings import store_shown
from pipeline.checkup.timed import Check, Group
from pipeline.errors import RanklineError, ServerError
from pipeline.settings import Settings

__all__ = ["artifact_folder", "store_group", "store_path"]

_NAMED = "make the folder, let this user write to it, or name another store in MLFLOW_TRACKING_URI"
_HINT = "is the server up, and is MLFLOW_TRACKING_URI its address?"
# For MLflow's client, within a check's time: it would try for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "6"}
_EXPERIMENT = "rankline"
_LONG = 6 * 3600  # seconds after which a run that is still going on is a question


def store_group(settings: Settings) -> Group:
    """Its checks, one after another."""
    os.environ.update(_PATIENCE)
    look = _Look(settings.tracking_uri)
    checks = (
        Check("reachable", look.reachable),
        Check("experiment", look.experiment),
        Check("model", look.model),
        Check("artifacts", look.artifacts),
        Check("runs", look.runs),
    )
    return Group("mlflow", checks, server=_HINT)


def store_path(uri: str) -> Path | None:
    """The file of a store in a file."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def artifact_folder(uri: str) -> Path | None:
    """Where a new experiment of a store in a file puts its artifacts."""
    path = store_path(uri)
    return path.parent / "mlruns" if path is not None else None


class _Look:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: Any = None
        self._experiment: Any = None
        self._name = os.environ.get("RANKLINE_EXPERIMENT_NAME") or _EXPERIMENT

    def reachable(self) -> Iterator[Finding]:
        """Open it as a command does; a store in a file that is not there is not made."""
        shown, path = store_shown(self._uri), store_path(self._uri)
        if shown is None:
            yield fail("reachable", "MLFLOW_TRACKING_URI is no address that MLflow knows", _HINT)
            return
        if path is not None and not path.exists():
            if path.parent.is_dir() and writable(path.parent):
                yield warn("reachable", f"{path} is not there yet", "the first training makes it")
            else:
                yield fail("reachable", f"{path} can't be made: its folder is missing or can't be written", _NAMED)
            return
        if path is not None and not writable(path.parent):
            yield fail(
                "reachable",
                f"{path.parent} can't be written",
                _NAMED,
            )
            return
        import mlflow

        from pipeline import tracking

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
        """The server's, as it tells everybody."""
        import requests

        try:
            answer = requests.get(self._uri.rstrip("/") + "/version", timeout=5)
        except requests.RequestException:
            return "of unknown version"
        text = answer.text.strip()
        return text if answer.ok and len(text) < 20 else "of unknown version"

    def experiment(self) -> Iterator[Finding]:
        """The experiment that training writes to."""
        if self._client is None:
            return
        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            yield ok("experiment", f"{self._name} is not there yet: the first training makes it")
        elif found.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore -x {found.experiment_id}"
            yield fail("experiment", f"{self._name} is deleted", f"{restore}, or another --experiment-name")
        else:
            self._experiment = found
            yield ok("experiment", f"{self._name}: artifacts in {found.artifact_location}")

    def model(self) -> Iterator[Finding]:
        """What scoring takes: the champion, else the newest version, with its artifacts."""
        if self._client is None:
            return
        from pipeline.registry import resolve

        try:
            version = resolve(None)
        except ServerError as error:
            yield fail("model", str(error), _HINT, server=True)
            return
        except RanklineError as error:
            yield warn("model", str(error), "rankline train registers the first version")
            return
        said = f"{version.label} ({version.how}), run {version.run_id[:8]}"
        there = {one.path for one in self._client.list_artifacts(version.run_id)}
        if lost := [name for name in FILES if name not in there]:
            yield fail("model", f"{said}: no {', '.join(lost)}", "its artifacts are gone: train again")
        else:
            yield ok("model", f"{said}, its artifacts are there")

    def artifacts(self) -> Iterator[Finding]:
        """Write a small file where runs put theirs, through MLflow, and delete it again; no run is made."""
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
        store = get_artifact_repository(location)
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            path = Path(scratch) / "probe.txt"
            path.write_text("rankline doctor tries whether artifacts can be written; it may be deleted\n")
            try:
                store.log_artifact(str(path), name)  # type: ignore[no-untyped-call]
                there = {one.path for one in store.list_artifacts(name)}
            except Exception as error:  # noqa: BLE001  (each kind of store has errors of its own)
                text = " ".join(str(error).split())[:200]
                yield fail(
                    "artifacts",
                    f"{shown} can't be written ({type(error).__name__}: {text})",
                    "training would fail at its end: give this user the right to, and room",
                )
                return
            finally:
                _undo(store, location, name)
        if f"{name}/probe.txt" in there:
            yield ok("artifacts", f"{shown} can be written")
        else:
            yield fail("artifacts", f"{shown}: what was written is not there", "look at the artifact store")

    def runs(self) -> Iterator[Finding]:
        """Runs that have not ended."""
        if self._experiment is None:
            return
        found = self._client.search_runs(
            [self._experiment.experiment_id],
            "attributes.status = 'RUNNING'",
            order_by=["start_time ASC"],
            max_results=50,
        )
        now = time.time()
        old = [run for run in found if now - run.info.start_time / 1000 > _LONG]
        if old:
            ids = ", ".join(run.info.run_id for run in old[:3]) + (" …" if len(old) > 3 else "")
            end = f"python -c \"import mlflow; mlflow.MlflowClient().set_terminated('{old[0].info.run_id}', 'KILLED')\""
            yield warn(
                "runs", f"{len(old)} left RUNNING for hours: {ids}", f"where nothing trains there any more: {end}"
            )
        elif found:
            since = datetime.fromtimestamp(found[0].info.start_time / 1000, UTC)
            yield ok("runs", f"{len(found)} going on, the first since {since:%H:%M} UTC")
        else:
            yield ok("runs", "none is left RUNNING")


def _undo(store: Any, location: str, name: str) -> None:
    """Delete the probe, and the folder that it made."""
    try:
        store.delete_artifacts(name)
        if location.startswith("file:"):
            folder = Path(unquote(urlsplit(location).path)) / name
            if folder.is_dir():
                folder.rmdir()
    except Exception:  # noqa: BLE001, S110  (it says what it is, in its text)
        pass
