"""Shipping: a log's interactions go to raw.ratings (with a rating) and raw.watched_movies (without), each once.

A shipment's bounds are fixed in the log before anything is sent, and its row in the ledger is written after its rows.
A process that is killed in between leaves a shipment open. The next one sends it again under the same tokens, which
the tables recognise, unless the ledger has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.data.sources.warehouse import init
from pipeline.errors import InputError, QueryError
from pipeline.interaction_log import Columns, InteractionLog, Logged, Shipment
from pipeline.interaction_log.columns import as_id
from pipeline.publishing.suppressed_users import SuppressedUsers, read_suppressed_users
from pipeline.runtime.file_lock import FileLock
from pipeline.shipping.exposures import OUTCOMES, has_row
from pipeline.shipping.ledger import LEDGER, record, watermark
from pipeline.warehouse import Warehouse, sql

__all__ = ["RATINGS", "WATCHED", "Shipped", "is_there", "raw_columns", "ship", "shipping_lock"]

RATINGS, WATCHED = "raw.ratings", "raw.watched_movies"
_AT = {RATINGS: "rated_at", WATCHED: "watched_at"}
_LOCK_SECONDS = 60.0
_MOST = 10_000  # interactions of a shipment


@dataclass
class Shipped:
    """What one call of `ship` sent, in rows; `last_seq` is how far the warehouse has the log now."""

    n_ratings: int = 0
    n_watched: int = 0
    n_shipments: int = 0
    n_forgotten: int = 0
    last_seq: int = 0


def shipping_lock(log: Path, say: Callable[[str], None] = lambda _: None) -> FileLock:
    """The lock under which a log is shipped, and a user's rows are deleted. Raises LockedError after a minute."""
    return FileLock(log.with_name(f"{log.name}.ship"), _LOCK_SECONDS, say=say)


def raw_columns(warehouse: Warehouse) -> Columns:
    """The types of the columns that interactions are shipped into.

    Raises InputError where a table is missing, can't be inserted into once, or has columns that a log can't fill.
    """
    tables = {f"raw.{row['name']}": row for row in warehouse.rows(sql.load("queries/raw_tables").text)}
    for name in (RATINGS, WATCHED, LEDGER):
        if name not in tables:
            raise InputError(f"{name} is not in {warehouse.address}: rankline init makes it")
        if not str(tables[name]["engine"]).endswith("MergeTree"):
            raise InputError(f"{name} in {warehouse.address} is a {tables[name]['engine']}, no table to ship into")
        if not tables[name]["recognises"]:
            raise InputError(f"{name} in {warehouse.address} does not recognise what is sent again: run rankline init")
    types = dict(tables[RATINGS]["types"])
    if absent := [name for name in _needed() if name not in types]:
        raise InputError(f"{', '.join(f'raw.{name}' for name in absent)} is not in {warehouse.address}")
    for name in ("user_id", "movie_id"):
        if types[f"ratings.{name}"] != types[f"watched_movies.{name}"]:
            raise InputError(
                f"{name} is {types[f'ratings.{name}']} in {RATINGS} and {types[f'watched_movies.{name}']} in "
                f"{WATCHED}, in {warehouse.address}: give both the same type"
            )
    return Columns(types["ratings.user_id"], types["ratings.movie_id"], types["ratings.rating"])


def _needed() -> list[str]:
    columns = {RATINGS: ("user_id", "movie_id", "rating"), WATCHED: ("user_id", "movie_id")}
    return [f"{table.removeprefix('raw.')}.{name}" for table in columns for name in (*columns[table], _AT[table])]


