"""Interactions from the warehouse: its tables made where they are missing, its rows streamed and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import sql
from pipeline.errors import ConnectionLostError, InputError
from pipeline.sources.blocks import InteractionsBuilder, Read
from pipeline.sources.columns import Columns
from pipeline.spec import OnBadRows
from pipeline.warehouse import Warehouse

__all__ = [
    "MART",
    "Described",
    "described",
    "history",
    "init",
    "interactions_query",
    "read_warehouse",
    "seen_now",
    "titles",
]

MART = "analytics.mart_user_movie_matrix"
_IDS = 200  # asked for at once: bound values travel in the address, which may not be long
_NO_GENRES = "(no genres listed)"  # MovieLens' own word for none


def init(warehouse: Warehouse) -> list[str]:
    """Make the databases and tables that are missing, and bring the mart's view up to its SQL file.

    A mart that is a table (made by a tool of the user's own) is left alone. Returns what was done,
    a sentence each.
    """
    for statement in sql.load_all("ddl"):
        warehouse.ddl(statement.text)
    engine = warehouse.engine(MART)
    if engine not in (None, "View"):
        return [f"{MART} is a table of your own ({engine}) and was left as it is"]
    warehouse.command(sql.load("marts/mart_user_movie_matrix").text)
    return [f"{MART} is {'made' if engine is None else 'up to date'} in {warehouse.address}"]


def interactions_query(warehouse: Warehouse, query: sql.Sql | None) -> sql.Sql:
    """The query to read: the user's own, else the one over the mart, made where it is missing."""
    if query is not None:
        return query
    if warehouse.embedded or warehouse.engine(MART) is None:
        init(warehouse)
    return sql.load("queries/interactions")


def read_warehouse(
    warehouse: Warehouse,
    query: sql.Sql,
    columns: Columns | None = None,
    on_bad_rows: OnBadRows = "error",
    progress: Callable[[int, int], None] | None = None,
    before: Callable[[int], None] | None = None,
) -> Read:
    """Stream the query's blocks into interactions, and compare their number with ``count()``.

    `before` is told that number before anything is read; what it raises ends the read. A stream that breaks, or is
    short, is read again from its beginning: no interactions are ever made of a part.

    Raises
    ------
    ConnectionLostError
        Where fewer or more rows arrived than the query has, before and after the read (a table
        that grows meanwhile is no fault).
    InputError
        Where it has none; columns and rows as for files.
    """

    def once() -> Read:
        expected = _count(warehouse, query)
        if expected == 0:
            raise InputError(f"{query.name} gives no rows in {warehouse.address}; `rankline sample` loads sample data")
        if before is not None:
            before(expected)
        # Its own each time: what came before the stream broke is forgotten.
        builder = InteractionsBuilder(columns or Columns(), on_bad_rows, where=query.name)
        n_rows = 0
        with warehouse.blocks(query.text) as blocks:
            for block in blocks:
                builder.add(block)
                n_rows += block.num_rows
                if progress is not None:
                    progress(n_rows, expected)
        _all_came(warehouse, query, expected, n_rows)
        return builder.finish()

    return warehouse.repeated(f"the whole read of {query.name}", once)


def _count(warehouse: Warehouse, query: sql.Sql) -> int:
    return int(next(iter(warehouse.rows(sql.count_of(query).text)[0].values())))


def _all_came(warehouse: Warehouse, query: sql.Sql, expected: int, arrived: int) -> None:
    """Compare the number of rows that came with what there was before, and there is now."""
    if arrived == expected:
        return
    now = _count(warehouse, query)
    if not min(expected, now) <= arrived <= max(expected, now):
        raise ConnectionLostError(
            f"{arrived} rows of {query.name} arrived from {warehouse.address} and {now} are there: "
            "the read was cut short; run the command again"
        )


def seen_now(
    warehouse: Warehouse, query: sql.Sql, user_kind: str, item_kind: str
) -> Iterator[tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """Blocks of (user ids, item ids) that the query has by now, in the order of user ids.

    Raises QueryError where they are not all of them, at the end: a list of what is seen that was cut
    short would let seen items through.
    """
    ordered = sql.ordered_seen(query, user_kind, item_kind)
    expected, n_rows = _count(warehouse, ordered), 0
    # Sorted outside of memory past this size: a batch job's memory must not grow with its users.
    with warehouse.blocks(ordered.text, max_bytes_before_external_sort=512 * 2**20) as blocks:
        for block in blocks:
            n_rows += block.num_rows
            yield _ids(block.column(0), user_kind), _ids(block.column(1), item_kind)
    _all_came(warehouse, ordered, expected, n_rows)


def _ids(column: pa.ChunkedArray, kind: str) -> NDArray[np.generic]:
    values = column.to_numpy()
    result: NDArray[np.generic] = values.astype(str if kind == "str" else np.int64, copy=False)
    return result


class Described(NamedTuple):
    """What the warehouse calls an item; either may be empty."""

    title: str
    genres: tuple[str, ...]


def described(warehouse: Warehouse, items: Sequence[int | str]) -> dict[str, Described]:
    """Titles and genres of the items (id as text → both), of those that the warehouse has."""
    if not len(items) or warehouse.engine("raw.movies") is None:
        return {}
    found = {}
    query = sql.load("queries/titles").text
    for start in range(0, len(items), _IDS):
        ids = [str(item) for item in items[start : start + _IDS]]
        for row in warehouse.rows(query, {"items": ids}):
            genres = tuple(genre for genre in str(row["genres"] or "").split("|") if genre and genre != _NO_GENRES)
            found[str(row["item_id"])] = Described(str(row["title"] or ""), genres)
    return found


def titles(warehouse: Warehouse, items: Sequence[int | str]) -> dict[str, str]:
    """Titles of the items (id as text → title), where the warehouse has any."""
    return {item: known.title for item, known in described(warehouse, items).items() if known.title}


def history(warehouse: Warehouse, user: int | str, k: int = 10) -> list[dict[str, object]]:
    """The k items the user liked best, with titles; none where there is no mart."""
    if warehouse.engine(MART) is None or warehouse.engine("raw.movies") is None:
        return []
    return warehouse.rows(sql.load("queries/history").text, {"user": str(user), "k": k})
