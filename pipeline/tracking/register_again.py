"""Registers the versions of a backup in a store that they were not in: on an MLflow server, or from one.

A server's database can't be put back from outside, and it gives its runs ids of its own. So each version gets a new run
with the parameters, metrics, tags and files of the old one, and a tag that says which run that was
(`registry.RESTORED_FROM`). Versions keep their numbers, since the champion's history, tests and the published table
name them: numbers of versions that are not in the backup are used up and deleted again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow

from pipeline.errors import RefusedError
from pipeline.models.members import copy_saved_model
from pipeline.runtime.archive import Archive
from pipeline.runtime.redact import address_of_store
from pipeline.runtime.retry import RetryPolicy
from pipeline.tracking import model_page
from pipeline.tracking.champion_lock import PREFIX as CLAIM
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.tracking.registry import CHAMPION, RESTORED_FROM
from pipeline.tracking.run import DEFAULT_EXPERIMENT, PROCESS_TAG, experiment_id, resumed_run
from pipeline.tracking.store import as_server_error, open_or_make_store, search_runs, store_in_use
from pipeline.tracking.store_copy import CHAMPIONS, VERSIONS, StoreFiles, VersionName
from pipeline.tracking.upload import record, register
from pipeline.tracking.version_records import VersionRecords

__all__ = ["register_again"]

_USED_UP = "rankline_number_of_a_version_that_is_gone"  # tag of a version that is deleted once all are registered
_NOT_TAKEN = {PROCESS_TAG, "failure", "rankline_deleting", "model_version"}  # tags of a run that say what it was then


class _Again:
    """One restore of versions: the backup, what it says of them, and the store."""

    def __init__(self, archive: Archive, files: StoreFiles, uri: str, retry_policy: RetryPolicy | None) -> None:
        self.archive, self.files, self.uri, self.retry_policy = archive, files, uri, retry_policy
        self.records = VersionRecords.of(json.loads(archive.path(VERSIONS).read_text(encoding="utf-8")))
        self.models: list[dict[str, Any]] = json.loads(archive.path(CHAMPIONS).read_text(encoding="utf-8"))
        self.client = mlflow.MlflowClient()

    def versions_of(self, model: str) -> dict[int, VersionName]:
        """The versions of a model whose files and runs the backup has, by number."""
        whole = {folder.run_id for folder in self.files.folders}
        return {
            int(one.version): one
            for one in self.files.versions
            if one.model == model and one.run_id in self.records.runs and one.run_id in whole
        }

    def origin(self, version: VersionName) -> str:
        """The run that made its artifacts: its own, or that of before an earlier restore."""
        return self.records.tags[f"{version.model}/{version.version}"].get(RESTORED_FROM) or version.run_id


def register_again(
    archive: Archive,
    files: StoreFiles,
    uri: str,
    retry_policy: RetryPolicy | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[str, int]:
    """Register what is missing. It may be stopped anywhere and run again.

    Returns
    -------
    ``registered``, ``there already``, ``kept`` (other versions have these numbers, and stay) or ``not here`` (the
    backup is of an older version of Rankline, or has no version); and how many versions were registered

    Raises
    ------
    RefusedError
        The store gives a version another number.
    ServerError
        The store fails.
    """
    if VERSIONS not in archive.files:
        return "not here", 0
    open_or_make_store(uri, say)
    again = _Again(archive, files, uri, retry_policy)
    total, n_done, states = sum(len(again.versions_of(str(model["name"]))) for model in again.models), 0, set()
    for model in again.models:
        name = str(model["name"])
        if not (wanted := again.versions_of(name)):
            continue
        with as_server_error(uri):
            there = _there(again.client, name)
        may = {number: {_USED_UP, version.run_id, again.origin(version)} for number, version in wanted.items()}
        if others := [number for number, runs in there.items() if not runs & may.get(number, {_USED_UP})]:
            shown = ", ".join(f"{name}/{number}" for number in sorted(others)[:3])
            say(f"{store_in_use()} has other versions ({shown}): they stay, and none of {name} is put back")
            states.add("kept")
            continue
        for number in sorted(wanted):
            progress(n_done, total)
            if number not in there:
                _register(again, wanted[number], there)
                states.add("registered")
                n_done += 1
        _finish(again, name, model, wanted)
    progress(total, total)
    otherwise = "there already" if total else "not here"
    return next((state for state in ("kept", "registered") if state in states), otherwise), n_done


def _there(client: mlflow.MlflowClient, model: str) -> dict[int, set[str]]:
    """Number → the runs that the version there is of: its own, and the one that it was restored from."""
    found = client.search_model_versions(f"name = '{model}'")
    return {
        int(one.version): {_USED_UP} if _USED_UP in one.tags else {str(one.run_id), one.tags.get(RESTORED_FROM, "")}
        for one in found
    }


def _register(again: _Again, version: VersionName, there: dict[int, set[str]]) -> None:
    """Register one version; `there` learns of it, and of the numbers before it that were used up."""
    name, number, client = version.model, int(version.version), again.client
    with as_server_error(again.uri):
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        while max(there, default=0) < number - 1:
            _use_up(again, name, max(there, default=0) + 1)
            there[max(there, default=0) + 1] = {_USED_UP}
        run_id = _run(again, version)
    said = again.records.runs[version.run_id]
    with (
        tempfile.TemporaryDirectory(prefix="rankline-") as scratch,
        resumed_run(again.uri, run_id, again.retry_policy) as run,
    ):
        root, store = Path(scratch), address_of_store(again.uri)
        with PendingRunWriter(root / "pending", run_id, said.name, store, said.started_ms, name) as writer:
            _fill(again, version, writer, root)
            pending = writer.keep()
        try:
            given = register(run, pending, record(run, pending))
        finally:
            pending.remove()
    _check_number(again, name, number, int(given))
    there[number] = {version.run_id}


def _use_up(again: _Again, name: str, number: int) -> None:
    """Make a version that is deleted in the end. It has a run of its own, since a server takes no other source."""
    found = search_runs(f"tags.{_USED_UP} = 'yes'")
    run = found[0] if found else None
    if run is None:
        experiment = experiment_id(DEFAULT_EXPERIMENT, again.uri)
        run = again.client.create_run(experiment, tags={_USED_UP: "yes"}, run_name="numbers of versions that are gone")
    source, run_id = str(run.info.artifact_uri), str(run.info.run_id)
    made = again.client.create_model_version(name, source, run_id, {_USED_UP: "yes"}, await_creation_for=0)
    _check_number(again, name, number, int(made.version))


def _check_number(again: _Again, name: str, number: int, given: int) -> None:
    """Raise RefusedError where the store counts otherwise; the version that it made is deleted."""
    if given == number:
        return
    with as_server_error(again.uri):
        again.client.delete_model_version(name, str(given))
    raise RefusedError(
        f"{store_in_use()} gives the number {given} to what was {name}/{number}: versions of {name} were deleted "
        "there. Give that model another name in MLflow, then run the command again"
    )


def _run(again: _Again, version: VersionName) -> str:
    """A run for the version: the one that a killed process began, else a new one."""
    if begun := search_runs(f"tags.{RESTORED_FROM} = '{again.origin(version)}'"):
        return str(begun[0].info.run_id)
    said = again.records.runs[version.run_id]
    tags = {RESTORED_FROM: again.origin(version)}
    made = again.client.create_run(experiment_id(said.experiment, again.uri), said.started_ms, tags, said.name)
    return str(made.info.run_id)


def _fill(again: _Again, version: VersionName, writer: PendingRunWriter, scratch: Path) -> None:
    """Write what a training would have left to be logged: the files of the run, and all that was said of it."""
    said, label = again.records.runs[version.run_id], f"{version.model}/{version.version}"
    # The first folder of a run is its own; the others are those of the models that it logged, which are made anew.
    folder = next(one.folder for one in again.files.folders if one.run_id == version.run_id)
    copy_saved_model(again.archive.content / folder, model := scratch / "model")
    shutil.copytree(model, writer.model, dirs_exist_ok=True)
    others = scratch / "others"
    for name in again.archive.names(folder):
        inside = name.removeprefix(f"{folder}/")
        if not (model / inside).exists():
            (others / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(again.archive.path(name), others / inside)
    if others.exists():
        writer.folder(others)
    writer.params(said.params)
    writer.metrics(said.metrics)
    restored: dict[str, str | None] = {RESTORED_FROM: again.origin(version)}
    writer.tags({**{key: value for key, value in said.tags.items() if key not in _NOT_TAKEN}, **restored})
    writer.tags({**again.records.tags[label], **restored}, of_the_version=True)
    writer.describe(said.note, of_the_version=again.records.descriptions[label])


def _finish(again: _Again, name: str, model: Mapping[str, Any], wanted: Mapping[int, VersionName]) -> None:
    """Delete the numbers that were used up, then set tags and aliases that are missing; the champion comes last."""
    client = again.client
    with as_server_error(again.uri):
        for one in client.search_model_versions(f"name = '{name}'"):
            if _USED_UP in one.tags:
                client.delete_model_version(name, str(one.version))
        for run in search_runs(f"tags.{_USED_UP} = 'yes'"):
            client.delete_run(run.info.run_id)
        page = client.get_registered_model(name)
        for key, value in model["tags"].items():
            if key not in page.tags and not key.startswith(CLAIM):
                client.set_registered_model_tag(name, key, str(value))
        for alias, number in sorted(model["aliases"].items(), key=lambda item: item[0] == CHAMPION):
            if alias not in page.aliases and int(number) in wanted:
                client.set_registered_model_alias(name, alias, str(number))
    model_page.refresh(name)
