"""`raw.shipments`: the warehouse's own account of what was shipped from which interaction log."""

from __future__ import annotations

import pyarrow as pa

from pipeline.interaction_log import Shipment
from pipeline.warehouse import Warehouse, sql

__all__ = ["LEDGER", "record", "watermark"]

LEDGER = "raw.shipments"


def watermark(warehouse: Warehouse) -> dict[str, int]:
    """Log id → the seq up to which all interactions of the log are in the raw tables. Empty where nothing was shipped.

    Asked before a training reads its rows, it says what the training has read at least.
    """
    if warehouse.engine(LEDGER) is None:
        return {}
    return {str(row["log_id"]): int(row["last_seq"]) for row in warehouse.rows(sql.load("queries/shipped").text)}


def record(warehouse: Warehouse, shipment: Shipment, n_ratings: int, n_watched: int) -> None:
    """Write the shipment down, once, after its rows."""
    row = {
        "log_id": [shipment.log_id],
        "first_seq": pa.array([shipment.first_seq], pa.uint64()),
        "last_seq": pa.array([shipment.last_seq], pa.uint64()),
        "n_ratings": pa.array([n_ratings], pa.uint64()),
        "n_watched": pa.array([n_watched], pa.uint64()),
    }
    warehouse.insert(LEDGER, pa.table(row), token=f"{shipment.token}:ledger", async_insert=0)
