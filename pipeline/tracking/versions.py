"""All versions of a registered model, with what is known of each, and the deletion of one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.evaluation.metric_names import current_names
from pipeline.tracking import champion as champions
from pipeline.tracking import experiments
from pipeline.tracking.registry import MODEL_NAME
from pipeline.tracking.store_errors import as_server_error

__all__ = [
    "KEPT_CHAMPIONS",
    "SHOWN",
    "GateResult",
    "RunFacts",
    "VersionRecord",
    "delete_version",
    "deleted_champions",
    "former_champion",
    "last_good",
    "version_records",
]

SHOWN = 100  # versions
KEPT_CHAMPIONS = 3  # the champion and the two before it: where a rollback may have to go
_LEFT_OUT = ("baseline/", "segment/", "band/", "data/", "drift/")
_BASELINE = re.compile(r"baseline/([^/]+)/([^/]+)")
# What the tag `promotion` of a version says, as the gate's decision.
_DECISIONS = {
    "promoted": "promoted",
    "forced": "promoted",
    "champion again": "promoted",
    "refused": "refused",
    "rolled back": "refused",
}


class RunFacts(NamedTuple):
    """What the run of a version says, which does not change: its algorithm, metrics, and baselines' metrics.

    watermark : log id → the last interaction of that log that the training has read
    """

    algorithm: str
    metrics: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    watermark: Mapping[str, int] = MappingProxyType({})


class GateResult(NamedTuple):
    """`decision`: ``promoted``, ``refused`` or ``none``; `reason`: how each check went, or why it was overruled."""

    decision: str
    reason: str


@dataclass(frozen=True)
class VersionRecord:
    """A version. `created` is in milliseconds since 1970."""

    version: str
    run_id: str
    created: int
    champion: bool
    gate: GateResult
    facts: RunFacts


def version_records(model: str, known: MutableMapping[str, RunFacts], most: int = SHOWN) -> list[VersionRecord]:
    """The newest versions, the newest first; [] where there is no such model.

    known : run → its facts, from earlier calls; new ones are added, and those of no version are dropped
    """
    with as_server_error(mlflow.get_tracking_uri()):
        client = mlflow.MlflowClient()
        found = client.search_model_versions(f"name = '{model}'", order_by=["version_number DESC"], max_results=most)
        now = champions.champion(model)
        of_runs = {str(version.run_id or "") for version in found}
        for run_id in of_runs - set(known):
            known[run_id] = _facts(client, run_id)
        for run_id in set(known) - of_runs:
            del known[run_id]
    return [
        VersionRecord(
            str(version.version),
            str(version.run_id or ""),
            int(version.creation_timestamp),
            now is not None and now.version == str(version.version),
            _gate(dict(version.tags)),
            known[str(version.run_id or "")],
        )
        for version in found
    ]


def last_good(model: str = MODEL_NAME) -> list[str]:
    """The champion, and the versions before it that a rollback would go back to: the latest first, each once."""
    names = dict.fromkeys(reversed(champions.history(model)))
    return list(names)[:KEPT_CHAMPIONS]


def former_champion(model: str = MODEL_NAME, gone: Collection[str] = ()) -> str:
    """The version that a rollback would go back to, "" for none. `gone` : versions that are deleted."""
    history = champions.history(model)
    return next((version for version in reversed(history[:-1]) if version not in {history[-1], *gone}), "")


def deleted_champions(records: Sequence[VersionRecord], model: str = MODEL_NAME) -> set[str]:
    """Versions that were champion and are not among all the `records` of the model."""
    there = {record.version for record in records}
    return {version for version in champions.history(model) if version not in there}


def delete_version(version: str, model: str = MODEL_NAME) -> None:
    """Delete a version; its run stays. Raises InputError for one that is not there, or is one of `last_good`."""
    with champions.alone(model, ""):  # else it may become champion between the look and the deletion
        if version in last_good(model):
            raise InputError(f"{model}/{version} is the champion, or was one of the last: it stays, for a rollback")
        if version in (used := experiments.versions_in_use(model)):
            raise InputError(
                f"{model}/{version} is served in the experiment {used[version]}: rankline experiment stop ends it"
            )
        try:
            mlflow.MlflowClient().delete_model_version(model, version)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(f"There is no {model}/{version}") from None
            raise


def _facts(client: mlflow.MlflowClient, run_id: str) -> RunFacts:
    try:
        data: Any = client.get_run(run_id).data if run_id else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        data = None
    if data is None:
        return RunFacts("", {}, {})
    metrics = {name: value for name, value in current_names(dict(data.metrics)).items() if math.isfinite(value)}
    baselines: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if match := _BASELINE.fullmatch(name):
            baselines.setdefault(match[1], {})[match[2]] = value
    own = {name: value for name, value in metrics.items() if not name.startswith(_LEFT_OUT)}
    algorithm = data.params.get("algorithm_used") or data.params.get("algorithm") or ""
    return RunFacts(str(algorithm).lower(), own, baselines, _watermark(data.tags.get("data_watermark", "")))


def _watermark(text: str) -> dict[str, int]:
    """What the tag says; nothing where there is none, or somebody wrote another text."""
    try:
        value = json.loads(text or "{}")
        return {str(log): int(seq) for log, seq in value.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _gate(tags: Mapping[str, str]) -> GateResult:
    outcome = tags.get("promotion", "")
    if outcome == "rolled back":
        why = f": {tags['rollback_reason']}" if tags.get("rollback_reason") else ""
        return GateResult("refused", f"rolled back at {tags.get('rolled_back_at', '')}{why}")
    reason = tags.get("promotion_reasons", "")
    if outcome == "forced":
        reason = f"against the gate: {tags.get('promotion_reason', '')}\n{reason}".strip()
    return GateResult(_DECISIONS.get(outcome, "none"), reason)
