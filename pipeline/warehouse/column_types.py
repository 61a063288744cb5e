"""The types of a query's columns: asked of the warehouse, and cast in SQL where the answer's format would lose them.

Arrow knows no UUID on older servers, sends a Date as a number, an Enum as its code, an IPv4 and a wide integer as
bytes. So ids become text and days become times on the server, and every version sends the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from pipeline.errors import InputError, MissingColumnsError
from pipeline.warehouse.client import Warehouse
from pipeline.warehouse.sql import Sql, described

__all__ = ["column_types", "id_as", "id_kind", "quoted", "read_as", "seen_ids", "time_as"]

_WRAPPED = re.compile(r"(?:Nullable|LowCardinality|SimpleAggregateFunction)\((.*)\)", re.DOTALL)
_INTEGER = re.compile(r"U?Int(?:8|16|32|64)")
_WIDE = re.compile(r"U?Int(?:128|256)")
_NUMBER = re.compile(r"Float(?:32|64)|Decimal(?:\d+)?\(.*\)")
_TEXT = re.compile(r"(?:Fixed)?String(?:\(\d+\))?")
# Types that are shown as text and can't be taken for numbers.
_SHOWN_AS_TEXT = re.compile(r"UUID|IPv4|IPv6|Enum(?:8|16)\(.*\)", re.DOTALL)
_DAY_OR_SECOND = re.compile(r"Date|Date32|DateTime(?:\(.*\))?")
_TIME = re.compile(r"DateTime64\(.*\)")
_FIRST_DAY = 10957  # 2000-01-01: a smaller number is rather a year or a count than days since 1970
_NOTHING = "Nothing"

Kind = Literal["int", "str"]


def column_types(warehouse: Warehouse, query: Sql) -> list[tuple[str, str]]:
    """Names and types of the query's columns, in their order, as ClickHouse writes them."""
    return [(str(row["name"]), str(row["type"])) for row in warehouse.rows(described(query).text)]


def unwrapped(kind: str) -> str:
    """A type's name without Nullable, LowCardinality and SimpleAggregateFunction."""
    while match := _WRAPPED.fullmatch(kind):
        kind = match[1].split(", ", 1)[1] if kind.startswith("Simple") else match[1]
    return kind


def quoted(name: str) -> str:
    """A column's name as an identifier in SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def id_kind(name: str, kind: str) -> Kind:
    """Whether ids of the type are integers or text. Raises InputError where it is no type of an id."""
    plain = unwrapped(kind)
    if _INTEGER.fullmatch(plain) or _NUMBER.fullmatch(plain) or plain == _NOTHING:
        return "int"
    if _TEXT.fullmatch(plain) or _WIDE.fullmatch(plain) or _SHOWN_AS_TEXT.fullmatch(plain):
        return "str"
    raise InputError(
        f"Column {name!r} is {kind}, and ids are integers or text: write toString({name}) AS {name} in the query, "
        "if that names a user or an item"
    )


def id_as(name: str, kind: str, wanted: str) -> str:
    """An expression for ids of the column as integers or text (`wanted`), NULL where an id can't be one.

    Text is an integer where ClickHouse would write the integer so: not ``007``. Raises InputError where the type's
    ids are never integers, and the wanted ones are.
    """
    column, plain = quoted(name), unwrapped(kind)
    id_kind(name, kind)
    if wanted == "str":
        return f"toString({column})"
    if _SHOWN_AS_TEXT.fullmatch(plain):
        raise InputError(
            f"Column {name!r} is {kind}, whose ids are text, and the model's are integers: train it on this query, "
            "or give the ids that it was trained on"
        )
    number = f"accurateCastOrNull({column}, 'Int64')"
    if not _TEXT.fullmatch(plain):
        return number
    number = f"accurateCastOrNull(toString({column}), 'Int64')"
    return f"if(toString({number}) = toString({column}), {number}, NULL)"


def seen_ids(warehouse: Warehouse, query: Sql, user_kind: str, item_kind: str) -> tuple[str, str]:
    """Expressions for the user and the item of an interactions query, as a model has them.

    Raises InputError where there are none, or the model's ids are of another kind than the query's.
    """
    types = dict(column_types(warehouse, query))
    if missing := [name for name in ("user_id", "item_id") if name not in types]:
        raise MissingColumnsError(missing, list(types), query.name)
    return id_as("user_id", types["user_id"], user_kind), id_as("item_id", types["item_id"], item_kind)


def time_as(name: str, kind: str) -> str:
    """An expression for the times of a column as DateTime64. Raises InputError where the type is none of times."""
    plain, column = unwrapped(kind), quoted(name)
    if _TIME.fullmatch(plain):
        return column
    if _DAY_OR_SECOND.fullmatch(plain):
        return f"toDateTime64({column}, 3, 'UTC')"
    raise InputError(f"Column {name!r} is {kind}, and a time is a Date, DateTime or DateTime64: cast it in the query")


def read_as(name: str, kind: str, role: str) -> str | None:
    """How a column is read: an expression, None for the column as it is.

    Parameters
    ----------
    role : user, item, rating or timestamp

    Raises InputError where the type is none for the role.
    """
    return _READERS[role](name, kind)


def _read_id(name: str, kind: str) -> str | None:
    plain = unwrapped(kind)
    if id_kind(name, kind) == "int" or plain == "String":
        return None
    return f"toString({quoted(name)})"


def _read_score(name: str, kind: str) -> str | None:
    plain = unwrapped(kind)
    if _INTEGER.fullmatch(plain) or _NUMBER.fullmatch(plain) or plain in ("String", _NOTHING):
        return None
    if _WIDE.fullmatch(plain):
        return f"toFloat64({quoted(name)})"
    if plain == "BFloat16":
        return f"toFloat32({quoted(name)})"
    if _TEXT.fullmatch(plain):
        return f"toString({quoted(name)})"
    raise InputError(f"Column {name!r} is {kind}, and scores are numbers: cast it in the query, e.g. to Float32")


def _read_time(name: str, kind: str) -> str | None:
    plain, column = unwrapped(kind), quoted(name)
    if _DAY_OR_SECOND.fullmatch(plain):
        return f"toDateTime64({column}, 3, 'UTC')"
    if plain == "UInt16":
        # ClickHouse keeps a Date as such a number, and some servers send it so. It has no room for seconds.
        message = f"{name} is a UInt16 below {_FIRST_DAY}, no day since 2000: cast it to a Date or DateTime"
        refused = f"throwIf({column} < {_FIRST_DAY}, {_literal(message)})"
        return f"toDateTime64(toDate({column} + {refused}), 3, 'UTC')"
    if _TIME.fullmatch(plain) or plain in ("String", _NOTHING) or _NUMBER.fullmatch(plain):
        return None
    if _TEXT.fullmatch(plain):
        return f"toString({column})"
    if plain in ("Int32", "UInt32", "Int64", "UInt64"):
        return None
    raise InputError(f"Column {name!r} is {kind}, and a time is a Date, a DateTime, ISO text or a number of seconds")


def _literal(value: str) -> str:
    """A text as a literal in SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_READERS: Mapping[str, Callable[[str, str], str | None]] = {
    "user": _read_id,
    "item": _read_id,
    "rating": _read_score,
    "timestamp": _read_time,
}
