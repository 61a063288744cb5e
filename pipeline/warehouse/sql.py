"""Loads SQL files by name, and wraps queries in other queries."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.runtime.installation import SQL

__all__ = [
    "Sql",
    "count_of",
    "described",
    "few_of",
    "first_of",
    "first_times",
    "insert_seen",
    "load",
    "load_all",
    "ordered_seen",
    "over",
    "read_query",
    "selected",
    "sets_together",
    "size_of",
]

# Blanks, comments and semicolons (each a named group), quoted text, and other text.
_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|(?<!\{)\#[ !][^\n]*|/\*.*?\*/)|(?P<end>;)"""
    r"""|(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|[^\s;'"`/\-\#$]+|.""",
    re.DOTALL,
)
# The client sets the format: Arrow. Settings may stand on either side of it.
_FORMAT = re.compile(r"\bFORMAT\s+(?!(?:ASC|DESC|SETTINGS)\b)\w+(?=\s*\Z|\s+SETTINGS\b)", re.IGNORECASE)
_TEMPLATE = re.compile(r"\{[{%#]")


@dataclass(frozen=True)
class Sql:
    """One statement.

    Attributes
    ----------
    text : without the comments around it and the closing semicolon, so that it can be wrapped
    name : its name in messages
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
        if token["end"]:
            ended = start is not None
        elif not token["blank"]:
            if ended:
                raise InputError(f"{name} holds more than one statement; write one SELECT")
            start = token.start() if start is None else start
            end = token.end()
    if start is None:
        raise InputError(f"{name} holds no statement")
    return Sql(text[start:end], name)


def _without_quotes(text: str) -> str:
    """The text with blanks in place of comments and of what is quoted, as long as before."""
    return _TOKEN.sub(lambda token: " " * len(token[0]) if token["blank"] or token["quoted"] else token[0], text)


def load(name: str) -> Sql:
    """The statement of ``sql/<name>.sql``, e.g. ``queries/interactions``."""
    return _statement((SQL / f"{name}.sql").read_text(encoding="utf-8"), f"sql/{name}.sql")


def load_all(folder: str) -> list[Sql]:
    """Every numbered statement of ``sql/<folder>/``, in the order of the file names."""
    return [load(f"{folder}/{path.stem}") for path in sorted((SQL / folder).glob("[0-9]*.sql"))]


def read_query(path: str | Path) -> Sql:
    """A user's own query: a file with one SELECT. Raises InputError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"The query file {path} can't be read ({reason}); --query names it") from None
    if _TEMPLATE.search(_without_quotes(text)):
        raise InputError(
            f"{path} is a template of dbt or Jinja ({{{{ … }}}}): compile it first (dbt compile writes the SQL into "
            "target/compiled/) and name that file with --query"
        )
    sql = _statement(text, str(path))
    output_format = _FORMAT.search(_without_quotes(sql.text))
    if output_format is None:
        return sql
    text = sql.text[: output_format.start()] + sql.text[output_format.end() :]
    return Sql(text.rstrip(), sql.name)


def count_of(query: Sql) -> Sql:
    """The number of rows that the query gives."""
    # The user's statement is not a value, so it can't be bound as a parameter.
    return Sql(f"SELECT count() FROM (\n{query.text}\n)", f"the row count of {query.name}")  # noqa: S608


def size_of(query: Sql) -> Sql:
    """Size of an interactions query: rows, users, items, distinct pairs (to about 1 %), and the longest ids."""
    numbers = (
        "count() AS n_rows, uniq(user_id) AS n_users, uniq(item_id) AS n_items, uniq(user_id, item_id) AS n_cells, "
        "max(length(toString(user_id))) AS user_id_length, max(length(toString(item_id))) AS item_id_length"
    )
    return Sql(f"SELECT {numbers} FROM (\n{query.text}\n)", f"the size of {query.name}")  # noqa: S608


def described(query: Sql) -> Sql:
    """Names and types of the query's columns."""
    return Sql(f"DESCRIBE TABLE (\n{query.text}\n)", f"the columns of {query.name}")


def selected(query: Sql, expressions: Sequence[str]) -> Sql:
    """These expressions over the rows of the query, in their order."""
    return Sql(f"SELECT {', '.join(expressions)} FROM (\n{query.text}\n)", query.name)  # noqa: S608


def first_of(query: Sql) -> Sql:
    """One row of the query."""
    return Sql(f"SELECT * FROM (\n{query.text}\n) LIMIT 1", query.name)  # noqa: S608


def few_of(query: Sql, limit: int) -> Sql:
    """The first rows of a query, each with the total number of rows in `n_offending`."""
    return Sql(f"SELECT *, count() OVER () AS n_offending FROM (\n{query.text}\n) LIMIT {limit:d}", query.name)  # noqa: S608


def ordered_seen(query: Sql, user: str, item: str) -> Sql:
    """The distinct pairs of user and item of an interactions query, by user.

    Text sorts by its bytes, which is the order of an `IdMap` (ClickHouse sorts a UUID in another order).

    Parameters
    ----------
    user, item : expressions for the ids, of the model's types (`column_types.id_as`); pairs with NULL are left out
    """
    text = (
        f"SELECT DISTINCT assumeNotNull({user}) AS u, assumeNotNull({item}) AS i FROM (\n{query.text}\n) "  # noqa: S608
        f"WHERE {user} IS NOT NULL AND {item} IS NOT NULL ORDER BY u, i"
    )
    return Sql(text, f"what is seen by {query.name}")


def insert_seen(query: Sql, user: str, item: str) -> Sql:
    """The same pairs, inserted into the table `seen` (a parameter) of analytics, which sorts them."""
    pairs = ordered_seen(query, user, item)
    return Sql(f"INSERT INTO analytics.{{seen:Identifier}} {pairs.text.removesuffix(' ORDER BY u, i')}", pairs.name)


def first_times(query: Sql, user: str, item: str, at: str) -> Sql:
    """Each pair of user and item of a query once (user_id, item_id), with its first time (at_ms, since 1970).

    Parameters
    ----------
    user, item : expressions for the ids (`column_types.id_as`)
    at : an expression for a DateTime64 (`column_types.time_as`); rows where one of the three is NULL are left out
    """
    text = (
        "SELECT assumeNotNull(u) AS user_id, assumeNotNull(i) AS item_id, "  # noqa: S608
        "toUnixTimestamp64Milli(min(assumeNotNull(t))) AS at_ms FROM "
        f"(SELECT {user} AS u, {item} AS i, {at} AS t FROM (\n{query.text}\n)) "
        "WHERE u IS NOT NULL AND i IS NOT NULL AND t IS NOT NULL GROUP BY user_id, item_id"
    )
    return Sql(text, query.name)


def over(statement: Sql, inputs: Mapping[str, Sql]) -> Sql:
    """A statement over queries that it knows by these names, as if they were tables."""
    named = ", ".join(f"{name} AS (\n{query.text}\n)" for name, query in inputs.items())
    return Sql(f"WITH {named} SELECT * FROM (\n{statement.text}\n)", statement.name)  # noqa: S608


def sets_together(n: int) -> Sql:
    """The rows of n published sets, whose tables are the parameters table0, table1, …, each with its time."""
    one = (
        "SELECT user_id, rank, item_id, toUnixTimestamp64Milli(generated_at) AS set_ms "
        "FROM analytics.{{table{number}:Identifier}}"
    )
    return Sql("\nUNION ALL\n".join(one.format(number=number) for number in range(n)), "published sets")
