"""MLflow's store in a backup: the database, and the artifacts of the runs that a service, a rollback or a table needs.

A store in a SQLite file is copied by SQLite's backup API: it has the registered models, their versions with their
numbers, the champion and its history, and every run's parameters and metrics. Artifacts are large, so only those of
some runs are copied: of the versions that an alias names, of the last champions, and of the published sets.

A tracking server has a database of its own, which this can't read. Its artifacts are fetched, and what it says of
versions, of their runs and of champions is written down: enough to register them again (`register_again`).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import BackupError, RefusedError
from pipeline.runtime.redact import address_of_store
from pipeline.tracking.artifact_store import local_folder
from pipeline.tracking.champion import champion_history
from pipeline.tracking.champion_log import champion_in, changes_in
from pipeline.tracking.registry import CHAMPION, run_here
from pipeline.tracking.store import as_server_error, locked_store, sqlite_path
from pipeline.tracking.version_records import records_of
from pipeline.tracking.versions import KEPT_CHAMPIONS

__all__ = ["CHAMPIONS", "DATABASE", "VERSIONS", "CopiedFolder", "StoreFiles", "VersionName", "back_up_store"]

DATABASE, CHAMPIONS = "mlflow/mlflow.db", "mlflow/champions.json"
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
VERSIONS = "mlflow/versions.json"  # of the versions whose artifacts are copied, and of their runs


@dataclass(frozen=True)
class VersionName:
    """A version in the registry, the run that it is of, and whether it is the champion of its model."""

    model: str
    version: str
    run_id: str
    champion: bool


@dataclass(frozen=True)
class CopiedFolder:
    """Artifacts of a run, or of a model that it logged.

    Attributes
    ----------
    location : where MLflow has them
    folder : where the backup has them
    run_id : the run
    """

    location: str
    folder: str
    run_id: str


@dataclass(frozen=True)
class StoreFiles:
    """Attributes
    ----------
    address : of the store, without user and password
    home : the folder of the store's file; "" for a server
    versions : whose artifacts were copied
    folders : the artifacts
    missing : runs whose artifacts are gone
    """

    address: str
    home: str
    versions: tuple[VersionName, ...]
    folders: tuple[CopiedFolder, ...]
    missing: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> StoreFiles:
        """What `facts` gave. Raises BackupError where it is none."""
        try:
            return cls(
                str(facts["address"]),
                str(facts["home"]),
                tuple(
                    VersionName(str(v["model"]), str(v["version"]), str(v["run_id"]), bool(v["champion"]))
                    for v in facts["versions"]
                ),
                tuple(CopiedFolder(str(f["location"]), str(f["folder"]), str(f["run_id"])) for f in facts["folders"]),
                tuple(str(run) for run in facts["missing"]),
            )
        except (KeyError, TypeError):
            raise BackupError(
                "The manifest of the backup describes MLflow's store in no way that can be read"
            ) from None


@dataclass(frozen=True)
class _Model:
    """A registered model: its tags, alias → version, and version → run."""

    name: str
    tags: Mapping[str, str]
    aliases: Mapping[str, str]
    runs: Mapping[str, str]

    @property
    def champion(self) -> str:
        return champion_in(self.tags, str(self.aliases.get(CHAMPION, "")))

    def needed(self, run_ids: Collection[str]) -> list[VersionName]:
        """The versions that an alias names, the last champions, and those of the runs."""
        history = champion_history(changes_in(self.tags), self.champion)
        last = list(dict.fromkeys(reversed(history)))[:KEPT_CHAMPIONS]
        wanted = {*last, *self.aliases.values(), *(v for v, run_id in self.runs.items() if run_id in run_ids)}
        return [
            VersionName(self.name, version, run_id, version == self.champion)
            for version, run_id in self.runs.items()
            if version in wanted and run_id
        ]


def back_up_store(
    uri: str,
    folder: Path,
    run_ids: Collection[str],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> StoreFiles:
    """Copy the store to ``folder/mlflow``.

    run_ids : runs whose artifacts are needed besides those of champions and aliases

    Raises ServerError where the store, or an artifact that is there, can't be read.
    """
    (folder / "mlflow").mkdir()
    path = sqlite_path(uri)
    with as_server_error(uri):
        run_ids = {_present(run_id) for run_id in run_ids}
    with as_server_error(uri), locked_store(uri):
        if path is not None:
            copy_database(path, folder / DATABASE)
            models, locations = _read_database(folder / DATABASE)
        else:
            models = _ask_server()
            locations = None
    versions = [version for model in models for version in model.needed(run_ids)]
    (folder / CHAMPIONS).write_text(json.dumps([asdict(model) for model in models], indent=1), encoding="utf-8")
    with as_server_error(uri):
        records = records_of([(one.model, one.version, one.run_id) for one in versions])
    (folder / VERSIONS).write_text(json.dumps(records.facts, indent=1), encoding="utf-8")
    runs = sorted({version.run_id for version in versions} | set(run_ids))
    folders, missing = [], []
    with as_server_error(uri):
        for done, run_id in enumerate(runs):
            progress(done, len(runs))
            of_run = locations.get(run_id, []) if locations is not None else _locations(run_id)
            copied = [
                CopiedFolder(location, f"mlflow/artifacts/{run_id}/{i}", run_id)
                for i, location in enumerate(of_run)
                if _copy(location, folder / f"mlflow/artifacts/{run_id}/{i}")
            ]
            folders += copied
            if len(copied) < max(1, len(of_run)):
                missing.append(run_id)
    progress(len(runs), len(runs))
    home = str(path.parent) if path is not None else ""
    return StoreFiles(address_of_store(uri), home, tuple(versions), tuple(folders), tuple(missing))


def copy_database(path: Path, to: Path) -> None:
    """Copy a SQLite database, of one moment. Raises RefusedError."""
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(to)) as t,
        ):
            source.backup(t)
            t.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise RefusedError(f"MLflow's store {path} can't be copied ({error})") from None


def _read_database(path: Path) -> tuple[list[_Model], dict[str, list[str]]]:
    """The registered models in a store's file, and where the artifacts of each run are."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        tags = database.execute("SELECT name, key, value FROM registered_model_tags").fetchall()
        aliases = database.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
        versions = database.execute(
            "SELECT name, version, run_id FROM model_versions "
            "WHERE current_stage <> 'Deleted_Internal' ORDER BY version"
        ).fetchall()
        locations: dict[str, list[str]] = {
            str(run): [str(uri)] for run, uri in database.execute("SELECT run_uuid, artifact_uri FROM runs")
        }
        logged = "SELECT source_run_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
        for run, uri in database.execute(logged):
            locations.setdefault(str(run), []).append(str(uri))
    names = sorted({str(name) for name, *_ in (*versions, *tags)})
    models = [
        _Model(
            name,
            {str(key): str(value) for of, key, value in tags if of == name},
            {str(alias): str(version) for of, alias, version in aliases if of == name},
            {str(version): str(run or "") for of, version, run in versions if of == name},
        )
        for name in names
    ]
    return models, locations


