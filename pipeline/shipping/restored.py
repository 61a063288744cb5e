"""A copy of an interaction log that is put back asks the warehouse what of it has arrived since."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.interaction_log import InteractionLog
from pipeline.shipping.ledger import watermark
from pipeline.shipping.ship import RATINGS, WATCHED, is_there
from pipeline.warehouse import Warehouse

__all__ = ["CaughtUp", "catch_up"]

_MOST = 10_000  # interactions that a shipment may have


@dataclass(frozen=True)
class CaughtUp:
    """Attributes
    ----------
    arrived : up to where the ledger has the log
    n_unrecorded : interactions that the raw tables have and the ledger does not: a shipment was cut off
    """

    arrived: int
    n_unrecorded: int


def catch_up(warehouse: Warehouse, log: InteractionLog) -> CaughtUp:
    """Tell the log what the warehouse has of it, so that nothing is shipped twice and no number is given twice.

    A shipment that was cut off has put rows into the raw tables and is not in the ledger. Its bounds may not be those
    that the copy would send, so the tokens of `pipeline.shipping.ship` don't tell; the rows themselves are looked for.
    """
    arrived = watermark(warehouse).get(log.log_id, 0)
    if arrived:
        log.catch_up(arrived)
    waiting = log.rows(log.shipped_seq() + 1, log.shipped_seq() + _MOST)
    first = {row.rating is None: row for row in reversed(waiting)}  # the first rating, and the first viewing
    if not waiting or warehouse.engine(RATINGS) is None or warehouse.engine(WATCHED) is None:
        return CaughtUp(arrived, 0)
    if not any(is_there(warehouse, row) for row in first.values()):
        return CaughtUp(arrived, 0)
    there = [row.seq for row in waiting if is_there(warehouse, row)]
    log.drop(there)
    return CaughtUp(arrived, len(there))
