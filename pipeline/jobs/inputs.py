"""Reads the interactions for a command: from the warehouse, from a file, or from the file if no warehouse answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.sources.blocks import ReadResult
from pipeline.data.sources.columns import Columns
from pipeline.data.sources.files import FileForm, ReadFiles, read_file
from pipeline.data.sources.row_counts import RowCount, count_files, count_warehouse
from pipeline.data.sources.sample import is_empty, load_sample
from pipeline.data.sources.warehouse import MART, interactions_query, read_warehouse
from pipeline.errors import UnreachableError, UsageError
from pipeline.models.item_snapshot import ItemTexts
from pipeline.options import ReadOptions, RowOptions, as_event_weights
from pipeline.settings import Settings
from pipeline.shipping.ledger import watermark
from pipeline.warehouse import Warehouse, address_of, connect, sql

__all__ = ["LoadedInput", "columns_of", "form_of", "open_warehouse", "read_interactions"]

_MANY = 1_000_000  # rows


@dataclass(frozen=True, eq=False)
class LoadedInput:
    """Attributes
    ----------
    read : the interactions and the bad rows
    source : ``warehouse`` or ``file``
    where : the warehouse's address or the file's path; of several files all of them
    query : the query that the warehouse ran
    notes : messages for the log and the run, e.g. that a file was read instead, or that the sample was loaded
    fell_back : whether the file was read because no warehouse answered
    name : what the source is called; the same name from one day to the next, while ids mean the same
    watermark : log id → up to where its interactions were in the warehouse before the read; None for a source that is
        not made from raw.*: a file, a query or a mart of the user's own
    texts : titles, genres and tags, where they were read before the training: of --items, or for --cold-items
    """

    read: ReadResult
    source: str
    where: str
    query: sql.Sql | None = None
    notes: tuple[str, ...] = ()
    fell_back: bool = False
    name: str = ""
    watermark: dict[str, int] | None = None
    texts: ItemTexts | None = None


def open_warehouse(settings: Settings) -> Warehouse:
    """Connect to the warehouse of the settings. Raises the errors of `pipeline.warehouse.connect`."""
    return connect(
        settings.warehouse_dsn,
        settings.connect_timeout,
        settings.read_timeout,
        settings.query_timeout,
        settings.retry_policy,
    )


def read_interactions(
    spec: ReadOptions,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    before: Callable[[RowCount], Path | None] = lambda _: None,
    opened: Callable[[Warehouse], None] = lambda _: None,
    read_files: ReadFiles | None = None,
) -> LoadedInput:
    """Read from the source that `spec` names.

    `before` gets the row count before the read, where it is known, and may name a folder: the interactions then lie in
    files there. `opened` gets the warehouse before that.
    `read_files` reads files instead of this process.

    The file replaces the warehouse only after UnreachableError, when nothing answers at its address. A wrong
    password, a held lock, and a query that fails or returns no rows are errors that a person must see.
    """
    query = sql.read_query(spec.query) if spec.query is not None else None
    file_first = spec.source == "auto" and spec.input is not None and settings.warehouse is None
    if spec.source == "file" or file_first:
        if spec.query is not None:
            way = "" if spec.source == "file" else ": without --input the query is"
            say(f"{_files(spec)} is read, and not the query {spec.query.name}{way}")
        return _from_files(spec, say, progress, before, read_files)
    try:
        warehouse = open_warehouse(settings)
    except UnreachableError as error:
        if spec.input is None:
            raise
        note = f"{error}: read {_files(spec)} instead"
        say(note)
        return _from_files(spec, say, progress, before, read_files, (note,))
    with warehouse:
        notes: tuple[str, ...] = ()
        if spec.source == "auto" and spec.input is not None:
            say(f"{_files(spec)} is not read, as RANKLINE_WAREHOUSE is set and answers: --source file reads it")
        if query is None and warehouse.embedded and is_empty(warehouse):
            say(f"the embedded warehouse at {warehouse.address} is empty: loading the MovieLens sample")
            load_sample(warehouse)
            notes = ("the MovieLens sample was loaded into the empty embedded warehouse",)
        opened(warehouse)
        statement = interactions_query(warehouse, query, spec.user_column, spec.item_column)
        of_raw = query is None and warehouse.engine(MART) == "View"
        shipped = watermark(warehouse) if of_raw else None
        read = read_warehouse(
            warehouse,
            statement,
            columns_of(spec, of_query=True),
            spec.on_bad_rows,
            progress,
            lambda n: before(_counted(warehouse, statement, n)),
        )
        if read.columns is not None:
            columns_of_query = {"user": spec.user_column or "user_id", "item": spec.item_column or "item_id"}
            read = replace(read, columns=replace(read.columns, names={**read.columns.names, **columns_of_query}))
        notes += _said(read, statement.name, say)
        name = spec.source_name or _name_of_warehouse(settings, spec.query)
        return LoadedInput(read, "warehouse", warehouse.address, statement, notes, name=name, watermark=shipped)


def columns_of(spec: RowOptions, *, of_query: bool = False) -> Columns:
    """Which columns hold what, and how their values are read."""
    weights = None if spec.event_weights is None else as_event_weights(spec.event_weights)
    if of_query and weights is not None:
        raise UsageError(
            "--event-weights is of files; a query weighs events itself: multiIf(event = 'cart', 3, 1) AS score"
        )
    columns = Columns(
        spec.user_column,
        spec.item_column,
        spec.rating_column,
        spec.timestamp_column,
        spec.event_column,
        of_query=of_query,
        time_format=spec.time_format,
        on_negative=spec.on_negative,
        event_weights=weights,
    )
    # `interactions_query` gives a query these names, for the batch job, too.
    return replace(columns, user="user_id", item="item_id") if of_query else columns


def form_of(spec: RowOptions) -> FileForm:
    """How text files are written."""
    return FileForm(spec.separator, spec.header, spec.encoding)


def _counted(warehouse: Warehouse, query: sql.Sql, n_rows: int) -> RowCount:
    """Count users and items, too, where there are many rows. For few rows counting takes as long as reading."""
    return count_warehouse(warehouse, query, n_rows) if n_rows >= _MANY else RowCount(n_rows)


def _from_files(
    spec: ReadOptions,
    say: Callable[[str], None],
    progress: Callable[[int, int | None], None],
    before: Callable[[RowCount], Path | None],
    read_files: ReadFiles | None,
    notes: tuple[str, ...] = (),
) -> LoadedInput:
    columns, form = columns_of(spec), form_of(spec)
    if read_files is not None:
        read = read_files(spec.inputs, columns, spec.format, spec.on_bad_rows, lambda n: progress(n, None), form)
    else:
        counted = count_files(spec.inputs, columns, spec.format)
        folder = None if counted is None else before(counted)
        read = read_file(
            spec.inputs, columns, spec.format, spec.on_bad_rows, lambda n: progress(n, None), form=form, folder=folder
        )
    fell_back = bool(notes)
    notes += _said(read, _files(spec), say)
    name = spec.source_name or _name_of_files(spec.inputs)
    return LoadedInput(read, "file", _files(spec), notes=notes, fell_back=fell_back, name=name)


def _name_of_warehouse(settings: Settings, query: Path | None) -> str:
    """The server, the database of the connection, and the query's file without its folder, which moves."""
    where = address_of(settings.warehouse_dsn, with_database=True)
    return where if query is None else f"{where} {query.name}"


def _name_of_files(paths: Sequence[Path]) -> str:
    """The folders: exports of several days lie in one folder, under other names."""
    folders = [path if path.is_dir() else path.absolute().parent for path in paths]
    return ", ".join(dict.fromkeys(f"file://{folder.resolve()}" for folder in folders))


def _said(read: ReadResult, where: str, say: Callable[[str], None]) -> tuple[str, ...]:
    """Say which columns were read, and the notes of the read; these are notes of the run, too."""
    if read.columns is not None:
        say(f"columns of {where}: {read.columns.sentence}")
    for note in read.notes:
        say(note)
    return read.notes


def _files(spec: ReadOptions) -> str:
    return ", ".join(map(str, spec.inputs))
