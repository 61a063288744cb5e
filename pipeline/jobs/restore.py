"""`restore`: puts a backup back, on an empty machine or on one that has lost a part. It brings nobody back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import ArtifactError, LockedError
from pipeline.interaction_log import InteractionLog, Tombstones
from pipeline.interaction_log.copies import facts_of, forgotten_here, learn_forgotten, opened_copy, put_in_place
from pipeline.jobs.backup import LOG, BackupFacts, rules_file
from pipeline.jobs.inputs import open_warehouse
from pipeline.models.model_files import METADATA, load_ids
from pipeline.options.names import Names
from pipeline.publishing import suppressed_users
from pipeline.publishing.lock import publish_locks
from pipeline.publishing.publication_log import published_names
from pipeline.publishing.restore import RestoredTables, restore_tables
from pipeline.publishing.suppressed_users import SuppressedUsers, read_suppressed_users
from pipeline.runtime.archive import Archive
from pipeline.runtime.file_lock import can_lock
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.restored import CaughtUp, catch_up
from pipeline.shipping.ship import shipping_lock
from pipeline.tracking.store_restore import RestoredStore, restore_store
from pipeline.warehouse import Warehouse
from pipeline.warehouse.table_files import user_ids

__all__ = ["RestoreResult", "RestoredLog", "inspect_job", "restore_job"]


@dataclass(frozen=True)
class RestoredLog:
    """Attributes
    ----------
    state : ``restored``, ``there already`` (the present one is as new or newer), ``kept`` (another one is there, and
        stays), or ``none`` (the backup has none)
    aside : where the present log was moved, or ""
    n_forgotten : users who were forgotten since the backup
    caught_up : what the warehouse has of it
    """

    state: str
    aside: str = ""
    n_forgotten: int = 0
    caught_up: CaughtUp | None = None


@dataclass(frozen=True)
class RestoreResult:
    """The backup, and what became of each part; the last three are None where it was only read (`inspect_job`)."""

    archive: Archive
    facts: BackupFacts
    address: str = ""
    tables: RestoredTables | None = None
    store: RestoredStore | None = None
    log: RestoredLog | None = None


def inspect_job(folder: Path, reporter: Reporter) -> RestoreResult:
    """Read a backup, compare all digests, and change nothing. Raises InputError, BackupError."""
    archive = Archive.open(folder, lambda done, total: reporter.progress("verify", done, total, "files"))
    return RestoreResult(archive, BackupFacts.of(archive))


def restore_job(
    folder: Path, settings: Settings, reporter: Reporter, now: datetime, replace: bool = False
) -> RestoreResult:
    """Put a backup back. It may be stopped anywhere and run again.

    What is there already and is newer, or other, stays; `replace` puts the backup's in its place, and moves files
    aside. Users who were forgotten since the backup, as the warehouse and the log here know them, stay forgotten.

    Raises
    ------
    InputError, BackupError
        There is no backup, or one that is not whole. Nothing was changed.
    LockedError
        A service runs on this host, or another process uses the warehouse or the store.
    ServerError
        The warehouse or MLflow fails.
    """
    seen = inspect_job(folder, reporter)
    archive, facts = seen.archive, seen.facts
    _check_stopped(settings.live_path)
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    with open_warehouse(settings) as warehouse:
        # MLflow first: a service that starts before all is done has the champion, and no list of before.
        store = restore_store(
            archive,
            facts.store,
            settings.tracking_uri,
            replace,
            stamp,
            lambda done, total: reporter.progress("artifacts", done, total, "runs"),
            reporter.say,
            settings.retry_policy,
        )
        _add_forgotten_here(archive, facts, warehouse, settings, reporter)
        tables = restore_tables(
            warehouse,
            facts.warehouse,
            archive.path,
            replace,
            reporter.say,
            lambda done, total: reporter.progress("tables", done, total),
            settings.lock_expiry,
        )
        log = _restore_log(archive, facts, settings, warehouse, replace, stamp, reporter)
        address = warehouse.address
    for name in archive.names("rules"):
        names = Names(Path(name).stem)
        _restore_file(archive.path(rules_file(names)), settings.named(names).rules_path)
    return RestoreResult(archive, facts, address, tables, store, log)


def _check_stopped(live: Path) -> None:
    """Raise LockedError where a service uses the folder: it would go on with the log that it has open."""
    for lock in (*live.glob("serve.lock"), *live.glob("*/serve.lock")):
        if not can_lock(lock):
            raise LockedError(f"A service runs in {live}: stop it first, then run the command again")


def _add_forgotten_here(
    archive: Archive, facts: BackupFacts, warehouse: Warehouse, settings: Settings, reporter: Reporter
) -> None:
    """Add to the warehouse's forgotten users those of the backup's tables whom this host's log has as forgotten.

    So nobody comes back where a new warehouse, or an older one, has not heard of them.
    """
    target = settings.interaction_log_path
    if not (target.exists() or Tombstones(target).path.exists()):
        return
    suppressed = read_suppressed_users(warehouse)
    gone: set[int | str] = set()
    for table in (*facts.warehouse.tables, *(one.table for one in facts.warehouse.sets)):
        if users := user_ids(table, archive.path(table.file)):
            gone |= forgotten_here(target, users)
    new = [user for user in gone if user not in suppressed]
    if not new:
        return
    names = published_names(warehouse)
    with publish_locks(warehouse, "restoring", names, reporter.say, settings.lock_expiry):
        for user in new:
            suppressed_users.add(warehouse, str(user))
    reporter.say(
        f"{len(new):,} user(s) were forgotten on this host, and not in {warehouse.address}: they are there now"
    )


def _restore_log(
    archive: Archive,
    facts: BackupFacts,
    settings: Settings,
    warehouse: Warehouse,
    replace: bool,
    stamp: str,
    reporter: Reporter,
) -> RestoredLog:
    target = settings.interaction_log_path
    if facts.log is None:
        return RestoredLog("none")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    suppressed = read_suppressed_users(warehouse)
    with shipping_lock(target, reporter.say):
        state = _compare(facts, target)
        if state == "there already" or (state == "kept" and not replace):
            with InteractionLog.open(target) as log:
                n_forgotten = _forget(log, suppressed, archive, facts, reporter)
            return RestoredLog(state, n_forgotten=n_forgotten)
        with opened_copy(archive.path(LOG), target) as log:
            n_forgotten = learn_forgotten(log, target) + _forget(log, suppressed, archive, facts, reporter)
            caught_up = catch_up(warehouse, log)
        aside = target.with_name(f"{target.name}.before-{stamp}") if state == "kept" else None
        put_in_place(target, aside)
        return RestoredLog("restored", str(aside or ""), n_forgotten, caught_up)


def _compare(facts: BackupFacts, target: Path) -> str:
    """What is to be done: ``restored`` where nothing is lost by it, else ``there already`` or ``kept``."""
    assert facts.log is not None  # noqa: S101 (the caller sees to it)
    if not target.exists():
        return "restored"
    present = facts_of(target)
    if present.log_id == facts.log.log_id:
        return "there already" if present.last_seq >= facts.log.last_seq else "kept"
    return "kept" if present.last_seq else "restored"  # an empty one was made by a service that found none


def _forget(
    log: InteractionLog, suppressed: SuppressedUsers, archive: Archive, facts: BackupFacts, reporter: Reporter
) -> int:
    """Forget in the log whom the warehouse has as forgotten, of its users and of those that a model knows.

    The warehouse has digests alone, which tell nothing of a user of whom nothing is known here.
    """
    if not suppressed:
        return 0
    gone = {user for user in log.users() if user in suppressed}
    for users in _users_of_models(archive, facts, reporter):
        gone |= {str(user) for user in users[suppressed.mask(users)].tolist()}
    for user in (new := {user for user in gone if not log.is_forgotten(user)}):
        log.forget(user)
    return len(new)


def _users_of_models(archive: Archive, facts: BackupFacts, reporter: Reporter) -> Iterator[NDArray[Any]]:
    for folder in facts.store.folders:
        if f"{folder.folder}/{METADATA}" not in archive.files:
            continue
        try:
            users, _, _ = load_ids(archive.content / folder.folder)
        except ArtifactError as error:
            reporter.say(f"the users of run {folder.run_id[:8]} can't be compared with the forgotten ones: {error}")
            continue
        yield users.values


def _restore_file(source: Path, target: Path) -> None:
    """Copy a small file where there is none, in one step."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(source, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
