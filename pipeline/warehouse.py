"""One client for ClickHouse as a server and embedded in this process."""

from __future__ import annotations

import fcntl
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pyarrow as pa

from pipeline.errors import (
    ConnectionLostError,
    LockedError,
    QueryError,
    RefusedError,
    ServerError,
    UnreachableError,
    UsageError,
)

__all__ = ["Warehouse", "address_of", "connect"]

_HINT = "RANKLINE_WAREHOUSE names it"
_REFUSALS = {
    192: "unknown user",
    193: "wrong password",
    194: "a password is required",
    497: "a grant is missing",
    516: "wrong user or password",
}
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


@dataclass
class _Held:
    """A folder that this process has: the open lock file, and how many clients use it."""

    lock: IO[str]
    clients: int = 1


# Paths whose engine runs in this process: one lock for all its clients.
_open_here: dict[str, _Held] = {}


def _split(dsn: str) -> SplitResult:
    if dsn.startswith("chdb://"):
        # A path, taken as it stands: a folder may be called c#.
        return SplitResult("chdb", "", dsn.removeprefix("chdb://"), "", "")
    try:
        parts = urlsplit(dsn)
        _ = parts.port
    except ValueError:
        # The text may hold a password: it is not repeated.
        raise UsageError("RANKLINE_WAREHOUSE is no valid address; write clickhouse://user:password@host:8123") from None
    if parts.scheme not in ("chdb", "clickhouse", "clickhouses"):
        raise UsageError(
            "RANKLINE_WAREHOUSE must begin with chdb:///, clickhouse:// or clickhouses:// "
            # Without "//" what stands before the colon may be a user's name.
            f"(found {parts.scheme + '://' if dsn.startswith(parts.scheme + '://') else 'no scheme'})"
        )
    if parts.scheme != "chdb" and "@" in parts.path + parts.query + parts.fragment:
        # What stands before the / would be taken for host and port, and shown.
        raise UsageError("RANKLINE_WAREHOUSE: write / ? # and @ in a user or password as %2F %3F %23 and %40")
    if parts.scheme != "chdb" and not parts.hostname:
        raise UsageError("RANKLINE_WAREHOUSE names no host; write clickhouse://user:password@host:8123")
    return parts


def address_of(dsn: str) -> str:
    """The DSN without user, password and options: what a message may show."""
    parts = _split(dsn)
    if parts.scheme == "chdb":
        return f"chdb://{parts.path}"
    port = parts.port or (8443 if parts.scheme == "clickhouses" else 8123)
    return f"{parts.scheme}://{parts.hostname}:{port}"


