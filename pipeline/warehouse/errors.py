"""Turns the client's errors into ours, with address and cause in one line and never the password."""

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
from pipeline.runtime.retry import AGAIN
from pipeline.warehouse.answer import Answer, AnswerTooLargeError
from pipeline.warehouse.dsn import HINT

__all__ = ["TABLE_EXISTS", "TOO_SLOW", "one_line", "wrap_errors"]

TABLE_EXISTS = 57
TOO_SLOW = 159
_REFUSALS = {
    164: "its user may only read (its setting readonly)",
    192: "unknown user",
    193: "wrong password",
    194: "a password is required",
    497: "a grant is missing",
    516: "wrong user or password",
}
# The server did nothing and may have time later: too many queries at once, or overload.
_BUSY = {202, 439, 745}
# It is unknown whether the statement ran: time-outs and broken connections between servers, too many
# parts, Keeper away, an insert whose status is unknown.
_UNKNOWN = {209, 210, 225, 242, 252, 319, 999}
# HTTP statuses of a proxy that waits for a server.
_LATER = (429, 502, 503, 504)
_STATUS = re.compile(r"received HTTP status (\d+)")


@contextmanager
def wrap_errors(address: str, opening: bool = False, answer: Answer | None = None) -> Iterator[None]:
    """Raise the client's errors in the block as ours.

    Parameters
    ----------
    opening : for the first request to the address
    answer : of the server, which may hold its own error where rows should be
    """
    import urllib3.exceptions as http
    from clickhouse_connect.driver import exceptions as client

    try:
        yield
    except (client.ClickHouseError, http.HTTPError, pa.ArrowInvalid, OSError) as error:
        written = answer.error if answer is not None else None
        if written is not None and getattr(error, "code", None) is None:
            made = _of_server(ServerError(written[1]), address, written[0])
        else:
            made = _translation(error, address, opening)
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
        reason = _reason(chain)
        plain = "; a port that speaks no TLS wants clickhouse://" if "wrong version" in reason.lower() else ""
        return RefusedError(f"The warehouse at {address} failed the TLS handshake ({reason}). {HINT}{plain}")
    code = getattr(error, "code", None)
    if too_large := [cause for cause in chain if isinstance(cause, AnswerTooLargeError)]:
        if opening:
            return RefusedError(f"What answers at {address} is no ClickHouse HTTP port ({too_large[0]}). {HINT}")
        return QueryError(f"The warehouse at {address} gave no usable answer ({too_large[0]})")
    broken = (http.ProtocolError, http.IncompleteRead, ConnectionError, pa.ArrowInvalid)
    if any(isinstance(cause, broken) for cause in chain) and code is None:
        return ConnectionLostError(f"The connection to the warehouse at {address} broke ({_reason(chain)}){AGAIN}")
    if opening and code is None and _status(error) not in _LATER:
        return RefusedError(f"What answers at {address} is no ClickHouse HTTP port ({one_line(error)}). {HINT}")
    return _of_server(error, address, code)


def _of_server(error: Exception, address: str, code: int | None) -> ServerError:
    """The server's own error, by its number, or by the HTTP status of what answers in its place."""
    status = _status(error) if code is None else None
    if code in _REFUSALS:
        return RefusedError(f"The warehouse at {address} refused: {_REFUSALS[code]} ({one_line(error)}). {HINT}")
    if code in _BUSY or status == 429:
        made: QueryError = BusyError(f"The warehouse at {address} has no time just now ({one_line(error)}){AGAIN}")
    elif code in _UNKNOWN or status in _LATER[1:]:
        made = ConnectionLostError(f"The warehouse at {address} is not ready ({one_line(error)}){AGAIN}")
    elif code == TOO_SLOW:
        made = QueryError(
            f"The warehouse at {address} worked on one statement for longer than RANKLINE_QUERY_TIMEOUT (seconds) "
            f"allows: {one_line(error)}"
        )
    else:
        made = QueryError(f"The warehouse at {address} could not run the query: {one_line(error)}")
    made.code = code
    return made


def _status(error: Exception) -> int | None:
    """The HTTP status, if something other than ClickHouse answered."""
    match = _STATUS.search(str(error)) if getattr(error, "code", None) is None else None
    return int(match[1]) if match else None


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
    # If a chunk's length is missing, the library raises ValueError.
    short = (http.InvalidChunkLength, http.IncompleteRead, pa.ArrowInvalid, ValueError)
    if any(isinstance(cause, short) for cause in chain):
        return "the answer ended too soon"
    return one_line(chain[-1])


def one_line(error: BaseException, limit: int = 300) -> str:
    """The error's text without line breaks, not longer than `limit` characters."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    # The message is one line: it leaves out the engine's version and the full statement.
    text = re.sub(r"\s*\(version [^)]*\)", "", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