def models_in(path: Path) -> list[_Model]:
    """The registered models in a store's file."""
    return _read_database(path)[0]


def _ask_server() -> list[_Model]:
    client = mlflow.MlflowClient()
    models = []
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{model.name}'")
        runs = {str(version.version): str(version.run_id or "") for version in versions}
        aliases = {str(alias): str(version) for alias, version in dict(model.aliases).items()}
        models.append(_Model(str(model.name), dict(model.tags), aliases, runs))
    return models


def _present(run_id: str) -> str:
    """The run that has the artifacts: an earlier restore may have registered them by another one."""
    try:
        return run_here(run_id)
    except MlflowException as error:
        if error.error_code in _MISSING:
            return run_id  # it is gone, which the backup says
        raise


def _locations(run_id: str) -> list[str]:
    """Where the server has a run's artifacts, and those of the models that it logged; [] for a run that is gone."""
    client = mlflow.MlflowClient()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in _MISSING:
            return []
        raise
    logged = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    return [str(run.info.artifact_uri), *(str(model.artifact_location) for model in logged)]


def _copy(location: str, to: Path) -> bool:
    """Copy a folder of artifacts; False where it is not there."""
    here = local_folder(location)
    if here is not None:
        if not here.is_dir():
            return False
        shutil.copytree(here, to)
        return True
    to.mkdir(parents=True)
    # Into a folder beside it: whether what comes has the last part of the address in front depends on the store.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=to.parent) as scratch:
        fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=scratch))
        for path in fetched.iterdir():
            path.rename(to / path.name)
    return any(to.iterdir())