class Warehouse:
    """A connection; use as a context manager.

    Every method raises UnreachableError, RefusedError or QueryError, with the address and without
    the password.
    """

    def __init__(self, client: Any, address: str, path: str | None = None) -> None:
        self._client = client
        self._path = path
        self.address = address

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self._path is not None

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the embedded engine lets go of its folder."""
        self._client.close()
        if self._path is not None:
            _let_go(self._path)
            self._path = None

    def command(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> None:
        """Run a statement that returns nothing."""
        with _translated(self.address):
            self._client.command(text, parameters=dict(parameters or {}), settings=settings or None)

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a small result."""
        with _translated(self.address):
            return list(self._client.query(text, parameters=dict(parameters or {})).named_results())

    def run(self, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Any one statement: its column names and rows, both empty where it has no result."""
        with _translated(self.address):
            if not _HAS_ROWS.match(text):
                self._client.command(text)
                return [], []
            result = self._client.query(text)
            return list(result.column_names), [tuple(row) for row in result.result_rows]

    def table(self, text: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The whole result as one Arrow table."""
        with _translated(self.address):
            return self._client.query_arrow(text, parameters=dict(parameters or {}), settings=dict(_ARROW))

    @contextmanager
    def blocks(
        self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any
    ) -> Iterator[Iterator[pa.Table]]:
        """The result as a stream of Arrow blocks: ``with warehouse.blocks(…) as blocks: …``."""
        with ExitStack() as stack:
            with _translated(self.address):
                # The embedded engine makes the whole answer before the first block: better a small one.
                packed = {"output_format_arrow_compression_method": "zstd"} if self.embedded else {}
                stream = self._client.query_arrow_stream(
                    text, parameters=dict(parameters or {}), settings={**_ARROW, **packed, **settings}
                )
                source = stack.enter_context(stream)
            # Only the reading is the warehouse's: what the caller does with the blocks fails as itself.
            yield _tables(source, self.address)

    def insert(self, table: str, rows: pa.Table, **settings: Any) -> None:
        """Append Arrow rows to ``database.table``."""
        database, name = table.split(".")
        with _translated(self.address):
            self._client.insert_arrow(name, rows, database=database, settings=settings or None)

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

        A `Replicated` database needs ReplicatedMergeTree, or each replica would hold other rows.
        """
        replicated = self.rows(
            "SELECT count() AS n FROM system.databases WHERE name IN ('raw', 'analytics') AND engine = 'Replicated'"
        )
        engine = "ReplicatedMergeTree" if replicated[0]["n"] else "MergeTree"
        self.command(text, parameters, default_table_engine=engine)


def connect(dsn: str, connect_timeout: int = 10, read_timeout: int = 300) -> Warehouse:
    """Open the warehouse and see that it answers.

    Parameters
    ----------
    dsn : ``chdb:///path``, ``clickhouse://user:password@host:8123/database`` or ``clickhouses://…``
        (TLS). Options of a server's DSN: ``verify`` (0 or 1) and ``ca_cert`` (a path).
    connect_timeout, read_timeout : seconds

    Raises
    ------
    UnreachableError
        Nothing answers at the address.
    RefusedError, QueryError
        Something answers, and does not let us in.
    LockedError
        Another process has the embedded warehouse open.
    """
    parts = _split(dsn)
    address = address_of(dsn)
    if parts.scheme == "chdb":
        return _connect_embedded(parts, address)
    import clickhouse_connect

    # It logs the traceback of what is raised anyway, and translated below.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    known = {"verify", "ca_cert"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - known):
        raise UsageError(f"RANKLINE_WAREHOUSE has unknown option(s) {unknown}; known: {sorted(known)}")
    tls = parts.scheme == "clickhouses"
    with _translated(address, opening=True):
        client = clickhouse_connect.get_client(
            # The client's own DSN parser knows no TLS scheme and would send the password in clear.
            interface="https" if tls else "http",
            host=parts.hostname,
            port=parts.port or (8443 if tls else 8123),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else "",
            database=unquote(parts.path.strip("/")) or None,
            verify=options.get("verify", "1") not in ("0", "false"),
            ca_cert=options.get("ca_cert"),
            connect_timeout=connect_timeout,
            send_receive_timeout=read_timeout,
            client_name="rankline",
            show_clickhouse_errors="scrub",
            # Sessions would refuse a second query while a stream is read.
            autogenerate_session_id=False,
        )
    return Warehouse(client, address)


def _connect_embedded(parts: SplitResult, address: str) -> Warehouse:
    from importlib.util import find_spec

    if find_spec("chdb") is None:
        raise RefusedError(f"The embedded warehouse at {address} needs chdb: pip install 'rankline[embedded]'. {_HINT}")
    folder = Path(parts.path)
    if not folder.name:
        raise UsageError("RANKLINE_WAREHOUSE names no folder; write chdb:///path/to/warehouse")
    path = str(folder.resolve())
    _hold(folder, path, address)
    import clickhouse_connect

    try:
        client = clickhouse_connect.get_client(interface="chdb", path=path)
    except Exception as error:  # noqa: BLE001 (the engine raises whatever its C++ does)
        _let_go(path)
        raise RefusedError(
            f"The embedded warehouse at {address} can't be opened ({_one_line(error)}). {_HINT}"
        ) from None
    return Warehouse(client, address, path)


def _tables(blocks: Iterable[Any], address: str) -> Iterator[pa.Table]:
    """The blocks of a stream, which come as batches, as tables."""
    with _translated(address):
        for block in blocks:
            yield block if isinstance(block, pa.Table) else pa.Table.from_batches([block])


def _in_use(address: str) -> LockedError:
    return LockedError(
        f"The embedded warehouse at {address} is in use by another process: wait for it to end, "
        "or set RANKLINE_WAREHOUSE to a ClickHouse server, which serves many at once"
    )


def _hold(folder: Path, path: str, address: str) -> None:
    """Take the folder for this process, or raise LockedError.

    Two locks: one of our own, held while any client here is open, so that two starts at once can't
    both fail over the engine's; and a look at the engine's, which another program may hold.
    """
    if path in _open_here:
        _open_here[path].clients += 1
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".rankline.lock").open("a")
    except OSError as error:
        raise RefusedError(f"The embedded warehouse at {address} can't be opened ({error.strerror}). {_HINT}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError), (folder / "status").open("rb") as engine:
            fcntl.flock(engine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise _in_use(address) from None
    _open_here[path] = _Held(lock)


def _let_go(path: str) -> None:
    held = _open_here.get(path)
    if held is None:
        return
    held.clients -= 1
    if not held.clients:
        held.lock.close()
        del _open_here[path]


@contextmanager
def _translated(address: str, opening: bool = False) -> Iterator[None]:
    """The client's errors as ours: address and cause in one line, never the password."""
    import urllib3.exceptions as http
    from clickhouse_connect.driver import exceptions as client

    try:
        yield
    except (client.ClickHouseError, http.HTTPError, pa.ArrowInvalid, OSError) as error:
        raise _translation(error, address, opening) from None


def _translation(error: Exception, address: str, opening: bool) -> ServerError:
    import urllib3.exceptions as http

    chain = list(_causes(error))
    silent = (http.NewConnectionError, http.ConnectTimeoutError, ConnectionRefusedError)
    if any(isinstance(cause, silent) for cause in chain):
        return UnreachableError(f"No warehouse answers at {address} ({_reason(chain)}). {_HINT}")
    if any(isinstance(cause, http.ReadTimeoutError | TimeoutError) for cause in chain):
        if opening:
            return UnreachableError(f"The warehouse at {address} does not answer in time. {_HINT}")
        return ConnectionLostError(
            f"The warehouse at {address} did not answer in time; RANKLINE_READ_TIMEOUT (seconds) allows more"
        )
    if any(isinstance(cause, http.SSLError) for cause in chain):
        return RefusedError(f"The warehouse at {address} failed the TLS handshake ({_reason(chain)}). {_HINT}")
    code = getattr(error, "code", None)
    if code in _REFUSALS:
        return RefusedError(f"The warehouse at {address} refused: {_REFUSALS[code]} ({_one_line(error)}). {_HINT}")
    broken = (http.ProtocolError, http.IncompleteRead, ConnectionError, pa.ArrowInvalid)
    if any(isinstance(cause, broken) for cause in chain) and code is None:
        return ConnectionLostError(
            f"The connection to the warehouse at {address} broke ({_reason(chain)}); run the command again"
        )
    if opening and code is None:
        return RefusedError(f"What answers at {address} is no ClickHouse HTTP port ({_one_line(error)}). {_HINT}")
    return QueryError(f"The warehouse at {address} could not run the query: {_one_line(error)}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        reason = getattr(error, "reason", None)
        if isinstance(reason, BaseException):
            yield from _causes(reason)
        error = error.__cause__ or error.__context__


def _reason(chain: list[BaseException]) -> str:
    system = [cause for cause in chain if isinstance(cause, OSError) and cause.strerror]
    return str(system[-1].strerror).lower() if system else _one_line(chain[-1])


def _one_line(error: BaseException, limit: int = 300) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    # The engine's version and the full statement help nobody who reads one line.
    text = re.sub(r"\s*\(version [^)]*\)", "", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
