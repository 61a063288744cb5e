"""What a backup takes from the warehouse: the published sets of every model, and the tables beside them.

Of a server these are Rankline's own: the published sets, the log of publications, the forgotten users, and the rules.
Its raw tables belong to whoever loads them, and a server has backups of its own. An embedded warehouse has nobody else
to look after it, so all its tables are taken, the raw ones and the ledger of shipments, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BackupError, QueryError
from pipeline.options.names import Names
from pipeline.publishing.lock import CLAIMED
from pipeline.publishing.publication_log import published_names
from pipeline.publishing.published_sets import PublishedSet, head, is_staged, sets
from pipeline.publishing.rules import RULES
from pipeline.publishing.suppressed_users import FORGOTTEN
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.table_files import TableFile, read_table

__all__ = ["LEDGER", "LOG", "SCRATCH", "SetFile", "WarehouseFiles", "back_up_tables"]

LOG, LEDGER = "analytics.publications", "raw.shipments"
SCRATCH = "being_restored_"  # what the names of tables that are being filled begin with
_REPLACEMENT = "rules_replacement"  # rules that are being pushed


@dataclass(frozen=True)
class SetFile:
    """A published set in a backup.

    Attributes
    ----------
    table : its rows
    name : of the model whose set it is
    at_ms, run_id, model_version : as `PublishedSet` has them
    published : whether it was the published set; else one before
    """

    table: TableFile
    name: str
    at_ms: int
    run_id: str
    model_version: str
    published: bool

    @property
    def set(self) -> PublishedSet:
        """The set, in the table that it was in."""
        return PublishedSet(self.table.name, self.at_ms, self.run_id, self.model_version, Names(self.name))

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class WarehouseFiles:
    """Attributes
    ----------
    address : of the warehouse
    embedded : whether it was an embedded one
    sets : the published sets
    tables : the other tables
    """

    address: str
    embedded: bool
    sets: tuple[SetFile, ...]
    tables: tuple[TableFile, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> WarehouseFiles:
        """What `facts` gave. Raises BackupError where it is none."""
        try:
            found = tuple(
                SetFile(
                    TableFile.of(one["table"]),
                    Names(str(one["name"])).name,
                    int(one["at_ms"]),
                    str(one["run_id"]),
                    str(one["model_version"]),
                    bool(one["published"]),
                )
                for one in facts["sets"]
            )
            tables = tuple(TableFile.of(one) for one in facts["tables"])
            return cls(str(facts["address"]), bool(facts["embedded"]), found, tables)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, BackupError):
                raise
            raise BackupError("The manifest of the backup describes its tables in no way that can be read") from None

    def table(self, name: str) -> TableFile | None:
        """The other table of this name, with its database."""
        return next((table for table in self.tables if table.table == name), None)


def back_up_tables(
    warehouse: Warehouse, folder: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> WarehouseFiles:
    """Write the tables to files in ``folder/warehouse``.

    No lock is held: a set is never changed once it is published, and a table that was written to meanwhile is read
    again. The forgotten users come last, so that nobody who was forgotten meanwhile is missing.
    """
    (folder / "warehouse").mkdir()
    all_names = published_names(warehouse)
    of_sets = [found for names in all_names for found in sets(warehouse, names).values()]
    others = _other_tables(warehouse, {found.table for found in of_sets}, all_names)
    total = len(of_sets) + len(others)

    def read(database: str, name: str, done: int) -> TableFile:
        progress(done, total)
        file = f"warehouse/{database}.{name}.parquet"
        return read_table(warehouse, database, name, folder / file, file)

    set_files = []
    for done, found in enumerate(of_sets):
        table = read("analytics", found.table, done)
        if head(warehouse, found.table, found.names) != found:
            raise QueryError(
                f"analytics.{found.table} in {warehouse.address} was moved while it was read, as a set was published: "
                "take the backup again"
            )
        is_published = found.table == found.names.sets
        set_files.append(SetFile(table, found.names.name, found.at_ms, found.run_id, found.model_version, is_published))
    others.sort(key=lambda table: (table == FORGOTTEN, table))
    tables = []
    for done, other in enumerate(others, len(of_sets)):
        database, name = other.split(".", 1)
        tables.append(read(database, name, done))
    progress(total, total)
    return WarehouseFiles(warehouse.address, warehouse.embedded, tuple(set_files), tuple(tables))


def _other_tables(warehouse: Warehouse, of_sets: set[str], all_names: list[Names]) -> list[str]:
    there = [f"{row['database']}.{row['name']}" for row in warehouse.rows(sql.load("queries/tables_to_copy").text)]
    if not warehouse.embedded:
        return [table for table in (LOG, RULES, FORGOTTEN) if table in there]

    def is_working(table: str) -> bool:
        name = table.removeprefix("analytics.")
        claimed = CLAIMED.fullmatch(name) is not None
        if name == _REPLACEMENT or table.split(".", 1)[1].startswith(SCRATCH):
            return True
        return claimed or any(is_staged(name, of) or name.startswith(of.tickets) for of in all_names)

    own = {f"analytics.{name}" for name in of_sets} | {names.table for names in all_names}
    own |= {names.previous for names in all_names}
    return [table for table in there if table not in own and not is_working(table)]
