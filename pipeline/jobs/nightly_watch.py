"""The last step of a night, and the alerts about all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.jobs.nightly_result import NightlyRequest, State, StepResult

__all__ = ["drift", "send_alerts"]

_REFUSALS = 3  # nights in a row


def drift(request: NightlyRequest) -> tuple[State, str, dict[str, Any]]:
    """State, sentence and facts of the measurement of drift."""
    return "skipped", "drift is not measured yet", {}


def send_alerts(
    request: NightlyRequest, steps: Sequence[StepResult], refusals: int
) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The alerts of the night, and what kept them from being sent ("" for nothing)."""
    model = request.settings.names.model
    alerts: list[Mapping[str, Any]] = []
    for step in steps:
        if step.name in ("resume", "data gate", "train") and step.state in ("stopped", "failed"):
            message = f"{step.name} of {model} {step.state}: {step.reason}"
            alerts.append({"kind": "training_failed", "subject": model, "message": message})
    if refusals >= _REFUSALS:
        message = f"the gate refused {refusals} versions of {model} in a row"
        alerts.append({"kind": "gate_refused", "subject": model, "message": message})
    return tuple(alerts), ""
