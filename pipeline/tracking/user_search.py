"""Finds the runs and versions in MLflow whose artifacts still contain a user."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.exceptions import MlflowException

from pipeline.evaluation.storage import PER_USER
from pipeline.models.factor_model import FILES
from pipeline.tracking.store import as_server_error, package_of, search_runs

__all__ = ["FAILURE", "UserRecord", "UserRecords", "find_user_records"]

_METADATA = FILES[-1]
_BAD_ROWS, FAILURE = "bad_rows.json", "failure"
_RECOMMENDER = "artifacts/model/metadata.json"  # inside the logged model, which has the same four files


@dataclass(frozen=True)
class UserRecord:
    """A run whose artifacts contain the user.

    Attributes
    ----------
    run_id, name : id and name of the run
    files : the artifacts that contain the user; ``failure`` is the tag of that name
    versions : the versions registered from the run, of any model: ``rankline/3``
    models : ids of its logged models
    deleted : whether the run is deleted but its artifacts still exist
    purged : whether the run no longer exists but a logged model of it still does
    source : the file or the query it was trained on; None for the warehouse's mart
    """

    run_id: str
    name: str
    files: tuple[str, ...]
    versions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    deleted: bool = False
    purged: bool = False
    source: str | None = None


@dataclass(frozen=True)
class UserRecords:
    """Where a user was found.

    Attributes
    ----------
    runs : those that contain the user, the newest first
    unread : what could not be read, with the reason: a run, or an experiment whose artifacts lie out of reach
    running : runs that have not ended, so that their artifacts are not known yet
    pending : folders of pending runs on this machine that contain the user
    """

    runs: tuple[UserRecord, ...]
    unread: tuple[str, ...]
    running: tuple[str, ...]
    pending: tuple[Path, ...] = ()


def find_user_records(
    user: str, unlogged: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> UserRecords:
    """Search every run of every experiment. Deleted runs count, too: their artifacts stay until they are purged.

    `unlogged` is the folder of pending runs. Raises ServerError where the store fails.
    """
    records, unread, running = [], [], []
    out_of_reach = _OutOfReach()
    with as_server_error(mlflow.get_tracking_uri()), tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        runs, versions, models = search_runs("", deleted=True), _versions(), _logged_models()
        for done, run in enumerate(runs):
            progress(done, len(runs))
            run_id = run.info.run_id
            files: tuple[str, ...] = ()
            reason = ""
            if not out_of_reach.add(run):
                files, reason = _files_with(user, run, Path(scratch) / run_id)
                shutil.rmtree(Path(scratch) / run_id, ignore_errors=True)
            if reason:
                unread.append(f"run {run_id} ({reason})")
            if run.info.status in ("RUNNING", "SCHEDULED") and run.info.lifecycle_stage == "active":
                running.append(run_id)
            if files:
                name, deleted = str(run.info.run_name), run.info.lifecycle_stage == "deleted"
                model_ids = tuple(model.model_id for model in models if model.source_run_id == run_id)
                of_run = tuple(versions.get(run_id, ()))
                records.append(
                    UserRecord(run_id, name, files, of_run, model_ids, deleted, source=_source(run.data.tags))
                )
        known = {run.info.run_id for run in runs}
        for model in models:
            if model.source_run_id in known:
                continue
            # Purging a run does not delete its logged models.
            try:
                path = _fetched(str(model.artifact_location), _RECOMMENDER, Path(scratch) / model.model_id)
                holds_user = path is not None and _in_metadata(user, path)
            except Exception as error:  # noqa: BLE001  the libraries of artifact stores raise errors of their own
                unread.append(f"logged model {model.model_id} ({type(error).__name__})")
                continue
            if holds_user:
                run_id = str(model.source_run_id or "")
                of_run = tuple(versions.get(run_id, ()))
                records.append(
                    UserRecord(run_id, str(model.name), (_RECOMMENDER,), of_run, (model.model_id,), purged=True)
                )
    pending = []
    for path in sorted(unlogged.glob("*/model/metadata.json")):
        try:
            if _in_metadata(user, path):
                pending.append(path.parents[1])
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
        ) as error:  # it is being written, or was just logged and deleted
            unread.append(f"{path.parents[1]} ({type(error).__name__})")
    return UserRecords(tuple(records), (*out_of_reach.named(), *unread), tuple(running), tuple(pending))


class _OutOfReach:
    """Experiments whose artifacts lie in a store that this installation can't open, such as another team's."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}  # scheme → why it can't be opened, "" if it can
        self._experiments: dict[tuple[str, str], int] = {}  # (experiment id, scheme) → runs

    def add(self, run: Run) -> bool:
        """Whether the run's artifacts are out of reach; counts the run."""
        uri = str(run.info.artifact_uri)
        scheme = urlsplit(uri).scheme
        if scheme not in self._reasons:
            self._reasons[scheme] = _why_out_of_reach(uri)
        if self._reasons[scheme]:
            key = run.info.experiment_id, scheme
            self._experiments[key] = self._experiments.get(key, 0) + 1
        return bool(self._reasons[scheme])

    def named(self) -> list[str]:
        """Each experiment, with the number of its runs and the reason."""
        client = mlflow.MlflowClient()
        return [
            f"experiment {client.get_experiment(experiment).name!r}, {n_runs} run(s) at {scheme}:// "
            f"({self._reasons[scheme]})"
            for (experiment, scheme), n_runs in self._experiments.items()
        ]