def ship(
    warehouse: Warehouse,
    log: InteractionLog,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    most: int = _MOST,
) -> Shipped:
    """Send everything that waits, and delete what was shipped 7 days ago. It may be stopped anywhere and run again.

    Parameters
    ----------
    most : interactions of a shipment

    Raises
    ------
    InputError
        The raw tables can't take what the log holds.
    LockedError
        Another process ships the log, or uses it.
    InteractionLogError, ServerError
        The log, or the warehouse, fails.
    """
    with shipping_lock(log.path, say):
        if warehouse.embedded:
            init(warehouse)
        columns = raw_columns(warehouse)
        log.set_columns(columns)
        arrived = watermark(warehouse).get(log.log_id, 0)
        _check_bounds(warehouse, log, arrived, say)
        sending = _Sending(warehouse, log, columns, say)
        waiting = log.pending()[0]
        while (shipment := log.next_shipment(most)) is not None:
            if shipment.last_seq > arrived:
                sending.send(shipment)
            log.mark_shipped(shipment)
            progress(sending.done.n_ratings + sending.done.n_watched, waiting)
        log.trim()
        sending.done.last_seq = log.shipped_seq()
        return sending.done


def _check_bounds(warehouse: Warehouse, log: InteractionLog, arrived: int, say: Callable[[str], None]) -> None:
    """Compare how far the ledger and the log say that the log was shipped."""
    if arrived > log.latest_seq():
        raise InputError(
            f"{warehouse.address} has interactions up to {arrived:,} of the log {log.path}, and the log ends at "
            f"{log.latest_seq():,}: an old copy of it was put back. Move the file away; a new log is made"
        )
    if arrived < log.shipped_seq():
        say(
            f"interactions of {log.path} up to {log.shipped_seq():,} went to another warehouse; {warehouse.address} "
            f"has those up to {arrived:,}"
        )


