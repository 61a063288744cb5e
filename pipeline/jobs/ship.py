"""`ship`: sends what waits in this host's interaction log to the warehouse. Trainings and batches do so first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.interaction_log.columns import as_id
from pipeline.interaction_log.exposures import ExposureLog
from pipeline.jobs.inputs import open_warehouse
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.exposures import ship_exposures
from pipeline.shipping.ship import Shipped, ship
from pipeline.warehouse import Warehouse

__all__ = ["ShipResult", "drain", "logged_pairs", "open_log", "ship_job"]

_ROWS_A_BLOCK = 50_000
_TYPE = {"int": "Int64", "str": "String"}


@dataclass(frozen=True)
class ShipResult:
    """Attributes
    ----------
    path : the log's file
    address : the warehouse's
    shipped : what was sent; None where there is no log
    pending : interactions that came in meanwhile
    oldest_seconds : how long the oldest of them waits
    exposures : lists of experiments that were sent
    """

    path: Path
    address: str = ""
    shipped: Shipped | None = None
    pending: int = 0
    oldest_seconds: float = 0.0
    exposures: int = 0


def open_log(settings: Settings) -> InteractionLog | None:
    """This host's interaction log; None where there is none. Raises InteractionLogError, LockedError."""
    path = settings.interaction_log_path
    return InteractionLog.open(path, create=False) if path.exists() else None


def ship_job(settings: Settings, reporter: Reporter) -> ShipResult:
    """Ship what waits. Raises as `pipeline.shipping.ship.ship`."""
    log = open_log(settings)
    if log is None:
        return ShipResult(settings.interaction_log_path)
    with log, open_warehouse(settings) as warehouse:
        done = ship(warehouse, log, reporter.say, lambda n, total: reporter.progress("ship", n, total))
        pending, oldest = log.pending()
        waits = 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())
        shown = _ship_exposures(warehouse, settings, log, reporter)
        return ShipResult(log.path, warehouse.address, done, pending, waits, shown)


def drain(warehouse: Warehouse, settings: Settings, reporter: Reporter) -> None:
    """Ship what waits before the warehouse is read. A failure is said, and the job goes on with what is there.

    Nothing is said or done where this host has no log.
    """
    try:
        log = open_log(settings)
        if log is None:
            return
        with log:
            done = ship(warehouse, log, reporter.say)
            _ship_exposures(warehouse, settings, log, reporter)
        if n_rows := done.n_ratings + done.n_watched:
            reporter.say(f"shipped {n_rows:,} new interaction(s) from {log.path}")
    except RanklineError as error:
        reporter.say(f"new interactions were not shipped, and are not read: {error}")


def _ship_exposures(warehouse: Warehouse, settings: Settings, log: InteractionLog, reporter: Reporter) -> int:
    """Ship what this host has shown in experiments; returns how many lists. Nothing where it has shown none."""
    if not settings.exposure_log_path.exists():
        return 0
    with ExposureLog.open(settings.exposure_log_path, create=False) as exposures:
        return ship_exposures(warehouse, exposures, log, reporter.say)


def logged_pairs(settings: Settings, user_kind: str, item_kind: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Blocks of (user ids, item ids), each (n,), of all interactions in the log, ids of the model's kinds.

    Ids that can't be of that kind are left out: the model has no such user or item.
    """
    log = open_log(settings)
    if log is None:
        return
    with log:
        for first in range(log.first_seq(), log.latest_seq() + 1, _ROWS_A_BLOCK):
            pairs = []
            for row in log.rows(first, first + _ROWS_A_BLOCK - 1):
                try:
                    pairs.append((as_id("", row.user_id, _TYPE[user_kind]), as_id("", row.item_id, _TYPE[item_kind])))
                except ValueError:
                    continue
            if pairs:
                users, items = zip(*pairs, strict=True)
                yield np.array(users), np.array(items)
