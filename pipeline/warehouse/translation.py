"""The client's errors as ours: address and cause in one line, never the password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pipeline.errors import (
    BusyError,
    ConnectionLostError,
    QueryError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnreachableError,
)
from pipeline.patience import AGAIN
from pipeline.warehouse.address import HINT

__all__ = ["TABLE_EXISTS", "one_line", "translated"]

TABLE_EXISTS = 57
_TOO_SLOW = 159
_REFUSALS = {
    192: "unknown user",
    193: "wrong password",
    194: "a password is required",
    497: "a grant is missing",
    516: "wrong user or password",
}
# It did nothing, and may have time later: too many queries at once, overloaded.
_BUSY = {202, 439, 745}
# Whether it did anything is not known: time-outs and broken connections between servers, too many
# parts, Keeper away, an insert whose status is unknown.
_UNKNOWN = {209, 210, 225, 242, 252, 319, 999}
_STATUS = re.compile(r"received HTTP status (\d+)")


@contextmanager
def translated(address: str, opening: bool = False) -> Iterator[None]:
    """Raise the client's errors in the block as ours; `opening`: the first thing asked at the address."""
    import urllib3.exceptions as http
    from clickhouse_connect.driver import exceptions as client

    try:
        yield
    except (client.ClickHouseError, http.HTTPError, pa.ArrowInvalid, OSError) as error:
        made = _translation(error, address, opening)
        if isinstance(made, QueryError):
            made.code = getattr(error, "code", None)
        raise made from None


def _translation(error: Exception, address: str, opening: bool) -> ServerError:
    import urllib3.exceptions as http

    chain = list(_causes(error))
    silent = (http.NewConnectionError, http.ConnectTimeoutError, ConnectionRefusedError)
    if any(isinstance(cause, silent) for cause in chain):
        return UnreachableError(f"No warehouse answers at {address} ({_reason(chain)}). {HINT}")
    if any(isinstance(cause, http.ReadTimeoutError | TimeoutError) for cause in chain):
        if opening:
            return UnreachableError(f"The warehouse at {address} does not answer in time. {HINT}")
        return TimedOutError(
            f"The warehouse at {address} did not answer in time; RANKLINE_READ_TIMEOUT (seconds) allows more"
        )
    if any(isinstance(cause, http.SSLError) for cause in chain):
        return RefusedError(f"The warehouse at {address} failed the TLS handshake ({_reason(chain)}). {HINT}")
    code, status = getattr(error, "code", None), _status(error)
    if code in _REFUSALS:
        return RefusedError(f"The warehouse at {address} refused: {_REFUSALS[code]} ({one_line(error)}). {HINT}")
    if code == _TOO_SLOW:
        return QueryError(
            f"The warehouse at {address} worked on one statement for longer than RANKLINE_QUERY_TIMEOUT (seconds) "
            f"allows: {one_line(error)}"
        )
    if code in _BUSY or status == 429:
        return BusyError(f"The warehouse at {address} has no time just now ({one_line(error)}){AGAIN}")
    if code in _UNKNOWN or status in (502, 503, 504):
        return ConnectionLostError(f"The warehouse at {address} is not ready ({one_line(error)}){AGAIN}")
    broken = (http.ProtocolError, http.IncompleteRead, ConnectionError, pa.ArrowInvalid)
    if any(isinstance(cause, broken) for cause in chain) and code is None:
        return ConnectionLostError(f"The connection to the warehouse at {address} broke ({_reason(chain)}){AGAIN}")
    if opening and code is None:
        return RefusedError(f"What answers at {address} is no ClickHouse HTTP port ({one_line(error)}). {HINT}")
    return QueryError(f"The warehouse at {address} could not run the query: {one_line(error)}")


def _status(error: Exception) -> int | None:
    """The HTTP status, where something other than ClickHouse answered."""
    found = _STATUS.search(str(error)) if getattr(error, "code", None) is None else None
    return int(found[1]) if found else None


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
    import urllib3.exceptions as http

    system = [cause for cause in chain if isinstance(cause, OSError) and cause.strerror]
    if system:
        return str(system[-1].strerror).lower()
    # A chunk's length that never came is a ValueError to the library.
    short = (http.InvalidChunkLength, http.IncompleteRead, pa.ArrowInvalid, ValueError)
    if any(isinstance(cause, short) for cause in chain):
        return "the answer ended too soon"
    return one_line(chain[-1])


def one_line(error: BaseException, limit: int = 300) -> str:
    """The error's text without line breaks, not longer than `limit` characters."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    # The engine's version and the full statement help nobody who reads one line.
    text = re.sub(r"\s*\(version [^)]*\)", "", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
