"""The file that an address of SQLAlchemy's for SQLite names."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["sqlite_path"]

# sqlite:///relative.db, sqlite:////absolute.db, sqlite+pysqlite:///…, with options behind a question mark.
_ADDRESS = re.compile(r"sqlite(?:\+\w+)?:///(?P<name>[^?]+)(?:\?(?P<options>.*))?", re.DOTALL)


def sqlite_path(uri: str) -> Path | None:
    """The path of the SQLite file without the address's options; None for every other address, and in memory."""
    address = _ADDRESS.fullmatch(uri)
    if address is None:
        return None
    name, options = address["name"], f"&{address['options'] or ''}&"
    if "&uri=true&" in options:  # SQLite's own addresses: sqlite:///file:/folder/name.db?uri=true
        name = name.removeprefix("file:")
    return None if name == ":memory:" or "&mode=memory&" in options else Path(name).resolve()
