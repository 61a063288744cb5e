"""Drift on the champion's run: metrics ``drift/…`` by day, and the last measurement as a whole in a tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from pipeline.tracking import registry
from pipeline.tracking.champion import champion
from pipeline.tracking.store_errors import as_server_error

__all__ = ["PREFIX", "TAG", "last_drift", "log_drift", "step_of"]

PREFIX = "drift/"
TAG = "rankline_drift"
_LONGEST = 5000  # characters of a tag


def step_of(now: datetime) -> int:
    """The day as the step of a metric: days since 1970-01-01, UTC."""
    return (now.astimezone(UTC).date() - date(1970, 1, 1)).days


def log_drift(run_id: str, values: Mapping[str, float], whole: Mapping[str, Any], now: datetime) -> None:
    """Log the values as metrics of the day, and the measurement as a whole. Raises ServerError.

    A second measurement of the day stands beside the first, and counts as the later one.

    whole : as JSON at most 5000 characters; a longer one is left out
    """
    step, at_ms = step_of(now), int(now.timestamp() * 1000)
    metrics = [Metric(f"{PREFIX}{name}", float(value), at_ms, step) for name, value in values.items()]
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    with as_server_error(mlflow.get_tracking_uri()):
        client = mlflow.MlflowClient()
        client.log_batch(run_id, metrics=metrics)
        if len(text) <= _LONGEST:
            client.set_tag(run_id, TAG, text)


def last_drift(model: str = registry.MODEL_NAME) -> dict[str, Any] | None:
    """The last measurement that the champion's run has; None where there is none. Raises ServerError."""
    version = champion(model)
    if version is None or not version.run_id:
        return None
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            text = mlflow.MlflowClient().get_run(version.run_id).data.tags.get(TAG)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
    try:
        value = json.loads(text or "null")
    except ValueError:
        return None  # somebody wrote into the tag
    return value if isinstance(value, dict) else None
