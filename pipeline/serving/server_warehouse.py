"""What the agent does with a warehouse that is a server: ships new interactions, pulls those of other hosts, and
fetches the rules about items.

An embedded warehouse belongs to one process at a time, and is never opened by the service: `train`, `score` and
`rankline ship` ship there.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.interaction_log.exposures import ExposureLog
from pipeline.options import Names
from pipeline.publishing.rules import read_rules
from pipeline.ranking.rules import Rules, now_ms
from pipeline.serving.arms import arm_pointers
from pipeline.serving.live_folder import LiveFolder, Pointer, write_json
from pipeline.serving.service import ServiceConfig
from pipeline.settings import Settings
from pipeline.shipping.exposures import ship_exposures
from pipeline.shipping.pull import Puller
from pipeline.shipping.ship import ship
from pipeline.warehouse import Warehouse
from pipeline.warehouse.connect import connect

__all__ = ["ServerWarehouse", "keep_in_touch"]

_LOG = logging.getLogger("rankline")


class ServerWarehouse:
    """The warehouse of the environment, connected to when it is needed, and again after a failure."""

    def __init__(self, config: ServiceConfig, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._folder = LiveFolder(config.live, config.model)
        self._puller = Puller()
        self._fault = ""

    def visit(self) -> None:
        """Ship what waits, pull what other hosts shipped, and fetch the rules.

        A failure is said once; it is tried again at the next visit.
        """
        fault = ""
        try:
            settings = self._settings
            with connect(
                settings.warehouse_dsn,
                settings.connect_timeout,
                settings.read_timeout,
                settings.query_timeout,
                settings.retry_policy,
            ) as warehouse:
                self._fetch_rules(warehouse)
                self._ship(warehouse)
        except (RanklineError, OSError) as error:
            fault = str(error)
        if fault and fault != self._fault:
            _LOG.warning(f"new interactions wait, and rules stay as they are: {fault}")
        self._fault = fault
        with suppress(OSError):  # a full disk
            write_json(self._folder.warehouse_path, {"at": now_ms(), "fault": fault}, durable=False)

    def _ship(self, warehouse: Warehouse) -> None:
        path = self._folder.interactions_path
        if not path.exists():
            return
        with InteractionLog.open(path, create=False) as log:
            done = ship(warehouse, log)
            if n_rows := done.n_ratings + done.n_watched:
                _LOG.info(f"shipped {n_rows:,} interaction(s) to {warehouse.address}")
            if self._folder.exposures_path.exists():
                with ExposureLog.open(self._folder.exposures_path, create=False) as exposures:
                    ship_exposures(warehouse, exposures, log)
            served = self._served()
            models = [LiveFolder(self._config.live, one.name).model_folder(one.digest) for one in served]
            if n_pulled := self._puller.pull(warehouse, log, [one.watermark for one in served], models):
                _LOG.info(f"pulled {n_pulled:,} interaction(s) of other hosts from {warehouse.address}")

    def _served(self) -> list[Pointer]:
        """What this host serves, of every name and arm, since one log is theirs together."""
        served = self._folder.current_of_all_names()
        return [pointer for one in served for pointer in (one, *arm_pointers(one))]

    def _fetch_rules(self, warehouse: Warehouse) -> None:
        path = self._config.rules
        if path is None:
            return
        rules = read_rules(warehouse, Names(self._config.model))
        try:
            before = Rules.read(path) if path.exists() else Rules()
        except RanklineError:
            before = None
        if before is None or rules.digest != before.digest:
            rules.write(path)


def keep_in_touch(config: ServiceConfig, stopping: threading.Event) -> None:
    """Visit the warehouse every few seconds until it is to stop; nothing where it is embedded."""
    LiveFolder(config.live, config.model).warehouse_path.unlink(missing_ok=True)  # of another configuration
    try:
        settings = Settings.with_config(None)
        embedded = settings.warehouse_dsn.startswith("chdb:")
    except (RanklineError, ValueError):
        _LOG.warning("the warehouse's settings can't be read: new interactions wait")
        return
    if embedded:
        return
    visits = ServerWarehouse(config, settings)
    while not stopping.is_set():
        visits.visit()
        stopping.wait(config.options.ship_seconds)
