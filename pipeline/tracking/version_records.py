"""What MLflow says of versions and of their runs, as a backup has it: enough to register them in another store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import BackupError

__all__ = ["RunRecords", "VersionRecords", "records_of"]

_NOTE = "mlflow.note.content"


@dataclass(frozen=True)
class RunRecords:
    """A run. `metrics` has the last value of each; `note` is the text of its page."""

    experiment: str
    name: str
    started_ms: int
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class VersionRecords:
    """Attributes
    ----------
    tags, descriptions : of versions, by ``rankline/3``
    runs : of these, by their ids
    """

    tags: Mapping[str, Mapping[str, str]]
    descriptions: Mapping[str, str]
    runs: Mapping[str, RunRecords]

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> VersionRecords:
        """What `facts` gave. Raises BackupError where it is none."""
        try:
            runs = {str(run): RunRecords(**of_run) for run, of_run in facts["runs"].items()}
            return cls(dict(facts["tags"]), dict(facts["descriptions"]), runs)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BackupError("The backup describes the versions of MLflow in no way that can be read") from None


def records_of(versions: Collection[tuple[str, str, str]]) -> VersionRecords:
    """Ask the open store for (model, version, run). What is gone is left out."""
    client = mlflow.MlflowClient()
    experiments: dict[str, str] = {}
    tags, descriptions, runs = {}, {}, {}
    for model, number, run_id in versions:
        try:
            version, run = client.get_model_version(model, number), client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                continue
            raise
        of = str(run.info.experiment_id)
        if of not in experiments:
            experiments[of] = str(client.get_experiment(of).name)
        tags[f"{model}/{number}"] = dict(version.tags)
        descriptions[f"{model}/{number}"] = str(version.description or "")
        own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
        runs[run_id] = RunRecords(
            experiments[of],
            str(run.info.run_name),
            int(run.info.start_time),
            dict(run.data.params),
            dict(run.data.metrics),
            own,
            str(run.data.tags.get(_NOTE, "")),
        )
    return VersionRecords(tags, descriptions, runs)
