"""One client for ClickHouse as a server and embedded in this process."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.errors import ConnectionLostError, QueryError, ServerError, TimedOutError
from pipeline.runtime.retry import NOTHING_RAN, SAFE, RetryPolicy, retry
from pipeline.warehouse.answer import Answer, expecting
from pipeline.warehouse.embedded import close_embedded
from pipeline.warehouse.errors import TABLE_EXISTS, wrap_errors

__all__ = ["Warehouse"]

T = TypeVar("T")
# Strings as text, which older servers send as bytes otherwise. What a column holds is cast in SQL (`column_types`).
_ARROW = {"output_format_arrow_string_as_string": 1}
# Statements that answer with rows, after any comments in front.
_HAS_ROWS = re.compile(
    r"(?:\s+|(?:--|#[ !])[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*(?:SELECT|WITH|FROM|SHOW|DESC|DESCRIBE|EXPLAIN|EXISTS)\b",
    re.IGNORECASE | re.DOTALL,
)
# Statements that have the same effect if run twice.
_SAME_TWICE = re.compile(
    r"CREATE\s+(?:DATABASE|TABLE|VIEW)\s+IF\s+NOT\s+EXISTS\b|CREATE\s+OR\s+REPLACE\s+VIEW\b"
    r"|DROP\s+(?:DATABASE|TABLE|VIEW)\s+IF\s+EXISTS\b",
    re.IGNORECASE,
)


class Warehouse:
    """A connection; use as a context manager.

    Every method raises UnreachableError, RefusedError or QueryError; the message has the address and never
    the password. What is safe to repeat is tried again first (`RetryPolicy`): reads, statements that leave the
    same done twice, inserts with a token; any other only where it is known that nothing ran.

    Parameters
    ----------
    path : of the embedded engine, None for a server
    another : makes a second client with a short time-out, which stops statements
    """

    def __init__(
        self,
        client: Any,
        address: str,
        path: str | None = None,
        retry_policy: RetryPolicy | None = None,
        another: Callable[[], Any] | None = None,
        bounded: bool = False,
    ) -> None:
        self._client = client
        self._path = path
        self._retry_policy = retry_policy or RetryPolicy(0)
        self._another = another
        self._bounded = bounded
        self.address = address

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self._path is not None

    def _allowed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that the user may change: none, for a user with readonly = 1."""
        known = self._client.server_settings
        return {name: value for name, value in settings.items() if not (name in known and int(known[name].readonly))}

    @property
    def unbounded(self) -> dict[str, int]:
        """Settings for a stream that stays open while its rows are processed: no time limit of ours."""
        return {"max_execution_time": 0} if self._bounded else {}

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the embedded engine releases its folder."""
        self._client.close()
        if self._path is not None:
            close_embedded(self._path)
            self._path = None

    def retry(self, what: str, call: Callable[[], T]) -> T:
        """The result of the call, repeated as a whole if the connection fails: for reads that pass no rows on."""
        return retry(call, what, self._retry_policy)

    def command(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Run a statement that returns nothing."""

        def once() -> None:
            with self._stopping(settings) as named, wrap_errors(self.address):
                self._client.command(text, parameters=dict(parameters or {}), settings=named or None)

        what = " ".join(re.findall(r"\w+", text[:200])[:2]).upper()
        retry(once, what, self._retry_policy, SAFE if _SAME_TWICE.match(text) else NOTHING_RAN)

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a small result."""

        def once() -> list[dict[str, Any]]:
            with expecting(Answer()) as answer, wrap_errors(self.address, answer=answer):
                return list(self._client.query(text, parameters=dict(parameters or {})).named_results())

        return retry(once, "a read", self._retry_policy)

    def run(self, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run any one statement, sent once: its column names and rows, both empty if it has no result."""
        answer = Answer(stream=True)
        with self._stopping({}) as named, expecting(answer), wrap_errors(self.address, answer=answer):
            if not _HAS_ROWS.match(text):
                self._client.command(text, settings=named or None)
                return [], []
            result = self._client.query(text)
            return list(result.column_names), [tuple(row) for row in result.result_rows]

    def table(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The whole result as one Arrow table."""

        def once() -> pa.Table:
            with expecting(Answer(stream=True)) as answer, wrap_errors(self.address, answer=answer):
                return self._client.query_arrow(text, parameters=dict(parameters or {}), settings=self._allowed(_ARROW))

        return retry(once, "a read", self._retry_policy)

    @contextmanager
    def blocks(
        self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any
    ) -> Iterator[Iterator[pa.Table]]:
        """The result as a stream of Arrow blocks: ``with warehouse.blocks(…) as blocks: …``.

        Until the first block arrives the read is tried again. A later failure raises ConnectionLostError, since
        the caller has earlier blocks already; `retry` around the whole read starts it again. Settings that the user
        may not change are left out.
        """
        # The embedded engine holds the whole answer before the first block, so a compact format is better.
        packed = {"output_format_arrow_compression_method": "zstd"} if self.embedded else {}

        def opened() -> tuple[ExitStack, pa.Table | None, Iterator[Any], Answer]:
            answer = Answer(stream=True)
            with ExitStack() as stack, wrap_errors(self.address, answer=answer), expecting(answer):
                stream = self._client.query_arrow_stream(
                    text, parameters=dict(parameters or {}), settings=self._allowed({**_ARROW, **packed, **settings})
                )
                source = iter(stack.enter_context(stream))
                first = next(source, None)
                return stack.pop_all(), first, source, answer

        stack, first, rest, answer = retry(opened, "a read", self._retry_policy)
        with stack:
            # Only errors of reading are wrapped; errors of the caller's own code pass unchanged.
            yield _tables(first, rest, self.address, answer)

    @contextmanager
    def blocks_by_file(self, text: str, folder: Path) -> Iterator[Iterator[pa.Table]]:
        """As `blocks`, in bounded memory: the embedded engine writes its answer to a file in `folder` first.

        The file is gone when this returns.
        """
        if not self.embedded:
            with self.blocks(text) as blocks:
                yield blocks
            return
        with tempfile.TemporaryDirectory(prefix="answer-", dir=folder) as made:
            path = Path(made) / "answer.arrow"
            target = "INSERT INTO FUNCTION file({path:String}, 'ArrowStream')"
            whole = f"{target} SELECT * FROM (\n{text}\n)"  # noqa: S608 - the text is a statement, not a value
            self.command(whole, {"path": str(path.absolute())}, **_ARROW)
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
                yield (_table(batch) for batch in batches)

    def insert(self, table: str, rows: pa.Table, token: str | None = None, **settings: Any) -> None:
        """Append Arrow rows to ``database.table``, with these settings of the statement.

        Parameters
        ----------
        token : a name for these rows, if the table has a window for insert tokens: it then takes them once, however
            often they are sent. Without a token they are sent once, and the caller checks what arrived.
        """
        database, name = table.split(".")
        if token is not None:
            settings["insert_deduplication_token"] = token
        else:
            # A table with a window would take equal rows for the same ones that are sent again. Servers since 26 have
            # another name for it, which counts more.
            new = "deduplicate_insert" in self._client.server_settings
            settings |= self._allowed({"deduplicate_insert": "disable"} if new else {"insert_deduplicate": 0})

        def once() -> None:
            with self._stopping(settings) as named, wrap_errors(self.address):
                self._client.insert_arrow(name, rows, database=database, settings=named or None)

        retry(once, f"an insert into {table}", self._retry_policy, NOTHING_RAN if token is None else SAFE)

    def engine(self, table: str) -> str | None:
        """The table's engine, None if there is no such table."""
        database, name = table.split(".")
        rows = self.rows(
            "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": database, "table": name},
        )
        return str(rows[0]["engine"]) if rows else None

    def ddl(self, text: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a CREATE TABLE in `raw` or `analytics`; the database decides the engine.

        In a `Replicated` database the engine is ReplicatedMergeTree, or each replica would hold other rows. The
        statement has IF NOT EXISTS, or a table name that nobody else uses: if the answer was lost and the table
        exists, the statement succeeded.
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

        retry(once, "CREATE TABLE", self._retry_policy)

    @contextmanager
    def _stopping(self, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Settings with a query id, by which the server is told to end the statement if no answer came in time.

        A read needs no query id: the server ends it when the connection closes.
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
            with wrap_errors(self.address):
                client = self._another()
                try:
                    # One row per statement that was told to end; the client gives it as text or as columns.
                    ended = client.command("KILL QUERY WHERE query_id = {id:String} ASYNC", parameters={"id": query_id})
                finally:
                    client.close()
        except ServerError:
            return f"it may still be running there, as query {query_id}"
        if isinstance(ended, str | list) and query_id in ended:
            return "the server was told to stop it"
        return "it is not running there any more"


def _tables(first: Any, rest: Iterable[Any], address: str, answer: Answer) -> Iterator[pa.Table]:
    """The record batches of a stream as tables."""
    with wrap_errors(address, answer=answer):
        if first is not None:
            yield _table(first)
        for block in rest:
            yield _table(block)


def _table(block: Any) -> pa.Table:
    return block if isinstance(block, pa.Table) else pa.Table.from_batches([block])