class _Sending:
    """Sends shipments one after the other."""

    def __init__(self, warehouse: Warehouse, log: InteractionLog, columns: Columns, say: Callable[[str], None]) -> None:
        self._warehouse, self._log, self._columns, self._say = warehouse, log, columns, say
        self._suppressed = read_suppressed_users(warehouse)
        self._tagged = {f"raw.{row['name']}" for row in warehouse.rows(sql.load("queries/tagged").text)}
        self._sent_before = True  # an earlier process may have sent the first shipment
        self.done = Shipped()

    def send(self, shipment: Shipment) -> None:
        """Send the rows of a shipment, and write it into the ledger."""
        rows = self._without_forgotten(self._log.rows(shipment.first_seq, shipment.last_seq))
        ratings = [row for row in rows if row.rating is not None]
        watched = [row for row in rows if row.rating is None]
        for table, part in ((RATINGS, ratings), (WATCHED, watched)):
            self._insert(table, part, f"{shipment.token}:{table}")
        self._insert_outcomes(shipment, rows)
        record(self._warehouse, shipment, len(ratings), len(watched))
        self._sent_before = False
        self.done.n_shipments += 1
        self.done.n_ratings += len(ratings)
        self.done.n_watched += len(watched)
        self._look_for_forgotten(rows)

    def _insert(self, table: str, rows: Sequence[Logged], token: str) -> None:
        if not rows:
            return
        arrow = self._arrow(table, rows)
        self._warehouse.insert(table, arrow, token=token, async_insert=0)
        # The engine notes a token before it adds the rows. If it was killed in between, it takes the token for a
        # second one, and the rows are not there.
        if self._sent_before and not is_there(self._warehouse, rows[0]):
            self._warehouse.insert(table, arrow, token=f"{token}:2", async_insert=0)
            if not is_there(self._warehouse, rows[0]):
                raise QueryError(f"{self._warehouse.address} took rows into {table}, and they are not there")

    def _insert_outcomes(self, shipment: Shipment, rows: Sequence[Logged]) -> None:
        """Send what names an answer to analytics.outcomes besides, where experiments look for it."""
        answers = self._log.answers(shipment.first_seq, shipment.last_seq)
        named = [row for row in rows if row.seq in answers]
        if not named:
            return
        if self._warehouse.engine(OUTCOMES) is None:
            raise InputError(
                f"{OUTCOMES} is not in {self._warehouse.address}, and interactions name the answer that they follow: "
                "rankline init makes it"
            )
        arrow = _outcomes(shipment.log_id, named, answers)
        token = f"{shipment.token}:{OUTCOMES}"
        self._warehouse.insert(OUTCOMES, arrow, token=token, async_insert=0)
        if self._sent_before and not has_row(self._warehouse, OUTCOMES, shipment.log_id, named[0].seq):  # as above
            self._warehouse.insert(OUTCOMES, arrow, token=f"{token}:2", async_insert=0)

    def _arrow(self, table: str, rows: Sequence[Logged]) -> pa.Table:
        columns: dict[str, Any] = {
            "user_id": self._ids("user", [row.user_id for row in rows], self._columns.user),
            "movie_id": self._ids("item", [row.item_id for row in rows], self._columns.item),
        }
        if table == RATINGS:
            columns["rating"] = pa.array([row.rating for row in rows], pa.float64())
        columns[_AT[table]] = pa.array([row.at for row in rows], pa.timestamp("ms", "UTC"))
        if table in self._tagged:  # else of an older version, or the user's own: other hosts then don't find them
            columns["sent_log_id"] = pa.repeat(self._log.log_id, len(rows))
            columns["sent_seq"] = pa.array([row.seq for row in rows], pa.uint64())
        return pa.table(columns)

    def _ids(self, name: str, ids: Sequence[int | str], kind: str) -> list[int | str]:
        """The ids as the column has them, which may be of another type than when they were logged."""
        try:
            return [as_id(name, value, kind) for value in ids]
        except ValueError as error:
            raise InputError(
                f"The interaction log {self._log.path} holds an id that {self._warehouse.address} can't take: {error}. "
                f"Nothing of it was shipped; give the raw tables columns that hold it"
            ) from None

    def _without_forgotten(self, rows: Sequence[Logged]) -> list[Logged]:
        """The rows without those of users whom the warehouse has as forgotten; the log forgets them, too."""
        gone = _forgotten_of(rows, self._suppressed)
        for user in gone:
            self._log.forget(user)
        self.done.n_forgotten += len(gone)
        return [row for row in rows if row.user_id not in gone]

    def _look_for_forgotten(self, rows: Sequence[Logged]) -> None:
        """Say so where a user was forgotten, on another machine, while their rows were on the way."""
        before, self._suppressed = self._suppressed, read_suppressed_users(self._warehouse)
        if len(self._suppressed) != len(before) and self._without_forgotten(rows) != list(rows):
            self._say(
                "a user was forgotten while their interactions were on the way: run rankline forget --again --yes"
            )


def is_there(warehouse: Warehouse, row: Logged) -> bool:
    """Whether the raw tables have the interaction. Raises QueryError where the table is missing."""
    table = WATCHED if row.rating is None else RATINGS
    at_ms = round((row.at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    parameters = {
        "table": table.removeprefix("raw."),
        "at_column": _AT[table],
        "user_id": str(row.user_id),
        "movie_id": str(row.item_id),
        "at": at_ms,
    }
    return bool(warehouse.rows(sql.load("queries/interaction_there").text, parameters)[0]["n"])


def _forgotten_of(rows: Sequence[Logged], suppressed: SuppressedUsers) -> set[int | str]:
    return {user for user in {row.user_id for row in rows} if user in suppressed} if suppressed else set()


def _outcomes(log_id: str, rows: Sequence[Logged], answers: Mapping[int, str]) -> pa.Table:
    return pa.table(
        {
            "request_id": [answers[row.seq] for row in rows],
            "user_id": [str(row.user_id) for row in rows],
            "item_id": [str(row.item_id) for row in rows],
            "rating": pa.array([row.rating for row in rows], pa.float32()),
            "at": pa.array([row.at for row in rows], pa.timestamp("ms", "UTC")),
            "log_id": pa.repeat(log_id, len(rows)),
            "seq": pa.array([row.seq for row in rows], pa.uint64()),
        }
    )
