"""Tables as Parquet files: written in blocks, read back in blocks, compared by a checksum that the engine computes.

A Parquet file can be read without ClickHouse. Types that Arrow has no equal for (UUID, Enum, IPv4, Decimal, …) are
written as text, and the engine reads them as what the column is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BackupError, QueryError
from pipeline.warehouse import sql
from pipeline.warehouse.client import Warehouse

__all__ = ["Column", "TableFile", "digest_of", "fill", "make_like", "make_table", "read_table", "user_ids"]

_ROWS_A_BLOCK = 500_000  # rows that are sent at once
_ROWS_A_READ = 2_000_000  # of the embedded engine, which holds an answer as a whole
_TRIES = 3
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What Arrow and ClickHouse both have. The rest is read as text.
_PLAIN = re.compile(r"(U?Int(8|16|32|64)|Float(32|64)|String|Bool|Date|Date32|DateTime(\(.*\))?|DateTime64\(.*\))")
_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")


@dataclass(frozen=True)
class Column:
    """A column: its ClickHouse type, and its place in the table's order from 1, or 0."""

    name: str
    type: str
    key: int = 0


@dataclass(frozen=True)
class TableFile:
    """A table that was read into a file.

    Attributes
    ----------
    database, name : the table
    file : the file's name in the backup
    columns : in their order
    n_rows, checksum : what `digest_of` says of its rows
    """

    database: str
    name: str
    file: str
    columns: tuple[Column, ...]
    n_rows: int
    checksum: str

    @property
    def table(self) -> str:
        """``database.name``."""
        return f"{self.database}.{self.name}"

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> TableFile:
        """What `facts` gave. Raises BackupError where it is none."""
        try:
            columns = tuple(Column(str(c["name"]), str(c["type"]), int(c["key"])) for c in facts["columns"])
            table = cls(
                str(facts["database"]),
                str(facts["name"]),
                str(facts["file"]),
                columns,
                int(facts["n_rows"]),
                str(facts["checksum"]),
            )
        except (KeyError, TypeError, ValueError):
            raise BackupError("The manifest of the backup describes a table in no way that can be read") from None
        names = (table.database, table.name, *(column.name for column in columns))
        if not columns or any(not _NAME.fullmatch(name) for name in names):
            raise BackupError(f"The backup has a table {table.table!r:.80} with names that no table has")
        return table


def digest_of(warehouse: Warehouse, database: str, name: str) -> tuple[int, str]:
    """(rows, checksum) of a table: equal for equal rows, in whatever order."""
    row = warehouse.rows(sql.load("queries/table_digest").text, {"database": database, "table": name})[0]
    return int(row["n_rows"]), str(row["checksum"])


def read_table(warehouse: Warehouse, database: str, name: str, path: Path, file: str) -> TableFile:
    """Write the rows of a table to a file; `file` is the file's name in the backup.

    A table that is written to meanwhile is read again. Raises QueryError where that goes on.
    """
    rows = warehouse.rows(sql.load("queries/table_columns").text, {"database": database, "table": name})
    columns = tuple(Column(str(row["name"]), str(row["type"]), int(row["key"])) for row in rows)
    if strange := [column.name for column in columns if not _NAME.fullmatch(column.name)]:
        raise QueryError(f"{database}.{name} has a column {strange[0]!r:.80}, which a backup can't hold: rename it")
    for _ in range(_TRIES):
        before = digest_of(warehouse, database, name)
        n_read = _write(warehouse, database, name, columns, path, before[0])
        if n_read == before[0] and digest_of(warehouse, database, name) == before:
            return TableFile(database, name, file, columns, *before)
    raise QueryError(f"{database}.{name} in {warehouse.address} changes all the while: take the backup again later")


