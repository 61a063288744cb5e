"""Puts the tables of a backup back into a warehouse: each in one step, and nobody who was forgotten comes with them.

A table is filled under a name of its own, compared with the backup's checksum, and then renamed or exchanged. Whoever
is stopped in between runs the command again. What is there already stays, unless it is to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.sources.warehouse import init
from pipeline.errors import QueryError
from pipeline.options.names import Names
from pipeline.publishing.backup import LEDGER, LOG, SCRATCH, SetFile, WarehouseFiles
from pipeline.publishing.erasure import leave_out
from pipeline.publishing.lock import RENAME, PublishLock, publish_lock
from pipeline.publishing.publication_log import create_log, log_event
from pipeline.publishing.published_sets import sets, staged_name
from pipeline.publishing.published_tables import swap_in, tidy
from pipeline.publishing.suppressed_users import FORGOTTEN, SuppressedUsers, read_suppressed_users
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.table_files import TableFile, digest_of, fill, make_like, make_table

__all__ = ["RestoredTables", "restore_tables"]

_KEEP = 1000  # sets: the next publication drops those that are too many
_EXCHANGE = "EXCHANGE TABLES {database:Identifier}.{one:Identifier} AND {database:Identifier}.{other:Identifier}"
_MOVE = "RENAME TABLE {database:Identifier}.{one:Identifier} TO {database:Identifier}.{other:Identifier}"
_DROP = "DROP TABLE IF EXISTS {database:Identifier}.{table:Identifier} SYNC"


@dataclass
class RestoredTables:
    """Attributes
    ----------
    restored : tables and sets that were put back
    there : that were there already, equal or newer
    kept : with other rows than the backup's, which stay
    n_forgotten : forgotten users of the backup that the warehouse did not have
    """

    restored: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    n_forgotten: int = 0


class _Restoring:
    """One restore: the warehouse, the files, and what to do with what is there."""

    def __init__(
        self,
        warehouse: Warehouse,
        path: Callable[[str], Path],
        replace: bool,
        say: Callable[[str], None],
        expiry: float | None,
    ) -> None:
        self.warehouse, self.path, self.replace, self.say, self.expiry = warehouse, path, replace, say, expiry
        self.suppressed = SuppressedUsers({})
        self.done = RestoredTables()


def restore_tables(
    warehouse: Warehouse,
    files: WarehouseFiles,
    path: Callable[[str], Path],
    replace: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    expiry: float | None = None,
) -> RestoredTables:
    """Put the tables and the published sets of a backup back.

    The forgotten users of the backup are added to those of the warehouse, before anything else; rows of any of them
    are left out of what is put back.

    Parameters
    ----------
    path : the path of a file of the backup
    replace : put the backup's rows in the place of others, and publish its set instead of a newer one
    expiry : of the lock, see `publish_lock`

    Raises
    ------
    QueryError
        A table does not hold what was written to it.
    LockedError
        Somebody else moves published tables all the while.
    """
    job = _Restoring(warehouse, path, replace, say, expiry)
    has_raw = any(table.database == "raw" for table in files.tables)
    if has_raw:
        init(warehouse)
    for name in ("ddl/02_analytics", "ddl/forgotten"):
        warehouse.ddl(sql.load(name).text)
    create_log(warehouse)
    total, done = len(files.tables) + len(files.sets), 0
    _merge_forgotten(job, files.table(FORGOTTEN))
    job.suppressed = read_suppressed_users(warehouse)
    # The ledger is last of its database: without it rows could be shipped again, and it names none that are missing.
    for table in sorted(files.tables, key=lambda table: table.table == LEDGER):
        progress(done, total)
        if table.table == LOG:
            _merge_log(job, table)
        elif table.table != FORGOTTEN:
            _restore_table(job, table)
        done += 1
    for name in dict.fromkeys(one.name for one in files.sets):
        of_name = [one for one in files.sets if one.name == name]
        with publish_lock(warehouse, "restoring", say, expiry=expiry, names=Names(name)) as lock:
            _restore_sets(job, lock, of_name)
        done += len(of_name)
        progress(done, total)
    if has_raw:
        init(warehouse)  # the mart's view, over columns of other types
    return job.done


def _merge_forgotten(job: _Restoring, table: TableFile | None) -> None:
    if table is None:
        return
    known = {(salt, digest) for salt, some in read_suppressed_users(job.warehouse).digests.items() for digest in some}

    def new(rows: pa.Table) -> pa.Table:
        pairs = list(zip(rows["salt"].to_pylist(), rows["digest"].to_pylist(), strict=True))
        mask = [pair not in known for pair in pairs]
        known.update(pairs)
        job.done.n_forgotten += sum(mask)
        return rows.filter(pa.array(mask))

    fill(job.warehouse, table, job.path(table.file), table.database, table.name, keep=new)


def _merge_log(job: _Restoring, table: TableFile) -> None:
    rows = job.warehouse.rows(sql.load("queries/publications_there").text)
    known = {(int(row["at_ms"]), str(row["action"]), str(row["staged"])) for row in rows}

    def new(rows: pa.Table) -> pa.Table:
        at = pc.cast(rows["at"], pa.int64()).to_pylist()
        events = zip(at, rows["action"].to_pylist(), rows["staged"].to_pylist(), strict=True)
        return rows.filter(pa.array([event not in known for event in events], pa.bool_()))

    fill(job.warehouse, table, job.path(table.file), table.database, table.name, keep=new)
    (job.done.restored if not known else job.done.there).append(LOG)


def _restore_table(job: _Restoring, table: TableFile) -> None:
    """Fill a table under another name, and put it in place where that is empty, or is to be replaced."""
    warehouse, where = job.warehouse, {"database": table.database}
    engine = warehouse.engine(table.table)
    if engine is not None and not engine.endswith("MergeTree"):
        job.say(f"{table.table} in {warehouse.address} is a {engine}: it stays as it is")
        job.done.kept.append(table.table)
        return
    present = digest_of(warehouse, table.database, table.name) if engine is not None else (0, "")
    if engine is not None and present == (table.n_rows, table.checksum):
        job.done.there.append(table.table)
        return
    if present[0] and not job.replace and not job.suppressed:
        job.done.kept.append(table.table)
        return
    scratch = f"{SCRATCH}{table.name}"
    _fill_scratch(job, table, scratch, like=table.name if engine is not None else None)
    _erase(job, table, scratch)
    names = {**where, "one": scratch, "other": table.name}
    if engine is None:
        warehouse.command(_MOVE, names)
        job.done.restored.append(table.table)
        return
    if digest_of(warehouse, table.database, scratch) == present:
        job.done.there.append(table.table)
    elif present[0] and not job.replace:
        job.done.kept.append(table.table)
    else:
        warehouse.command(_EXCHANGE, names)
        job.done.restored.append(table.table)
    warehouse.command(_DROP, {**where, "table": scratch})


def _fill_scratch(job: _Restoring, table: TableFile, scratch: str, like: str | None = None, ddl: str = "") -> None:
    """Make the table and fill it; raises QueryError where it does not hold the backup's rows then.

    like, ddl : a table, or a file of sql/, that has the comments and settings; used where the columns are the same
    """
    warehouse, names = job.warehouse, {"database": table.database, "table": scratch}
    warehouse.command(_DROP, names)
    types = {column.name: column.type for column in table.columns}
    if like is not None:
        make_like(warehouse, table.database, scratch, like)
    elif ddl:
        ids = {"user_type": types["user_id"], "item_type": types["item_id"]}
        warehouse.ddl(sql.load(ddl).text, {"table": scratch, **ids})
    if _columns(warehouse, table.database, scratch) != list(types.items()):
        warehouse.command(_DROP, names)
        make_table(warehouse, table, table.database, scratch)
    fill(warehouse, table, job.path(table.file), table.database, scratch)
    if digest_of(warehouse, table.database, scratch) != (table.n_rows, table.checksum):
        raise QueryError(
            f"{table.database}.{scratch} in {warehouse.address} holds other rows than were written: run the command "
            "again"
        )


def _columns(warehouse: Warehouse, database: str, name: str) -> list[tuple[str, str]]:
    rows = warehouse.rows(sql.load("queries/table_columns").text, {"database": database, "table": name})
    return [(str(row["name"]), str(row["type"])) for row in rows]


def _erase(job: _Restoring, table: TableFile, scratch: str) -> None:
    """Delete the rows of forgotten users from a table that nobody reads yet."""
    if not any(column.name == "user_id" for column in table.columns):
        return
    names = {"database": table.database, "table": scratch}
    for parameters in job.suppressed.parameters():
        rows = job.warehouse.rows(sql.load("queries/rows_of_users").text, {**names, **parameters})
        if int(rows[0]["n"]):
            text = sql.load("queries/delete_users").text
            job.warehouse.command(text, {**names, **parameters}, mutations_sync=2)


def _restore_sets(job: _Restoring, lock: PublishLock, files: list[SetFile]) -> None:
    """Put the older sets of a model beside the published one, and publish the one that was published."""
    warehouse, names = job.warehouse, lock.names
    tidy(warehouse, _KEEP, lock)
    for one in sorted(files, key=lambda one: (one.published, one.at_ms)):
        there = {(found.at_ms, found.run_id): table for table, found in sets(warehouse, names).items()}
        published = sets(warehouse, names).get(names.sets)
        where = there.get((one.at_ms, one.run_id))
        newer = published is not None and published.at_ms > one.at_ms
        if one.published and newer and not job.replace:
            job.done.kept.append(names.table)
        if where == names.sets or (where is not None and (not one.published or (newer and not job.replace))):
            job.done.there.append(f"analytics.{where}")
            continue
        if where is None:
            where = staged_name(one.at_ms, one.run_id, names)
            _fill_scratch(job, one.table, where, ddl="ddl/staged_recommendations")
            leave_out(warehouse, where, job.suppressed, f"{where}_users")
        if one.published and (not newer or job.replace):
            swap_in(warehouse, where, lock, lock.name())
            log_event(warehouse, "restored", one.set, one.table.n_rows, "from a backup")
            job.done.restored.append(names.table)
        elif where != one.set.kept_name:
            lock.move(RENAME, lock.claim(where), one.set.kept_name)
            job.done.restored.append(f"analytics.{one.set.kept_name}")
        tidy(warehouse, _KEEP, lock)
