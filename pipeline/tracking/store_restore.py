"""Puts MLflow's store back from a backup, with the numbers of versions and the ids of runs as they were.

A store in a file that has everything of the backup, and perhaps more, stays: it is the newer one. Artifacts that it
has lost, or that were changed, are put back all the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.runtime.archive import Archive, sha256_of
from pipeline.runtime.retry import RetryPolicy
from pipeline.tracking.artifact_store import local_folder
from pipeline.tracking.champion_log import PREFIX
from pipeline.tracking.register_again import register_again
from pipeline.tracking.registry import CHAMPION
from pipeline.tracking.store import locked_store, sqlite_path
from pipeline.tracking.store_copy import DATABASE, StoreFiles, copy_database, models_in

__all__ = ["RestoredStore", "restore_store"]

# Columns with addresses of artifacts.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class RestoredStore:
    """Attributes
    ----------
    state : ``restored``, ``registered`` (again, with new runs, where MLflow is a server, or was one), ``there
        already``, ``kept`` (the present one lacks something of the backup, and stays), or ``not here`` (there is
        nothing that could be registered)
    aside : where the present file was moved, or ""
    n_files : artifacts that were written
    n_versions : versions that were registered again
    """

    state: str
    aside: str = ""
    n_files: int = 0
    n_versions: int = 0


def restore_store(
    archive: Archive,
    files: StoreFiles,
    uri: str,
    replace: bool,
    stamp: str,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    say: Callable[[str], None] = lambda _: None,
    retry_policy: RetryPolicy | None = None,
) -> RestoredStore:
    """Put the database and the artifacts of a store in a file in place; the database last, in one step.

    On a server, and from one, versions are registered again instead: see `register_again`.

    Parameters
    ----------
    replace : move a store that lacks something of the backup aside, instead of leaving it
    stamp : a part of the name of what is moved aside
    """
    path = sqlite_path(uri)
    if path is None or not files.home:
        state, n_versions = register_again(archive, files, uri, retry_policy, say, progress)
        return RestoredStore(state, n_versions=n_versions)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_store(uri):
        state = _compare(archive.path(DATABASE), path)
        if state == "kept" and not replace:
            return RestoredStore(state)
        n_files = _restore_artifacts(archive, files, path.parent, progress)
        if state == "there already":
            return RestoredStore(state, n_files=n_files)
        work = path.with_name(f".{path.name}.restoring")
        work.unlink(missing_ok=True)
        copy_database(archive.path(DATABASE), work)
        _move_addresses(work, Path(files.home), path.parent)
        _sync(work)
        aside = path.with_name(f"{path.name}.before-{stamp}")
        moved = state == "kept"
        for suffix in ("", "-wal", "-shm", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists() and moved:
                beside.rename(aside.with_name(aside.name + suffix))
            elif suffix:
                beside.unlink(missing_ok=True)  # of a file that was deleted: SQLite would read it as this one's
        work.replace(path)
        _sync(path.parent)
        return RestoredStore("restored", str(aside) if moved else "", n_files)


def _compare(backup: Path, path: Path) -> str:
    """``restored``: nothing is there yet; ``there already``: all of the backup is; ``kept``: something is lacking."""
    if not path.exists() or not path.stat().st_size:
        return "restored"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if "runs" not in tables:
            return "kept"
        n_runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
    there = {model.name: model for model in models_in(path)}
    if not n_runs and not there:
        return "restored"
    for model in models_in(backup):
        present = there.get(model.name)
        changes = {key for key in model.tags if key.startswith(PREFIX)}
        if present is None or not changes <= present.tags.keys():
            return "kept"
        if CHAMPION in model.aliases and CHAMPION not in present.aliases:
            return "kept"
        if not changes and not model.runs.items() <= present.runs.items():
            return "kept"
    return "there already"


def _restore_artifacts(archive: Archive, files: StoreFiles, home: Path, progress: Callable[[int, int], None]) -> int:
    """Write the artifacts that are missing or differ; returns how many."""
    n_files = 0
    for done, folder in enumerate(files.folders):
        progress(done, len(files.folders))
        target = local_folder(_moved(folder.location, Path(files.home), home))
        if target is None:
            continue  # an artifact store of its own: it is not on this machine, and has backups of its own
        for name in archive.names(folder.folder):
            path = target / name.removeprefix(f"{folder.folder}/")
            if path.is_file() and sha256_of(path) == archive.files[name].sha256:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
            shutil.copyfile(archive.path(name), partial)
            _sync(partial)
            partial.replace(path)
            n_files += 1
    progress(len(files.folders), len(files.folders))
    return n_files


def _moved(location: str, before: Path, now: Path) -> str:
    """An address of artifacts in or below the store's folder, when that is another one."""
    for old, new in _prefixes(before, now):
        if location.startswith(f"{old}/"):
            return new + location.removeprefix(old)
    return location


def _prefixes(before: Path, now: Path) -> list[tuple[str, str]]:
    # As MLflow writes it: a path, or an address with or without an authority.
    paths = str(before), str(now)
    quoted = quote(paths[0]), quote(paths[1])
    return [(f"file://{quoted[0]}", f"file://{quoted[1]}"), (f"file:{quoted[0]}", f"file:{quoted[1]}"), paths]


def _move_addresses(database_file: Path, before: Path, now: Path) -> None:
    if before == now:
        return
    with closing(sqlite3.connect(database_file)) as database, database:
        for table, column in _ADDRESSES:
            for old, new in _prefixes(before, now):
                # Names of our own, no values.
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (new, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
