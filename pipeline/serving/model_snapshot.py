"""What the agent reads in MLflow for the workers: all versions with their metrics and gates, as one small file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pipeline.errors import RanklineError
from pipeline.models import registry as algorithms
from pipeline.ranking.rules import now_ms
from pipeline.serving.job_table import moment
from pipeline.serving.live_folder import LiveFolder, read_json, write_json
from pipeline.tracking import versions
from pipeline.tracking.versions import RunFacts, VersionRecord

__all__ = ["ModelSnapshot"]

_LOG = logging.getLogger("rankline")
_SECONDS = 5.0  # between two reads that nothing asked for: 10 ms of CPU each


class ModelSnapshot:
    """Writes ``snapshots/models.json``. Where MLflow does not answer, the last one stays.

    Parameters
    ----------
    written : is called whenever it is another one
    """

    def __init__(self, folder: LiveFolder, model: str, written: Callable[[], None] = lambda: None) -> None:
        self._folder, self._model, self._written = folder, model, written
        self._known: dict[str, RunFacts] = {}
        self._next = 0.0

    def refresh(self, *, now: bool = False) -> None:
        """Write it, if some seconds have passed, or `now`. Never raises."""
        if not now and time.monotonic() < self._next:
            return
        try:
            value = self._read()
            if not self._is_there(value):
                write_json(self._folder.models_snapshot, {**value, "at": now_ms()})
                self._written()
        except (RanklineError, OSError) as error:
            _LOG.warning(f"what the API says of versions is as it was: {error}")
        except Exception:  # noqa: BLE001  # MLflow raises what it likes, and the agent is to go on
            _LOG.exception("the versions could not be read")
        self._next = time.monotonic() + _SECONDS

    def _read(self) -> dict[str, Any]:
        records = versions.version_records(self._model, self._known)
        good = versions.last_good(self._model) if records else []
        # Of more versions than are shown, an older one may be there all the same.
        gone = versions.deleted_champions(records, self._model) if len(records) < versions.SHOWN else ()
        return {
            "models": [_shown(self._model, record) for record in records],
            "good": good,
            "former": versions.former_champion(self._model, gone) if good else "",
            "algorithms": [*algorithms.names(), "auto"],
            "watermarks": [dict(record.facts.watermark) for record in records],
        }

    def _is_there(self, value: dict[str, Any]) -> bool:
        try:
            before = read_json(self._folder.models_snapshot)
        except (FileNotFoundError, RanklineError):
            return False
        return isinstance(before, dict) and {name: before.get(name) for name in value} == value


def _shown(model: str, record: VersionRecord) -> dict[str, Any]:
    return {
        "version": record.version,
        "label": f"{model}/{record.version}",
        "run_id": record.run_id,
        "algorithm": record.facts.algorithm,
        "created_at": moment(record.created),
        "champion": record.champion,
        "gate": record.gate._asdict(),
        "metrics": dict(record.facts.metrics),
        "baselines": {name: dict(values) for name, values in record.facts.baselines.items()},
    }
