"""``RANKLINE_WAREHOUSE`` taken apart; what of it a message may show."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from pipeline.errors import UsageError

__all__ = ["HINT", "address_of", "port_of", "split"]

HINT = "RANKLINE_WAREHOUSE names it"


def split(dsn: str) -> SplitResult:
    """The parts of a DSN. Raises UsageError, which repeats nothing that may be a password."""
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


def port_of(parts: SplitResult) -> int:
    """The server's port, ClickHouse's own where none is given."""
    return parts.port or (8443 if parts.scheme == "clickhouses" else 8123)


def address_of(dsn: str) -> str:
    """The DSN without user, password and options: what a message may show."""
    parts = split(dsn)
    if parts.scheme == "chdb":
        return f"chdb://{parts.path}"
    return f"{parts.scheme}://{parts.hostname}:{port_of(parts)}"
