"""One client for ClickHouse as a server and embedded in this process."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.errors import ConnectionLostError, QueryError, ServerError, TimedOutError
from pipeline.patience import NOTHING_RAN, SAFE, Patience, repeated
from pipeline.warehouse.embedded import let_go
from pipeline.warehouse.translation import TABLE_EXISTS, translated

__all__ = ["Warehouse"]

T = TypeVar("T")
_ARROW = {
    # Strings as text, not bytes; the rest of Arrow's types as they are.
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_fixed_string_as_fixed_byte_array": 0,
}
# Statements that answer with rows, after any comments in front.
_HAS_ROWS = re.compile(
    r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*(?:SELECT|WITH|FROM|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS)\b",
    re.IGNORECASE | re.DOTALL,
)
# Statements that leave the same, done once or twice.
_SAME_TWICE = re.compile(
    r"CREATE\s+(?:DATABASE|TABLE|VIEW)\s+IF\s+NOT\s+EXISTS\b|CREATE\s+OR\s+REPLACE\s+VIEW\b"
    r"|DROP\s+(?:DATABASE|TABLE|VIEW)\s+IF\s+EXISTS\b",
    re.IGNORECASE,
)


class Warehouse:
    """A connection; use as a context manager.

    Every method raises UnreachableError, RefusedError or QueryError, with the address and without
    the password. What is safe to repeat is tried again first (`Patience`): reads, statements that leave the
    same done twice, inserts with a token; any other only where it is known that nothing ran.

    Parameters
    ----------
    path : of the embedded engine, None for a server
    another : makes a client of its own, with a short time-out, to stop a statement with
    """

    def __init__(
        self,
        client: Any,
        address: str,
        path: str | None = None,
        patience: Patience | None = None,
        another: Callable[[], Any] | None = None,
        bounded: bool = False,
    ) -> None:
        self._client = client
        self._path = path
        self._patience = patience or Patience(0)
        self._another = another
        self._bounded = bounded
        self.address = address

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self._path is not None

    @property
    def unbounded(self) -> dict[str, int]:
        """Settings for a stream that is open as long as the work it feeds: our limit on a statement is none for it."""
        return {"max_execution_time": 0} if self._bounded else {}

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the embedded engine lets go of its folder."""
        self._client.close()
        if self._path is not None:
            let_go(self._path)
            self._path = None

    def repeated(self, what: str, call: Callable[[], T]) -> T:
        """The call's result, tried again as a whole where the connection fails: for reads that hand nothing on."""
        return repeated(call, what, self._patience)

    def command(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Run a statement that returns nothing."""

        def once() -> None:
            with self._stopping(settings) as named, translated(self.address):
                self._client.command(text, parameters=dict(parameters or {}), settings=named or None)

        what = " ".join(re.findall(r"\w+", text[:200])[:2]).upper()
        repeated(once, what, self._patience, SAFE if _SAME_TWICE.match(text) else NOTHING_RAN)

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a small result."""

        def once() -> list[dict[str, Any]]:
            with translated(self.address):
                return list(self._client.query(text, parameters=dict(parameters or {})).named_results())

        return repeated(once, "a read", self._patience)

    def run(self, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Any one statement: its column names and rows, both empty where it has no result. Sent once."""
        with self._stopping({}) as named, translated(self.address):
            if not _HAS_ROWS.match(text):
                self._client.command(text, settings=named or None)
                return [], []
            result = self._client.query(text)
            return list(result.column_names), [tuple(row) for row in result.result_rows]

    def table(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The whole result as one Arrow table."""

        def once() -> pa.Table:
            with translated(self.address):
                return self._client.query_arrow(text, parameters=dict(parameters or {}), settings=dict(_ARROW))

        return repeated(once, "a read", self._patience)

    @contextmanager
    def blocks(
        self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any
    ) -> Iterator[Iterator[pa.Table]]:
        """The result as a stream of Arrow blocks: ``with warehouse.blocks(…) as blocks: …``.

        Until the first block is there the read is tried again; what breaks later raises ConnectionLostError,
        since the blocks before have been handed on: `repeated` around the whole read begins it anew.
        """
        # The embedded engine makes the whole answer before the first block: better a small one.
        packed = {"output_format_arrow_compression_method": "zstd"} if self.embedded else {}

        def opened() -> tuple[ExitStack, pa.Table | None, Iterator[Any]]:
            with ExitStack() as stack, translated(self.address):
                stream = self._client.query_arrow_stream(
                    text, parameters=dict(parameters or {}), settings={**_ARROW, **packed, **settings}
                )
                source = iter(stack.enter_context(stream))
                first = next(source, None)
                return stack.pop_all(), first, source

        stack, first, rest = repeated(opened, "a read", self._patience)
        with stack:
            # Only the reading is the warehouse's: what the caller does with the blocks fails as itself.
            yield _tables(first, rest, self.address)

    def insert(self, table: str, rows: pa.Table, token: str | None = None) -> None:
        """Append Arrow rows to ``database.table``.

        Parameters
        ----------
        token : a name for these rows, of a table with a window for such names: it takes them once, however
            often they are sent. Without one they are sent once, and who calls has to look what is there.
        """
        database, name = table.split(".")
        settings = {"insert_deduplication_token": token} if token is not None else {}

        def once() -> None:
            with self._stopping(settings) as named, translated(self.address):
                self._client.insert_arrow(name, rows, database=database, settings=named or None)

        repeated(once, f"an insert into {table}", self._patience, NOTHING_RAN if token is None else SAFE)

    def engine(self, table: str) -> str | None:
        """The table's engine, None where there is no such table."""
        database, name = table.split(".")
        found = self.rows(
            "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": database, "table": name},
        )
        return str(found[0]["engine"]) if found else None

    def ddl(self, text: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a CREATE of a table in `raw` or `analytics` whose engine the database decides.

        A `Replicated` database needs ReplicatedMergeTree, or each replica would hold other rows. A table that
        may be there already (IF NOT EXISTS), or whose name nobody else can have: after a lost answer
        that it exists means that it was made.
        """
        replicated = self.rows(
            "SELECT count() AS n FROM system.databases WHERE name IN ('raw', 'analytics') AND engine = 'Replicated'"
        )
        engine = "ReplicatedMergeTree" if replicated[0]["n"] else "MergeTree"
        lost = False

        def once() -> None:
            nonlocal lost
            try:
                self.command(text, parameters, default_table_engine=engine)
            except ConnectionLostError:
                lost = True
                raise
            except QueryError as error:
                if not (lost and error.code == TABLE_EXISTS):
                    raise

        repeated(once, "CREATE TABLE", self._patience)

    @contextmanager
    def _stopping(self, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Settings with a name for the statement, by which a server is told to end it where no answer came in time.

        A read needs no such thing: a server ends it when its connection is gone.
        """
        if self._another is None:
            yield dict(settings)
            return
        name = str(uuid.uuid4())
        try:
            yield {**settings, "query_id": name}
        except TimedOutError as error:
            raise TimedOutError(f"{error}; {self._stop(name)}") from None

    def _stop(self, query_id: str) -> str:
        """What became of a statement without an answer, in words."""
        assert self._another is not None  # noqa: S101 (the caller sees to it)
        try:
            with translated(self.address):
                client = self._another()
                try:
                    # A row for each statement that was told, which the client gives as text, or as its columns.
                    told = client.command("KILL QUERY WHERE query_id = {id:String} ASYNC", parameters={"id": query_id})
                finally:
                    client.close()
        except ServerError:
            return f"it may still be running there, as query {query_id}"
        if isinstance(told, str | list) and query_id in told:
            return "the server was told to stop it"
        return "it is not running there any more"


def _tables(first: Any, rest: Iterable[Any], address: str) -> Iterator[pa.Table]:
    """The blocks of a stream, which come as batches, as tables."""
    with translated(address):
        if first is not None:
            yield _table(first)
        for block in rest:
            yield _table(block)


def _table(block: Any) -> pa.Table:
    return block if isinstance(block, pa.Table) else pa.Table.from_batches([block])