def _write(warehouse: Warehouse, database: str, name: str, columns: Sequence[Column], path: Path, n_rows: int) -> int:
    n_reads = max(1, -(-n_rows // _ROWS_A_READ)) if warehouse.embedded else 1
    chosen = ", ".join(_as_arrow(column) for column in columns)
    # Names of columns can't be bound in a list; they were checked.
    text = f"SELECT {chosen} FROM {{database:Identifier}}.{{table:Identifier}}"  # noqa: S608
    if n_reads > 1:
        text += f" WHERE cityHash64(toString(`{columns[0].name}`)) % {{n:UInt32}} = {{i:UInt32}}"
    done, writer = 0, None
    try:
        for i in range(n_reads):
            parameters = {"database": database, "table": name, "n": n_reads, "i": i}
            with warehouse.blocks(text, parameters, **warehouse.unbounded) as blocks:
                for block in blocks:
                    if writer is None:
                        writer = pq.ParquetWriter(path, block.schema, compression="zstd")
                    writer.write_table(block)
                    done += block.num_rows
        if writer is None:
            writer = pq.ParquetWriter(path, pa.schema([(column.name, pa.string()) for column in columns]))
    finally:
        if writer is not None:
            writer.close()
    return done


def _as_arrow(column: Column) -> str:
    plain = column.type
    while match := _WRAPPED.fullmatch(plain):
        plain = match[1]
    return f"`{column.name}`" if _PLAIN.fullmatch(plain) else f"toString(`{column.name}`) AS `{column.name}`"


def make_table(warehouse: Warehouse, table: TableFile, database: str, name: str) -> None:
    """Create an empty table `database.name` with the columns and the order of `table`."""
    keys = sorted((column for column in table.columns if column.key), key=lambda column: column.key)
    # Types are bound as text, so a manifest can't bring a statement along; names were checked.
    chosen = ", ".join(
        f"defaultValueOfTypeName({{type_{i}:String}}) AS `{column.name}`" for i, column in enumerate(table.columns)
    )
    order = ", ".join(f"`{column.name}`" for column in keys if not column.type.startswith("Nullable"))
    text = (
        f"CREATE TABLE {{database:Identifier}}.{{table:Identifier}} ORDER BY ({order or 'tuple()'}) "
        f"SETTINGS non_replicated_deduplication_window = 10000 EMPTY AS SELECT {chosen}"
    )
    types = {f"type_{i}": column.type for i, column in enumerate(table.columns)}
    warehouse.ddl(text, {"database": database, "table": name, **types})


def make_like(warehouse: Warehouse, database: str, name: str, like: str) -> None:
    """Create an empty table with the columns, the order, the settings and the comments of another of the database."""
    if not (_NAME.fullmatch(database) and _NAME.fullmatch(like)):
        raise QueryError(f"{database}.{like} has a name that no backup holds")
    # ClickHouse takes no parameter behind AS; the names were checked.
    text = f"CREATE TABLE {{database:Identifier}}.{{table:Identifier}} AS `{database}`.`{like}`"
    warehouse.ddl(text, {"database": database, "table": name})


def fill(
    warehouse: Warehouse,
    table: TableFile,
    path: Path,
    database: str,
    name: str,
    keep: Callable[[pa.Table], pa.Table] = lambda rows: rows,
) -> None:
    """Insert the rows of a table's file into `database.name`, those that `keep` leaves of each block."""
    try:
        with pq.ParquetFile(path) as file:
            for i, batch in enumerate(file.iter_batches(_ROWS_A_BLOCK)):
                rows = keep(pa.Table.from_batches([batch]))
                if rows.num_rows:
                    warehouse.insert(f"{database}.{name}", rows, token=f"{path.name}:{table.checksum}:{name}:{i}")
    except pa.ArrowInvalid as error:
        raise BackupError(f"{path} can't be read as Parquet ({' '.join(str(error).split())[:200]})") from None


def user_ids(table: TableFile, path: Path) -> set[int | str]:
    """The distinct values of the column `user_id` in a table's file; none where it has no such column."""
    if not any(column.name == "user_id" for column in table.columns):
        return set()
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(_ROWS_A_BLOCK, columns=["user_id"])
        return {user for batch in batches for user in batch.column(0).unique().to_pylist() if user is not None}