def _why_out_of_reach(uri: str) -> str:
    """Why no artifact at addresses of this kind can be read; "" if they can be tried."""
    if uri.startswith(("file:", "/")):
        return ""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(uri).list_artifacts(None)
    except ImportError as error:
        return f"it needs the package {package_of(error)}"
    except MlflowException as error:
        if "Could not find a registered artifact repository" in str(error):
            return "no store of that kind is known here"
    except Exception:  # noqa: BLE001  the libraries of artifact stores raise errors of their own
        return ""
    return ""


def _versions() -> dict[str, list[str]]:
    """Run id → the versions registered from that run, of any model."""
    versions: dict[str, list[str]] = {}
    for version in mlflow.search_model_versions():
        versions.setdefault(str(version.run_id), []).append(f"{version.name}/{version.version}")
    return versions


def _logged_models() -> list[LoggedModel]:
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments(view_type=ViewType.ALL)]
    if not experiments:
        return []  # MLflow would search the default experiment
    return mlflow.search_logged_models(experiments, output_format="list")


def _source(tags: dict[str, str]) -> str | None:
    if tags.get("source") == "file":
        return f"the file {tags.get('source_address', '')}"
    query = tags.get("query", "")
    return None if query.startswith("sql/queries/") or not query else f"what the query {query} reads"


def _files_with(user: str, run: Any, scratch: Path) -> tuple[tuple[str, ...], str]:
    """The run's artifacts that contain the user, and why one could not be read ("" if all could)."""
    files, reason = [], ""
    readers: list[tuple[str, Callable[[str, Path], bool]]] = [
        (_METADATA, _in_metadata),
        (PER_USER, _in_table),
        (_BAD_ROWS, _in_bad_rows),
    ]
    for name, has in readers:
        try:
            path = _fetched(str(run.info.artifact_uri), name, scratch)
            if path is not None and has(user, path):
                files.append(name)
        except Exception as error:  # noqa: BLE001  damaged files, and errors of the libraries of artifact stores
            reason = f"{name}: {type(error).__name__}"
    # A failure over a bad row names its user and item where the rows have no numbers.
    if f"user {user}, item " in run.data.tags.get(FAILURE, ""):
        files.append(FAILURE)
    return tuple(files), reason


def _fetched(uri: str, name: str, scratch: Path) -> Path | None:
    """The artifact as a local file, downloaded if needed; None where it does not exist."""
    if uri.startswith(("file:", "/")):
        path = Path(unquote(urlsplit(uri).path)) / name
        return path if path.is_file() else None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(uri)
    folder = name.rpartition("/")[0]
    if name not in {artifact.path for artifact in store.list_artifacts(folder or None)}:
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(str(store.download_artifacts(name, dst_path=str(scratch))))  # type: ignore[no-untyped-call]


def _in_metadata(user: str, path: Path) -> bool:
    return any(str(user_id) == user for user_id in json.loads(path.read_text(encoding="utf-8"))["user_ids"])


def _in_table(user: str, path: Path) -> bool:
    import pyarrow.parquet as pq

    return any(str(user_id) == user for user_id in pq.read_table(path, columns=["user_id"])["user_id"].to_pylist())


def _in_bad_rows(user: str, path: Path) -> bool:
    return any(str(row["user_id"]) == user for row in json.loads(path.read_text(encoding="utf-8")))
