"""Genres that users say they like, in the log's file: for a list before they have done anything.

These functions work on the log's database, inside or outside a transaction of the caller.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.errors import ForgottenUserError, InvalidInteractionError
from pipeline.interaction_log.columns import Columns, as_id

__all__ = ["Preference", "get", "put"]


class Preference(NamedTuple):
    """Attributes
    ----------
    user_id : as the warehouse's column has it
    genres : each once, in the order in which they were given
    at : when they were given, UTC
    """

    user_id: int | str
    genres: tuple[str, ...]
    at: datetime


def put(
    database: sqlite3.Connection, user_id: int | str, genres: Sequence[str], now_ms: int, keyed: Callable[..., bytes]
) -> Preference:
    """Keep the genres of a user; none: delete them. Needs a transaction.

    Raises InvalidInteractionError, ForgottenUserError.
    """
    (columns,) = database.execute("SELECT columns FROM log").fetchone()
    try:
        user = as_id("user", user_id, Columns.parse(columns).user)
    except ValueError as error:
        raise InvalidInteractionError(str(error), 0) from None
    if database.execute("SELECT 1 FROM forgotten WHERE digest = ?", (keyed("user", str(user)),)).fetchone():
        raise ForgottenUserError(
            "The user was forgotten: nothing was stored (rankline forget --lift takes a user back)"
        )
    kept = tuple(dict.fromkeys(genres))
    if kept:
        database.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?)", (user, json.dumps(kept), now_ms))
    else:
        database.execute("DELETE FROM preferences WHERE user_id = ?", (user,))
    return Preference(user, kept, _time(now_ms))


def get(database: sqlite3.Connection, ids: Sequence[int | str]) -> Preference | None:
    """What is kept of the user, whose id may be written in these ways; None where there is nothing."""
    found = database.execute(
        "SELECT user_id, genres, at FROM preferences WHERE user_id IN (?, ?)", (ids[0], ids[-1])
    ).fetchone()
    return None if found is None else Preference(found[0], tuple(json.loads(found[1])), _time(found[2]))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
