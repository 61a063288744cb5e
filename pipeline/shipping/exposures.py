"""Ships the exposure log into analytics.exposures, each exposure once.

As `pipeline.shipping.ship` does with interactions: bounds that are fixed before anything is sent, tokens that the
table recognises, and a ledger (analytics.exposure_shipments) that is written after the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.data.sources.warehouse import add_manifest, has_manifest
from pipeline.errors import InputError, QueryError
from pipeline.interaction_log import InteractionLog, Shipment
from pipeline.interaction_log.exposures import LOST, ExposureLog, LoggedExposure
from pipeline.publishing.suppressed_users import read_suppressed_users
from pipeline.publishing.table_exposures import TABLES
from pipeline.runtime.file_lock import FileLock
from pipeline.warehouse import Warehouse, sql

__all__ = ["EXPOSURES", "EXPOSURE_LEDGER", "OUTCOMES", "exposure_lock", "has_row", "make_tables", "ship_exposures"]

EXPOSURES, EXPOSURE_LEDGER, OUTCOMES = "analytics.exposures", "analytics.exposure_shipments", "analytics.outcomes"
_LOCK_SECONDS = 60.0
_MOST = 10_000  # of a shipment


def exposure_lock(log: Path, say: Callable[[str], None] = lambda _: None) -> FileLock:
    """The lock under which a log is shipped, and a user's exposures are deleted. Raises LockedError after a minute."""
    return FileLock(log.with_name(f"{log.name}.ship"), _LOCK_SECONDS, say=say)


def make_tables(warehouse: Warehouse) -> None:
    """Make the tables of experiments where they are missing. Raises RefusedError without the right to."""
    for name in TABLES:
        warehouse.ddl(sql.load(name).text)
    if warehouse.embedded:  # of a server `rankline init` does it, which may need another user's right
        add_manifest(warehouse)


def ship_exposures(
    warehouse: Warehouse,
    log: ExposureLog,
    interactions: InteractionLog | None = None,
    say: Callable[[str], None] = lambda _: None,
    most: int = _MOST,
) -> int:
    """Send everything that waits; returns the number of exposures. It may be stopped anywhere and run again.

    Parameters
    ----------
    interactions : the interaction log, which knows who was forgotten before the warehouse does
    most : exposures of a shipment

    Raises
    ------
    InputError
        The tables are not there, or an old copy of the log was put back.
    LockedError, InteractionLogError, ServerError
        Another process ships the log; the log, or the warehouse, fails.
    """
    with exposure_lock(log.path, say):
        if warehouse.embedded:
            make_tables(warehouse)
        elif any(warehouse.engine(table) is None for table in (EXPOSURES, EXPOSURE_LEDGER)):
            raise InputError(f"{EXPOSURES} is not in {warehouse.address}: rankline init makes it")
        arrived = _arrived(warehouse, log)
        if arrived > log.latest_seq():
            raise InputError(
                f"{warehouse.address} has exposures up to {arrived:,} of {log.path}, which ends at "
                f"{log.latest_seq():,}: an old copy of it was put back. Move the file away; a new one is made"
            )
        suppressed = read_suppressed_users(warehouse)
        n_sent, sent_before, with_manifest = 0, True, has_manifest(warehouse)
        while (shipment := log.next_shipment(most)) is not None:
            if shipment.last_seq > arrived:
                rows = log.rows(shipment.first_seq, shipment.last_seq)
                users = {row.user_id for row in rows if row.user_id}
                gone: set[int | str] = {user for user in users if user in suppressed} if suppressed else set()
                gone |= interactions.forgotten_among(users) if interactions is not None else set()
                kept = [row for row in rows if row.user_id not in gone]
                _send(warehouse, shipment, _arrow(shipment.log_id, kept, with_manifest), sent_before)
                n_sent, sent_before = n_sent + sum(not row.n_lost for row in kept), False
            log.mark_shipped(shipment)
        return n_sent


def _arrived(warehouse: Warehouse, log: ExposureLog) -> int:
    rows = warehouse.rows(sql.load("queries/exposures_shipped").text, {"log_id": log.log_id})
    return int(rows[0]["last_seq"])


def _send(warehouse: Warehouse, shipment: Shipment, rows: pa.Table, sent_before: bool) -> None:
    if len(rows):
        first = rows.column("seq")[0].as_py()
        warehouse.insert(EXPOSURES, rows, token=shipment.token, async_insert=0)
        # As in `ship`: a token may have been noted by an engine that was killed before it added the rows.
        if sent_before and not has_row(warehouse, EXPOSURES, shipment.log_id, first):
            warehouse.insert(EXPOSURES, rows, token=f"{shipment.token}:2", async_insert=0)
            if not has_row(warehouse, EXPOSURES, shipment.log_id, first):
                raise QueryError(f"{warehouse.address} took rows into {EXPOSURES}, and they are not there")
    ledger = {
        "log_id": [shipment.log_id],
        "first_seq": pa.array([shipment.first_seq], pa.uint64()),
        "last_seq": pa.array([shipment.last_seq], pa.uint64()),
        "n_rows": pa.array([len(rows)], pa.uint64()),
    }
    warehouse.insert(EXPOSURE_LEDGER, pa.table(ledger), token=f"{shipment.token}:ledger", async_insert=0)


def has_row(warehouse: Warehouse, table: str, log_id: str, seq: int) -> bool:
    """Whether a table has the row of that number of a log."""
    parameters = {"table": table.removeprefix("analytics."), "log_id": log_id, "seq": seq}
    return bool(warehouse.rows(sql.load("queries/exposure_there").text, parameters)[0]["n"])


def _arrow(log_id: str, rows: Sequence[LoggedExposure], with_manifest: bool) -> pa.Table:
    texts = ["experiment", "arm", "request_id", "user_id", "model_version", "source"]
    texts += ["manifest"] if with_manifest else []
    columns = {name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in texts}
    return pa.table(
        {
            **columns,
            "channel": pa.array([LOST if row.n_lost else "api" for row in rows], pa.string()),
            "items": pa.array([json.loads(row.items) for row in rows], pa.list_(pa.string())),
            "status": pa.array([row.status for row in rows], pa.uint16()),
            "micros": pa.array([min(row.micros, 2**32 - 1) for row in rows], pa.uint32()),
            "n_lost": pa.array([row.n_lost for row in rows], pa.uint32()),
            "at": pa.array([row.at for row in rows], pa.timestamp("ms", "UTC")),
            "log_id": pa.repeat(log_id, len(rows)),
            "seq": pa.array([row.seq for row in rows], pa.uint64()),
        }
    )
