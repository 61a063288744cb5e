"""Which runs of the tracking store, and which versions, still hold a user in their artifacts."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from pipeline.artifact import FILES
from pipeline.judged import PER_USER
from pipeline.registry import MODEL_NAME
from pipeline.tracking import as_server_error

__all__ = ["FAILURE", "Holder", "Holders", "find_holders"]

_METADATA = FILES[-1]
_BAD_ROWS, FAILURE = "bad_rows.json", "failure"
_RECOMMENDER = "artifacts/model/metadata.json"  # in the logged model: the same four files


@dataclass(frozen=True)
class Holder:
    """A run whose artifacts have the user.

    Attributes
    ----------
    run_id, name : of the run; `run_id` may be gone where a logged model outlived it
    files : the artifacts that have the user; ``failure`` is the tag
    versions : registered from it
    models : ids of its logged models
    deleted : whether the run is deleted, and its artifacts are still there
    purged : whether the run is gone, and a logged model of it is still there
    source : what it was trained on, where that is not the warehouse's mart: a file, or a query of one's own
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
class Holders:
    """Attributes
    ----------
    found : runs that have the user, the newest first
    unread : runs with artifacts that could not be read, with the reason
    running : runs that are not over: what they will hold is not known
    kept : folders of trainings on this machine that were never logged, and have the user
    """

    found: tuple[Holder, ...]
    unread: tuple[str, ...]
    running: tuple[str, ...]
    kept: tuple[Path, ...] = ()


def find_holders(
    user: str, unlogged: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Holders:
    """Look through every run of every experiment, deleted ones too: their artifacts stay until they are purged.

    `unlogged` is the folder of trainings that were never logged. Raises ServerError where the store fails.
    """
    found, unread, running = [], [], []
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()), tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        experiments = [one.experiment_id for one in client.search_experiments(view_type=ViewType.ALL)]
        runs = list(_runs(client, experiments))
        versions, models = _versions(client), _models(client, experiments)
        for done, run in enumerate(runs):
            progress(done, len(runs))
            run_id = run.info.run_id
            files, reason = _files_with(user, run, Path(scratch) / run_id)
            shutil.rmtree(Path(scratch) / run_id, ignore_errors=True)
            if reason:
                unread.append(f"{run_id} ({reason})")
            if run.info.status in ("RUNNING", "SCHEDULED") and run.info.lifecycle_stage == "active":
                running.append(run_id)
            if files:
                name, deleted = str(run.info.run_name), run.info.lifecycle_stage == "deleted"
                held = tuple(one.model_id for one in models if one.source_run_id == run_id)
                of_run = tuple(versions.get(run_id, ()))
                found.append(Holder(run_id, name, files, of_run, held, deleted, source=_source(run.data.tags)))
        known = {run.info.run_id for run in runs}
        for one in models:
            if one.source_run_id in known:
                continue
            # Purging a run leaves its logged models.
            path = _fetched(str(one.artifact_location), _RECOMMENDER, Path(scratch) / one.model_id)
            if path is not None and _in_metadata(user, path):
                run_id = str(one.source_run_id or "")
                of_run = tuple(versions.get(run_id, ()))
                found.append(Holder(run_id, str(one.name), (_RECOMMENDER,), of_run, (one.model_id,), purged=True))
    kept = []
    for path in sorted(unlogged.glob("*/model/metadata.json")):
        try:
            if _in_metadata(user, path):
                kept.append(path.parents[1])
        except (OSError, ValueError, TypeError, KeyError) as error:  # being written, or logged and gone
            unread.append(f"{path.parents[1]} ({type(error).__name__})")
    return Holders(tuple(found), tuple(unread), tuple(running), tuple(kept))


def _runs(client: Any, experiments: list[str]) -> Iterator[Any]:
    token: str | None = None
    while experiments:
        page = client.search_runs(
            experiments, "", run_view_type=ViewType.ALL, max_results=500, order_by=["start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _versions(client: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{MODEL_NAME}'", max_results=500, page_token=token)
        for one in page:
            found.setdefault(str(one.run_id), []).append(str(one.version))
        token = page.token
        if not token:
            return found


def _models(client: Any, experiments: list[str]) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while experiments:
        page = client.search_logged_models(experiments, max_results=100, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def _source(tags: dict[str, str]) -> str | None:
    if tags.get("source") == "file":
        return f"the file {tags.get('source_address', '')}"
    query = tags.get("query", "")
    return None if query.startswith("sql/queries/") or not query else f"what the query {query} reads"


def _files_with(user: str, run: Any, scratch: Path) -> tuple[tuple[str, ...], str]:
    """The run's artifacts that have the user, and why one could not be read ("" where all could)."""
    found, reason = [], ""
    readers: list[tuple[str, Callable[[str, Path], bool]]] = [
        (_METADATA, _in_metadata),
        (PER_USER, _in_table),
        (_BAD_ROWS, _in_bad_rows),
    ]
    for name, has in readers:
        try:
            path = _fetched(str(run.info.artifact_uri), name, scratch)
            if path is not None and has(user, path):
                found.append(name)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, MlflowException) as error:
            reason = f"{name}: {type(error).__name__}"
    # What was bad about rows is told by the user and item, where rows have no number.
    if f"user {user}, item " in run.data.tags.get(FAILURE, ""):
        found.append(FAILURE)
    return tuple(found), reason


def _fetched(uri: str, name: str, scratch: Path) -> Path | None:
    """The artifact as a file, in place or fetched; None where there is none."""
    if uri.startswith(("file:", "/")):
        path = Path(unquote(urlsplit(uri).path)) / name
        return path if path.is_file() else None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(uri)
    folder = name.rpartition("/")[0]
    if name not in {one.path for one in store.list_artifacts(folder or None)}:
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(str(store.download_artifacts(name, dst_path=str(scratch))))  # type: ignore[no-untyped-call]


def _in_metadata(user: str, path: Path) -> bool:
    return any(str(one) == user for one in json.loads(path.read_text(encoding="utf-8"))["user_ids"])


def _in_table(user: str, path: Path) -> bool:
    import pyarrow.parquet as pq

    return any(str(one) == user for one in pq.read_table(path, columns=["user_id"])["user_id"].to_pylist())


def _in_bad_rows(user: str, path: Path) -> bool:
    return any(str(row["user_id"]) == user for row in json.loads(path.read_text(encoding="utf-8")))
