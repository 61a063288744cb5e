"""Interactions from the warehouse: its tables made where they are missing, its rows streamed and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.data.sources.blocks_builder import builder_for
from pipeline.data.sources.builder import InteractionsBuilder, ReadResult
from pipeline.data.sources.columns import Columns, find_columns
from pipeline.errors import ConnectionLostError, InputError, MissingColumnsError
from pipeline.options import OnBadRows
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.column_types import column_types, quoted, read_as

__all__ = [
    "MART",
    "QueryColumns",
    "add_manifest",
    "as_read",
    "catalogue",
    "describe",
    "genres_in",
    "has_manifest",
    "history",
    "init",
    "interactions_query",
    "read_warehouse",
    "stream_rows",
    "titles",
]

Builder = TypeVar("Builder", bound=InteractionsBuilder)
Result = TypeVar("Result")

MART = "analytics.mart_user_movie_matrix"
_COUNTS = 7  # counts at most; those of a random query go in one direction once in two thousand times
_IDS = 200  # asked for at once: bound values travel in the address, which may not be long
_NO_GENRES = "(no genres listed)"  # MovieLens' own word for none


def init(warehouse: Warehouse) -> list[str]:
    """Make the databases, tables and columns that are missing, and bring the mart's view up to its SQL file.

    A mart that is a table (made by a tool of the user's own) is left alone. Returns what was done,
    a sentence each.
    """
    for statement in sql.load_all("ddl"):
        warehouse.ddl(statement.text)
    add_manifest(warehouse)
    for table in warehouse.rows(sql.load("queries/raw_tables").text):
        if not table["recognises"]:
            warehouse.command(sql.load("ddl/raw_settings").text, {"table": table["name"]})
        if table["lacks_tags"]:
            warehouse.command(sql.load("ddl/raw_tags").text, {"table": table["name"]})
    engine = warehouse.engine(MART)
    if engine not in (None, "View"):
        return [f"{MART} is a table of your own ({engine}) and was left as it is"]
    warehouse.command(sql.load("marts/mart_user_movie_matrix").text)
    return [f"{MART} is {'made' if engine is None else 'up to date'} in {warehouse.address}"]


def has_manifest(warehouse: Warehouse) -> bool:
    """Whether analytics.exposures has the column manifest; one that an older version made may lack it."""
    return bool(warehouse.rows(sql.load("queries/exposures_manifest_column").text))


def add_manifest(warehouse: Warehouse) -> None:
    """Add that column where it is missing: the right to ALTER is needed there alone."""
    if not has_manifest(warehouse):
        warehouse.command(sql.load("ddl/exposures_manifest").text)


def interactions_query(
    warehouse: Warehouse, query: sql.Sql | None, user: str | None = None, item: str | None = None
) -> sql.Sql:
    """The query to read: the user's own, else the one over the mart, made where it is missing.

    `user` and `item` name the columns of the user's own that hold these ids; they become user_id and item_id.
    Raises MissingColumnsError.
    """
    if query is not None:
        given = {"user_id": user, "item_id": item}
        return _renamed(warehouse, query, {name: own for name, own in given.items() if own not in (None, name)})
    if warehouse.embedded or warehouse.engine(MART) is None:
        init(warehouse)
    return sql.load("queries/interactions")


def _renamed(warehouse: Warehouse, query: sql.Sql, names: Mapping[str, str | None]) -> sql.Sql:
    """The query with columns of other names under those of the contract (contract's name → name in the query)."""
    if not names:
        return query
    known = [name for name, _ in column_types(warehouse, query)]
    if missing := [own for own in names.values() if own is not None and own not in known]:
        raise MissingColumnsError(missing, known, query.name)
    others = [quoted(name) for name in known if name not in names and name not in names.values()]
    return sql.selected(query, [*(f"{quoted(str(own))} AS {name}" for name, own in names.items()), *others])


def read_warehouse(
    warehouse: Warehouse,
    query: sql.Sql,
    columns: Columns | None = None,
    on_bad_rows: OnBadRows = "error",
    progress: Callable[[int, int], None] | None = None,
    before: Callable[[int], Path | None] | None = None,
) -> ReadResult:
    """Stream the query's blocks into interactions, and compare their number with ``count()``.

    `before` is told that number before anything is read; what it raises ends the read, and where it names a folder,
    the interactions lie in files there. A stream that breaks, or is
    short, is read again from its beginning: no interactions are ever made of a part.

    Raises
    ------
    ConnectionLostError
        Where fewer or more rows arrived than the query has, before and after the read (a table
        that grows meanwhile is no fault).
    InputError
        Where it has none; columns and rows as for files.
    """

    def made(folder: Path | None) -> InteractionsBuilder:
        return builder_for(folder, columns or Columns(), on_bad_rows, query.name)

    return stream_rows(warehouse, query, columns or Columns(), made, _finished, progress, before)


def _finished(builder: InteractionsBuilder) -> ReadResult:
    return builder.finish()


def stream_rows(
    warehouse: Warehouse,
    query: sql.Sql,
    columns: Columns,
    made: Callable[[Path | None], Builder],
    finish: Callable[[Builder], Result],
    progress: Callable[[int, int], None] | None = None,
    before: Callable[[int], Path | None] | None = None,
    through: Path | None = None,
) -> Result:
    """What `finish` makes of a builder to which all blocks of the query were added. Else as `read_warehouse`.

    made : makes an empty builder, for each time that the stream is read; it is given the folder of its files, if any
    through : a folder for files, if `before` names none; for the answer of an embedded engine, too, which it keeps in
        memory else
    """

    def once() -> Result:
        typed = as_read(warehouse, query, columns)
        expected = _count(warehouse, query)
        if expected == 0:
            raise InputError(f"{query.name} gives no rows in {warehouse.address}; `rankline sample` loads sample data")
        folder = (before(expected) if before is not None else None) or through
        # Its own each time: what came before the stream broke is forgotten.
        builder = made(folder)
        n_rows = 0
        stream = warehouse.blocks(typed.text) if folder is None else warehouse.blocks_by_file(typed.text, folder)
        with stream as blocks:
            for block in blocks:
                builder.add(block)
                n_rows += block.num_rows
                if progress is not None:
                    progress(n_rows, expected)
        _all_came(warehouse, query, expected, n_rows)
        return finish(builder)

    return warehouse.retry(f"the whole read of {query.name}", once)


def as_read(warehouse: Warehouse, query: sql.Sql, columns: Columns) -> sql.Sql:
    """The query with ids, scores and times of types that every server sends the same; in place of a column that
    nothing uses stands 0.

    Raises MissingColumnsError, and InputError where a column's type is none for what it should be.
    """
    types = column_types(warehouse, query)
    roles = {position: role for role, position in find_columns([n for n, _ in types], columns, query.name).items()}
    casts = {position: read_as(*types[position], role) for position, role in roles.items()}
    if len(roles) == len(types) and not any(casts.values()):
        return query
    expressions = []
    for position, (name, _) in enumerate(types):
        value = (casts[position] or quoted(name)) if position in roles else "0"
        expressions.append(f"{value} AS {quoted(name)}")
    return sql.selected(query, expressions)


def _count(warehouse: Warehouse, query: sql.Sql) -> int:
    return int(next(iter(warehouse.rows(sql.count_of(query).text)[0].values())))


def _all_came(warehouse: Warehouse, query: sql.Sql, expected: int, arrived: int) -> None:
    """Compare the number of rows that came with what there was before, and there is now.

    A table that grows, or shrinks, gives counts in one direction; a query with rand() gives them in both.
    """
    if arrived == expected:
        return
    counts = [expected, _count(warehouse, query)]
    # A query with rand() hardly ever gives the same number twice in a row.
    while counts[-1] != counts[-2] and len(counts) < _COUNTS:
        if list(counts) not in (sorted(counts), sorted(counts, reverse=True)):
            raise InputError(
                f"{query.name} gives another number of rows each time ({', '.join(map(str, counts))}), so that nobody "
                "can tell whether all arrived: look for rand(), now() or LIMIT in it; cityHash64(user_id) % 10 < 5 "
                "takes the same part each time"
            )
        counts.append(_count(warehouse, query))
    if not min(counts) <= arrived <= max(counts):
        raise ConnectionLostError(
            f"{arrived} rows of {query.name} arrived from {warehouse.address} and {counts[-1]} are there: "
            "the read was cut short; run the command again"
        )


class QueryColumns(NamedTuple):
    """What the warehouse, or a file of items, says of an item; each may be empty."""

    title: str
    genres: tuple[str, ...]
    tags: tuple[str, ...] = ()
    series: str = ""


def describe(warehouse: Warehouse, items: Sequence[int | str], n_others: int = 0) -> dict[str, QueryColumns]:
    """Titles and genres of the items (id as text → both), of those that the warehouse has.

    n_others : how many other items may be there besides, those with the last ids
    """
    if not len(items) or warehouse.engine("raw.movies") is None:
        return {}
    texts = {}
    if n_others:
        last = warehouse.rows(sql.load("queries/last_items").text, {"most": len(items) + n_others})
        texts = {str(row["item_id"]): _described(row) for row in last}
        items = [item for item in items if str(item) not in texts]
    query = sql.load("queries/titles").text
    for start in range(0, len(items), _IDS):
        ids = [str(item) for item in items[start : start + _IDS]]
        for row in warehouse.rows(query, {"items": ids}):
            texts[str(row["item_id"])] = _described(row)
    return texts


def catalogue(warehouse: Warehouse) -> dict[str, QueryColumns]:
    """Titles and genres of all items that the warehouse has, with and without interactions, by id as text."""
    if warehouse.engine("raw.movies") is None:
        return {}
    return {str(row["item_id"]): _described(row) for row in warehouse.rows(sql.load("queries/catalogue").text)}


def _described(row: Mapping[str, object]) -> QueryColumns:
    return QueryColumns(str(row["title"] or ""), genres_in(str(row["genres"] or "")))


def genres_in(text: str) -> tuple[str, ...]:
    """The genres of ``Comedy|Drama``."""
    return tuple(genre.strip() for genre in text.split("|") if genre.strip() and genre.strip() != _NO_GENRES)


def titles(warehouse: Warehouse, items: Sequence[int | str]) -> dict[str, str]:
    """Titles of the items (id as text → title), where the warehouse has any."""
    return {item: known.title for item, known in describe(warehouse, items).items() if known.title}


def history(warehouse: Warehouse, user: int | str, k: int = 10) -> list[dict[str, object]]:
    """The k items the user liked best, with titles; none where there is no mart."""
    if warehouse.engine(MART) is None or warehouse.engine("raw.movies") is None:
        return []
    return warehouse.rows(sql.load("queries/history").text, {"user": str(user), "k": k})
