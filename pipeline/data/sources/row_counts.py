"""The size of a source before it is read: counted by the warehouse, stated by Parquet, or estimated for a text file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.columns import Columns, find_columns
from pipeline.data.sources.file_names import files_of, format_of
from pipeline.errors import InputError, QueryError
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.column_types import column_types, id_kind

__all__ = ["RowCount", "count_files", "count_warehouse"]

_LOOKED_AT = 1 << 20  # bytes of text from which the length of a row is estimated


@dataclass(frozen=True)
class RowCount:
    """The size of a source before the read; None if unknown.

    Attributes
    ----------
    n_rows : rows of the source
    how : ``counted``, or ``guessed`` (from a file's size)
    n_users, n_items, n_cells : distinct users, items and pairs, to about 1 %
    times : whether the source has a column of times
    user_id_bytes, item_id_bytes : bytes of one id in memory
    """

    n_rows: int
    how: str = "counted"
    n_users: int | None = None
    n_items: int | None = None
    n_cells: int | None = None
    times: bool | None = None
    user_id_bytes: int = 8
    item_id_bytes: int = 8


def count_warehouse(warehouse: Warehouse, query: sql.Sql, n_rows: int | None = None) -> RowCount:
    """Count the query's rows in the warehouse.

    If `n_rows` is given and the warehouse can't count further, the error is left to the read. Without `n_rows`
    QueryError is raised.
    """
    try:
        counts = {key: int(value) for key, value in warehouse.rows(sql.size_of(query).text)[0].items()}
        columns = dict(column_types(warehouse, query))
    except QueryError:
        if n_rows is None:
            raise
        return RowCount(n_rows)
    widths = {
        name: 8 if id_kind(name, columns[name]) == "int" else 4 * max(counts.pop(f"{name}_length"), 2)
        for name in ("user_id", "item_id")
    }
    return RowCount(
        n_rows=counts["n_rows"],
        n_users=counts["n_users"],
        n_items=counts["n_items"],
        n_cells=counts["n_cells"],
        times="at" in columns,
        user_id_bytes=widths["user_id"],
        item_id_bytes=widths["item_id"],
    )


def count_files(paths: Sequence[Path], columns: Columns, format: str | None) -> RowCount | None:
    """The rows of all files together, as `count_file` counts each; None if one can't be counted."""
    try:
        counts = [count_file(file, columns, format) for file in files_of(paths)]
    except InputError:
        return None
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    return RowCount(
        sum(count.n_rows for count in known),
        "guessed" if any(count.how == "guessed" for count in known) else "counted",
        times=known[0].times,
    )


def count_file(path: Path, columns: Columns, format: str | None) -> RowCount | None:
    """From Parquet's metadata, or from the length of the first rows of a text file.

    None if neither is possible: the read then says what is wrong with the file.
    """
    if not path.is_file():  # What is read from a pipe is gone.
        return None
    try:
        if format_of(path, format) == "parquet":
            with pq.ParquetFile(path) as file:
                roles = find_columns(file.schema_arrow.names, columns, str(path))
                return RowCount(file.metadata.num_rows, times="timestamp" in roles)
        with path.open("rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            head = raw.read(_LOOKED_AT)
            taken = len(head)
        if head[:2] == b"\x1f\x8b":
            unpacked = zlib.decompressobj(31)  # gzip
            head = unpacked.decompress(head, _LOOKED_AT)
            taken -= len(unpacked.unconsumed_tail)
        rows = head.count(b"}" if format_of(path, format) == "json" else b"\n")
        return RowCount(round(rows * size / taken), "guessed") if rows else None
    except (OSError, ValueError, EOFError, zlib.error, pa.ArrowException):  # InputError is a ValueError
        return None
