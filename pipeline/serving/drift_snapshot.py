"""`DriftSnapshot`: the agent's look at what was measured of drift, which the champion's run in MLflow has."""

from __future__ import annotations

import logging
import time

from pipeline.errors import RanklineError
from pipeline.serving.drift_report import parse_report
from pipeline.serving.live_folder import LiveFolder, read_json, write_json
from pipeline.tracking.drift_log import last_drift

__all__ = ["DriftSnapshot"]

_LOG = logging.getLogger("rankline")
_SECONDS = 10.0  # between two looks: some 10 ms of CPU each


class DriftSnapshot:
    """Writes ``snapshots/drift.json``. Where MLflow does not answer, or has nothing yet, the last one stays."""

    def __init__(self, folder: LiveFolder, model: str) -> None:
        self._folder, self._model = folder, model
        self._next = 0.0

    def refresh(self, *, now: bool = False) -> None:
        """Write it, if some seconds have passed, or `now`. Never raises."""
        if not now and time.monotonic() < self._next:
            return
        try:
            value = last_drift(self._model)
            if value is not None and parse_report(value) is not None and not self._is_there(value):
                write_json(self._folder.drift_snapshot, value, durable=False)
        except (RanklineError, OSError) as error:
            _LOG.warning(f"what is known of drift is as it was: {error}")
        except Exception:  # noqa: BLE001  # MLflow raises what it likes, and the agent is to go on
            _LOG.exception("drift could not be read")
        self._next = time.monotonic() + _SECONDS

    def _is_there(self, value: object) -> bool:
        try:
            return bool(read_json(self._folder.drift_snapshot) == value)
        except (FileNotFoundError, RanklineError):
            return False
