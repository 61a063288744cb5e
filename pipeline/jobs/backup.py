"""`backup`: what a machine needs to serve the same lists again, in one folder, with the digests of all files."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import BackupError
from pipeline.interaction_log.copies import LogFacts, copy_log
from pipeline.jobs.inputs import open_warehouse
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.backup import WarehouseFiles, back_up_tables
from pipeline.publishing.publication_log import published_names
from pipeline.runtime.archive import Archive, ArchiveWriter
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking.store import open_store
from pipeline.tracking.store_copy import StoreFiles, back_up_store

__all__ = ["LOG", "BackupFacts", "BackupResult", "backup_job", "rules_file"]

LOG = "interactions.db"


@dataclass(frozen=True)
class BackupFacts:
    """What is in a backup: the warehouse's tables, MLflow's store, and the interaction log where the host had one."""

    warehouse: WarehouseFiles
    store: StoreFiles
    log: LogFacts | None

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        log = None if self.log is None else asdict(self.log)
        return {"rankline": __version__, "warehouse": self.warehouse.facts, "store": self.store.facts, "log": log}

    @classmethod
    def of(cls, archive: Archive) -> BackupFacts:
        """What the manifest says. Raises BackupError where it can't be read."""
        try:
            log = archive.facts["log"]
            return cls(
                WarehouseFiles.of(archive.facts["warehouse"]),
                StoreFiles.of(archive.facts["store"]),
                None if log is None else LogFacts(str(log["log_id"]), int(log["last_seq"]), int(log["shipped_seq"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, BackupError):
                raise
            raise BackupError(f"The manifest of the backup in {archive.root} can't be read") from None


@dataclass(frozen=True)
class BackupResult:
    """The backup, and what is in it."""

    archive: Archive
    facts: BackupFacts


def backup_job(folder: Path, settings: Settings, reporter: Reporter, now: datetime) -> BackupResult:
    """Write a backup to the folder, in place of the one that is there.

    It may run beside a service and beside jobs; an embedded warehouse is one process's at a time.

    Parameters
    ----------
    now : when, UTC

    Raises
    ------
    InputError
        The folder holds other files.
    LockedError
        Another process uses the embedded warehouse, or writes a backup to the folder.
    ServerError
        The warehouse, MLflow or the interaction log can't be read.
    """
    uri = settings.tracking_uri
    open_store(uri)
    with ArchiveWriter(folder, now) as writer:
        with open_warehouse(settings) as warehouse:
            tables = back_up_tables(
                warehouse, writer.folder, lambda done, total: reporter.progress("tables", done, total)
            )
            names = published_names(warehouse)
            # After the ledger: the log has no less than what the ledger says of it.
            path = settings.interaction_log_path
            log = copy_log(path, writer.folder / LOG) if path.exists() else None
        runs = {found.run_id for found in tables.sets if found.run_id}
        store = back_up_store(
            uri, writer.folder, runs, lambda done, total: reporter.progress("artifacts", done, total, "runs")
        )
        if store.missing:
            shown = ", ".join(run[:8] for run in store.missing[:5])
            reporter.say(f"the artifacts of {len(store.missing)} run(s) are gone, and not in the backup: {shown}")
        for name in {DEFAULT, *names}:
            if (snapshot := settings.named(name).rules_path).exists():
                target = writer.folder / rules_file(name)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(snapshot, target)
        facts = BackupFacts(tables, store, log)
        return BackupResult(writer.keep(facts.facts), facts)


def rules_file(names: Names) -> str:
    """The name in a backup of the snapshot of a model's rules."""
    return f"rules/{names.name}.json"
