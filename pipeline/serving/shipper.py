"""The agent's thread that ships new interactions to a server, and says which of them the served models have read.

An embedded warehouse has one process at a time, so the service never opens it: `rankline train`, `score` and `ship` do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.models.model_files import METADATA
from pipeline.serving.live_folder import read_json
from pipeline.settings import Settings
from pipeline.shipping.ship import ship
from pipeline.warehouse import connect

__all__ = ["Shipper", "cover"]

_LOG = logging.getLogger("rankline")
_PAUSE, _LONGEST_PAUSE = 5.0, 300.0  # seconds


class Shipper:
    """Ships the log in a file whenever something waits.

    Parameters
    ----------
    path : the log's file
    settings : where the warehouse is
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, settings
        self._pause = _PAUSE
        self.fault = ""

    def run(self, stopping: threading.Event, last_after: float = 0.0) -> None:
        """Ship every few seconds until it is to stop; once more, `last_after` seconds later, what came in till then."""
        if self._settings.warehouse_dsn.startswith("chdb://"):
            return
        while not stopping.wait(self._pause):
            self.look()
        threading.Event().wait(last_after)
        self.look()

    def look(self) -> None:
        """Ship what waits. Never raises: it says what fails, and the next look is later."""
        try:
            self._ship()
            fault, self._pause = "", _PAUSE
        except RanklineError as error:
            fault, self._pause = str(error), min(_LONGEST_PAUSE, 2 * self._pause)
        if fault and fault != self.fault:
            _LOG.warning(f"new interactions wait, since they can't be shipped: {fault}")
        self.fault = fault

    def _ship(self) -> None:
        if not self._path.exists():
            return
        with InteractionLog.open(self._path, create=False) as log:
            if not log.pending()[0]:
                return
            settings = self._settings
            with connect(
                settings.warehouse_dsn, settings.connect_timeout, settings.read_timeout, settings.query_timeout
            ) as warehouse:
                ship(warehouse, log, _LOG.info)


def cover(path: Path, models: Iterable[Path]) -> None:
    """Have the log keep, however long ago they were shipped, interactions that one of the models has not read.

    Parameters
    ----------
    path : the log's file
    models : folders of the models that are or may be served. One without a watermark for this log has read nothing.

    Raises RanklineError, OSError.
    """
    if not path.exists():
        return
    with InteractionLog.open(path, create=False) as log:
        marks = [dict(read_json(folder / METADATA).get("data_watermark") or {}) for folder in models]
        if marks:
            log.set_covered(min(int(mark.get(log.log_id, 0)) for mark in marks))
