"""The output of `backup` and `restore`."""

from __future__ import annotations

from typing import Any

from pipeline.cli.output.model import Block, Output, Table
from pipeline.jobs.backup import BackupFacts, BackupResult
from pipeline.jobs.restore import RestoredLog, RestoreResult
from pipeline.publishing.restore import RestoredTables
from pipeline.runtime.archive import Archive
from pipeline.tracking.store_restore import RestoredStore

__all__ = ["backup_output", "restore_output"]


def backup_output(result: BackupResult) -> Output:
    """What is in the backup, and how large it is."""
    archive = result.archive
    lines = [f"backed up into {archive.root}: {len(archive.files):,} files, {_size(archive.n_bytes)}"]
    if not result.facts.store.home:
        lines.append(
            f"MLflow at {result.facts.store.address} is a server: its database is not in it, but what registers these "
            "versions again is"
        )
    return Output("backed up", _data(archive, result.facts), [*lines, _contents(result.facts)])


def restore_output(result: RestoreResult) -> Output:
    """What became of each part."""
    archive, facts = result.archive, result.facts
    data = _data(archive, facts)
    begin = (
        f"the backup of {archive.at} in {archive.root} is whole: {len(archive.files):,} files, {_size(archive.n_bytes)}"
    )
    if result.tables is None or result.store is None or result.log is None:
        return Output("backup verified", data, [begin, _contents(facts)])
    tables, store, log = result.tables, result.store, result.log
    data |= {
        "address": result.address,
        "restored": tables.restored,
        "there_already": tables.there,
        "kept": tables.kept,
        "newly_forgotten": tables.n_forgotten,
        "mlflow": {"state": store.state, "aside": store.aside, "files": store.n_files, "registered": store.n_versions},
        "log": {"state": log.state, "aside": log.aside, "forgotten_since": log.n_forgotten},
    }
    if log.caught_up is not None:
        data["log"] |= {"arrived": log.caught_up.arrived, "unrecorded": log.caught_up.n_unrecorded}
    return Output(
        "restored", data, [begin, *_of_tables(tables, result.address), *_of_store(store, facts), *_of_log(log)]
    )


def _data(archive: Archive, facts: BackupFacts) -> dict[str, Any]:
    return {
        "folder": str(archive.root),
        "at": archive.at,
        "files": len(archive.files),
        "bytes": archive.n_bytes,
        "sets": [f"{one.name} {one.model_version} of run {one.run_id}" for one in facts.warehouse.sets],
        "champions": [f"{one.model}/{one.version}" for one in facts.store.versions if one.champion],
        "interactions": 0 if facts.log is None else facts.log.last_seq,
    }


def _contents(facts: BackupFacts) -> Block:
    rows = [
        (f"{'published set' if one.published else 'a set before'} of {one.name}", f"{one.table.n_rows:,} rows")
        for one in facts.warehouse.sets
    ]
    rows += [(table.table, f"{table.n_rows:,} rows") for table in facts.warehouse.tables]
    rows += [
        (f"{one.model}/{one.version}", "the champion" if one.champion else "an artifact of before")
        for one in facts.store.versions
    ]
    if facts.log is not None:
        waiting = facts.log.last_seq - facts.log.shipped_seq
        rows.append(("interaction log", f"to number {facts.log.last_seq:,}, {waiting:,} not shipped"))
    return Table(("what", "of it"), [list(row) for row in rows], left=("what", "of it"), short=("what",), header=False)


def _of_tables(tables: RestoredTables, address: str) -> list[Block]:
    lines: list[Block] = []
    if tables.restored:
        lines.append(f"put back into {address}: {', '.join(tables.restored)}")
    if tables.there:
        lines.append(f"there already, equal or newer: {', '.join(tables.there)}")
    if tables.kept:
        lines.append(
            f"stays, as newer or other rows are there (--replace yes puts the backup's): {', '.join(tables.kept)}"
        )
    if tables.n_forgotten:
        lines.append(f"{tables.n_forgotten:,} forgotten user(s) of the backup were added to analytics.forgotten")
    return lines


def _of_store(store: RestoredStore, facts: BackupFacts) -> list[Block]:
    files = f"{store.n_files:,} artifact(s) were put back"
    if store.state == "restored":
        aside = f"; the file before is {store.aside}" if store.aside else ""
        return [f"MLflow's store is put back with its versions, champions and history; {files}{aside}"]
    if store.state == "registered":
        return [
            f"{store.n_versions:,} version(s) are registered again under their numbers, with champions and history; "
            "their runs have new ids, and the tag restored_from_run"
        ]
    if store.state == "there already":
        return [f"MLflow's store has all of the backup, and stays; {files}"]
    if store.state == "kept" and facts.store.home:
        return [
            "MLflow's store lacks something of the backup and has other runs: it stays (--replace yes moves it aside)"
        ]
    if store.state == "kept":
        return ["MLflow has other versions under the numbers of the backup's: they stay"]
    return [
        f"MLflow is a server, or was one ({facts.store.address}), and the backup has nothing to register a version "
        "by: its database is restored by its own means. `rankline score --model FOLDER` publishes from an artifact "
        "folder of the backup meanwhile"
    ]


def _of_log(log: RestoredLog) -> list[Block]:
    lines: list[Block] = []
    if log.state == "restored":
        lines.append("the interaction log is put back" + (f"; the one before is {log.aside}" if log.aside else ""))
    elif log.state == "there already":
        lines.append("the interaction log here is as new as the backup's, or newer, and stays")
    elif log.state == "kept":
        lines.append("another interaction log is here, and stays: rankline ship sends what waits, then --replace yes")
    if log.n_forgotten:
        lines.append(f"{log.n_forgotten:,} user(s) who were forgotten since are forgotten in the log, too")
    if log.caught_up is not None and log.caught_up.n_unrecorded:
        lines.append(
            f"{log.caught_up.n_unrecorded:,} interaction(s) had arrived without a row in the ledger: not sent again"
        )
    return lines


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes:,} bytes"
