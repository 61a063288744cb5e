"""`Snapshots`: what the agent has read for the workers, read again when it has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import RanklineError
from pipeline.serving.job_table import Job, JobTable
from pipeline.serving.live_folder import LiveFolder, read_json
from pipeline.serving.problems import Code, Problem

__all__ = ["Snapshots"]

_Stamp = tuple[int, int, int]


class Snapshots:
    """The snapshots in a folder. The agent writes them: a worker knows neither MLflow nor the warehouse."""

    def __init__(self, folder: LiveFolder) -> None:
        self._folder = folder
        self._stamp: _Stamp | None = None
        self._models: Mapping[str, Any] = {}

    # ---- versions --------------------------------------------------------------------------------

    def models(self, served: str = "") -> list[dict[str, Any]]:
        """All versions, the newest first. `served` : the version that this worker answers with. Raises Problem."""
        return [{**model, "served": model["version"] == served} for model in self._read()["models"]]

    def model(self, version: str, served: str = "") -> dict[str, Any]:
        """One version. Raises Problem where there is none."""
        for model in self.models(served):
            if model["version"] == version:
                return model
        raise Problem(Code.UNKNOWN_VERSION, f"There is no version {version[:20]!r}")

    @property
    def former(self) -> str:
        """The version that a rollback would go back to; "" for none. Raises Problem."""
        return str(self._read()["former"])

    @property
    def good(self) -> Sequence[str]:
        """The champion and the last ones before it, which are not deleted. Raises Problem."""
        return [str(version) for version in self._read()["good"]]

    @property
    def algorithms(self) -> Sequence[str]:
        """What can be trained. Raises Problem."""
        return [str(name) for name in self._read()["algorithms"]]

    def _read(self) -> Mapping[str, Any]:
        path = self._folder.models_snapshot
        try:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_ino, status.st_size
            if stamp != self._stamp:
                value = read_json(path)
                if not {"models", "former", "good", "algorithms"} <= set(value):
                    raise TypeError
                self._models, self._stamp = value, stamp
        except (OSError, RanklineError, TypeError):
            raise Problem(Code.NOT_KNOWN_YET, "The agent has not read the versions in MLflow yet") from None
        return self._models

    # ---- the training ----------------------------------------------------------------------------

    def training(self, table: JobTable) -> dict[str, Any]:
        """The training that was asked for last, as far as it is. Raises JobTableError."""
        job = table.latest("train")
        head: dict[str, Any] = {"state": "idle", "job_id": None, "stage": "", "loss": [], "lines": []}
        if job is None:
            return {**head, "started_at": None, "finished_at": None, "reason": "", "version": None}
        try:
            seen = read_json(self._folder.training_snapshot)
            if seen["job_id"] == job.job_id:
                head |= {name: seen[name] for name in ("stage", "loss", "lines")}
        except (OSError, RanklineError, KeyError, TypeError):
            pass  # the agent has not written it yet
        return {**head, **_times(job)}


def _times(job: Job) -> dict[str, Any]:
    shown = job.answer
    return {
        **{name: shown[name] for name in ("state", "job_id", "started_at", "finished_at", "reason")},
        "version": job.result.get("version"),
    }
