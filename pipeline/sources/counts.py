"""How much there is to read: counted by the warehouse, told by Parquet, guessed from the size of a text file."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import sql
from pipeline.errors import QueryError
from pipeline.sources.columns import Columns, find_columns
from pipeline.sources.files import format_of
from pipeline.warehouse import Warehouse

__all__ = ["Counted", "count_file", "count_warehouse"]

_LOOKED_AT = 1 << 20  # bytes of text by which the length of a row is told


@dataclass(frozen=True)
class Counted:
    """What is known before the read; None where it is not.

    Attributes
    ----------
    n_rows : of the source
    how : ``counted``, or ``guessed`` (from a file's size)
    n_users, n_items, n_cells : distinct ones, to some 1 %; cells are pairs of both
    times : whether there is a column of times
    user_id_bytes, item_id_bytes : of one id in memory
    """

    n_rows: int
    how: str = "counted"
    n_users: int | None = None
    n_items: int | None = None
    n_cells: int | None = None
    times: bool | None = None
    user_id_bytes: int = 8
    item_id_bytes: int = 8


def count_warehouse(warehouse: Warehouse, query: sql.Sql, n_rows: int | None = None) -> Counted:
    """By the query's rows in the warehouse.

    With `n_rows` (counted already) a query that the warehouse can't count further is left for the read to complain
    about; without, QueryError is raised.
    """
    try:
        found = {key: int(value) for key, value in warehouse.rows(sql.size_of(query).text)[0].items()}
        columns = {one.name: one.type for one in warehouse.table(sql.none_of(query).text).schema}
    except QueryError:
        if n_rows is None:
            raise
        return Counted(n_rows)
    widths = {
        name: 8 if pa.types.is_integer(columns[name]) else 4 * max(found.pop(f"{name}_length"), 2)
        for name in ("user_id", "item_id")
    }
    return Counted(
        n_rows=found["n_rows"],
        n_users=found["n_users"],
        n_items=found["n_items"],
        n_cells=found["n_cells"],
        times="at" in columns,
        user_id_bytes=widths["user_id"],
        item_id_bytes=widths["item_id"],
    )


def count_file(path: Path, columns: Columns, format: str | None) -> Counted | None:
    """By Parquet's own metadata, or by the length of the first rows of a text file.

    None where neither tells: the read says what is wrong with a file.
    """
    try:
        if format_of(path, format) == "parquet":
            with pq.ParquetFile(path) as file:
                roles = find_columns(file.schema_arrow.names, columns, str(path))
                return Counted(file.metadata.num_rows, times="timestamp" in roles)
        with path.open("rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            head = raw.read(_LOOKED_AT)
            taken = len(head)
        if head[:2] == b"\x1f\x8b":
            unpacked = zlib.decompressobj(31)  # gzip
            head = unpacked.decompress(head, _LOOKED_AT)
            taken -= len(unpacked.unconsumed_tail)
        rows = head.count(b"}" if format_of(path, format) == "json" else b"\n")
        return Counted(round(rows * size / taken), "guessed") if rows else None
    except (OSError, ValueError, EOFError, zlib.error, pa.ArrowException):  # InputError is a ValueError
        return None
