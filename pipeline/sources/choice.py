"""Which source a command reads: the warehouse, a file, or the file where no warehouse answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline import sql
from pipeline.errors import UnreachableError
from pipeline.settings import Settings
from pipeline.sources.blocks import Read
from pipeline.sources.columns import Columns
from pipeline.sources.counts import Counted, count_file, count_warehouse
from pipeline.sources.files import read_file
from pipeline.sources.sample import is_empty, load_sample
from pipeline.sources.warehouse import interactions_query, read_warehouse
from pipeline.spec import ReadSpec
from pipeline.warehouse import Warehouse, connect

__all__ = ["Chosen", "open_warehouse", "read_interactions"]

_MANY = 1_000_000  # rows


@dataclass(frozen=True, eq=False)
class Chosen:
    """Attributes
    ----------
    read : the interactions, and the bad rows among them
    source : warehouse or file
    where : the warehouse's address or the file's path
    query : what was asked of the warehouse
    notes : sentences for the log and the run: a fallback, a sample that was loaded
    """

    read: Read
    source: str
    where: str
    query: sql.Sql | None = None
    notes: tuple[str, ...] = ()
    fell_back: bool = False


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse of the settings. Raises as `pipeline.warehouse.connect`."""
    return connect(
        settings.warehouse_dsn,
        settings.connect_timeout,
        settings.read_timeout,
        settings.query_timeout,
        settings.patience,
    )


def read_interactions(
    spec: ReadSpec,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    before: Callable[[Counted], None] = lambda _: None,
) -> Chosen:
    """Read from where `spec` says; `before` is told how much it is before it is read, where that can be told.

    Only UnreachableError (nothing answers at the warehouse's address) leads to the file: a wrong
    password, a held lock, a query that fails or gives nothing are for a person to see.
    """
    query = sql.read_query(spec.query) if spec.query is not None else None
    file_first = spec.source == "auto" and spec.input is not None and settings.warehouse is None
    if spec.source == "file" or file_first:
        return _from_file(spec, progress, before)
    try:
        warehouse = open_warehouse(settings)
    except UnreachableError as error:
        if spec.input is None:
            raise
        note = f"{error}: read {spec.input} instead"
        say(note)
        return _from_file(spec, progress, before, (note,))
    with warehouse:
        notes: tuple[str, ...] = ()
        if query is None and warehouse.embedded and is_empty(warehouse):
            say(f"the embedded warehouse at {warehouse.address} is empty: loading the MovieLens sample")
            load_sample(warehouse)
            notes = ("the MovieLens sample was loaded into the empty embedded warehouse",)
        asked = interactions_query(warehouse, query)
        # A query's names are fixed (the batch job asks it for them too); --user-column and its like
        # are the file's.
        names = Columns(user="user_id", item="item_id")
        read = read_warehouse(
            warehouse, asked, names, spec.on_bad_rows, progress, lambda n: before(_counted(warehouse, asked, n))
        )
        return Chosen(read, "warehouse", warehouse.address, asked, notes)


def _counted(warehouse: Warehouse, query: sql.Sql, n_rows: int) -> Counted:
    """More than the rows only where these are many: of few it does not matter, and asking takes as long as reading."""
    return count_warehouse(warehouse, query, n_rows) if n_rows >= _MANY else Counted(n_rows)


def _from_file(
    spec: ReadSpec,
    progress: Callable[[int, int | None], None],
    before: Callable[[Counted], None],
    notes: tuple[str, ...] = (),
) -> Chosen:
    assert spec.input is not None  # noqa: S101 (ReadSpec and the callers see to it)
    if (counted := count_file(spec.input, _columns(spec), spec.format)) is not None:
        before(counted)
    read = read_file(spec.input, _columns(spec), spec.format, spec.on_bad_rows, lambda n: progress(n, None))
    return Chosen(read, "file", str(spec.input), notes=notes, fell_back=bool(notes))


def _columns(spec: ReadSpec) -> Columns:
    return Columns(spec.user_column, spec.item_column, spec.rating_column, spec.timestamp_column)
