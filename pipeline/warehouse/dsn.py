"""Parses ``RANKLINE_WAREHOUSE``, and gives the parts of it that a message may show."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from pipeline.errors import UsageError

__all__ = ["HINT", "address_of", "port_of", "split"]

HINT = "RANKLINE_WAREHOUSE names it"


def split(dsn: str) -> SplitResult:
    """The parts of a DSN. Raises UsageError; the message has no part that may be a password."""
    if dsn.startswith("chdb://"):
        # The path is not parsed: a folder may be called c#.
        return SplitResult("chdb", "", dsn.removeprefix("chdb://"), "", "")
    try:
        parts = urlsplit(dsn)
        _ = parts.port
    except ValueError:
        # The message leaves the text out: it may hold a password.
        raise UsageError("RANKLINE_WAREHOUSE is no valid address; write clickhouse://user:password@host:8123") from None
    if parts.scheme not in ("chdb", "clickhouse", "clickhouses"):
        raise UsageError(
            "RANKLINE_WAREHOUSE must begin with chdb:///, clickhouse:// or clickhouses:// "
            # Without "//" the text before the colon may be a user name.
            f"(found {parts.scheme + '://' if dsn.startswith(parts.scheme + '://') else 'no scheme'})"
        )
    if parts.scheme != "chdb" and "@" in parts.path + parts.query + parts.fragment:
        # The text before the / would be read as host and port, and shown.
        raise UsageError("RANKLINE_WAREHOUSE: write / ? # and @ in a user or password as %2F %3F %23 and %40")
    if parts.scheme != "chdb" and not parts.hostname:
        raise UsageError("RANKLINE_WAREHOUSE names no host; write clickhouse://user:password@host:8123")
    return parts


def port_of(parts: SplitResult) -> int:
    """The server's port, ClickHouse's default port if none is given."""
    return parts.port or (8443 if parts.scheme == "clickhouses" else 8123)


def address_of(dsn: str, with_database: bool = False) -> str:
    """The DSN without user, password and options: what a message may show; of a server with the database, if asked."""
    parts = split(dsn)
    if parts.scheme == "chdb":
        return f"chdb://{parts.path}"
    database = f"/{unquote(parts.path.strip('/'))}" if with_database and parts.path.strip("/") else ""
    return f"{parts.scheme}://{parts.hostname}:{port_of(parts)}{database}"
