"""SQL files by name, and the two ways a query is wrapped."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

__all__ = [
    "Sql",
    "count_of",
    "few_of",
    "insert_seen",
    "load",
    "load_all",
    "none_of",
    "ordered_seen",
    "read_query",
    "size_of",
]

_FOLDER = Path(__file__).resolve().parents[1] / "sql"
# Blanks, comments and semicolons (named by their group), quoted text, and all else.
_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/)|(?P<end>;)|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`"""
    r"""|[^\s;'"`/-]+|.""",
    re.DOTALL,
)
# The format is the client's to choose: it asks for Arrow.
_FORMAT = re.compile(r"\bFORMAT\s+(?!ASC\Z|DESC\Z)\w+\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Sql:
    """One statement.

    Attributes
    ----------
    text : without the comments around it and the closing semicolon, so that it can be wrapped
    name : what to call it in a message
    """

    text: str
    name: str

    @property
    def digest(self) -> str:
        """sha256 of the statement."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def _statement(text: str, name: str) -> Sql:
    start = end = None
    ended = False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "end":
            ended = start is not None
        elif token.lastgroup != "blank":
            if ended:
                raise InputError(f"{name} holds more than one statement; write one SELECT")
            start = token.start() if start is None else start
            end = token.end()
    if start is None:
        raise InputError(f"{name} holds no statement")
    return Sql(text[start:end], name)


def load(name: str) -> Sql:
    """The statement of ``sql/<name>.sql``, e.g. ``queries/interactions``."""
    return _statement((_FOLDER / f"{name}.sql").read_text(encoding="utf-8"), f"sql/{name}.sql")


def load_all(folder: str) -> list[Sql]:
    """Every numbered statement of ``sql/<folder>/``, in the order of the file names."""
    return [load(f"{folder}/{path.stem}") for path in sorted((_FOLDER / folder).glob("[0-9]*.sql"))]


def read_query(path: str | Path) -> Sql:
    """A user's own query: a file with one SELECT. Raises InputError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"The query file {path} can't be read ({reason}); --query names it") from None
    sql = _statement(text, str(path))
    return Sql(_FORMAT.sub("", sql.text).rstrip(), sql.name)


def count_of(query: Sql) -> Sql:
    """The number of rows that the query gives."""
    # The user's own statement, not a value: there is nothing to bind.
    return Sql(f"SELECT count() FROM (\n{query.text}\n)", f"the row count of {query.name}")  # noqa: S608


def size_of(query: Sql) -> Sql:
    """The numbers of an interactions query: rows, users, items and pairs of both (to some 1 %), and the longest ids."""
    numbers = (
        "count() AS n_rows, uniq(user_id) AS n_users, uniq(item_id) AS n_items, uniq(user_id, item_id) AS n_cells, "
        "max(length(toString(user_id))) AS user_id_length, max(length(toString(item_id))) AS item_id_length"
    )
    return Sql(f"SELECT {numbers} FROM (\n{query.text}\n)", f"the size of {query.name}")  # noqa: S608


def none_of(query: Sql) -> Sql:
    """The query's columns, without rows."""
    return Sql(f"SELECT * FROM (\n{query.text}\n) LIMIT 0", query.name)  # noqa: S608


def few_of(query: Sql, limit: int) -> Sql:
    """The first rows of a query, each with the number of all in `n_offending`."""
    return Sql(f"SELECT *, count() OVER () AS n_offending FROM (\n{query.text}\n) LIMIT {limit:d}", query.name)  # noqa: S608


def ordered_seen(query: Sql, user_kind: str, item_kind: str) -> Sql:
    """The distinct pairs of user and item of an interactions query, by user, as the model's kinds of id.

    Text sorts by its bytes, which is the order of an `IdMap` (ClickHouse sorts a UUID otherwise); an
    id that is no integer is none of a model whose ids are integers.
    """
    user, item = (
        f"toString({name})" if kind == "str" else f"accurateCastOrNull({name}, 'Int64')"
        for name, kind in (("user_id", user_kind), ("item_id", item_kind))
    )
    text = (
        f"SELECT DISTINCT assumeNotNull({user}) AS u, assumeNotNull({item}) AS i FROM (\n{query.text}\n) "  # noqa: S608
        f"WHERE {user} IS NOT NULL AND {item} IS NOT NULL ORDER BY u, i"
    )
    return Sql(text, f"what is seen by {query.name}")


def insert_seen(query: Sql, user_kind: str, item_kind: str) -> Sql:
    """The same pairs, into the table that the parameter `seen` names in analytics; it puts them in order."""
    pairs = ordered_seen(query, user_kind, item_kind)
    return Sql(f"INSERT INTO analytics.{{seen:Identifier}} {pairs.text.removesuffix(' ORDER BY u, i')}", pairs.name)
