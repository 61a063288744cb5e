"""The last step of a night, and who is told of what went wrong in it."""

from __future__ import annotations

from typing import Any

from pipeline.errors import RanklineError
from pipeline.jobs.drift import DriftRequest, DriftResult, measure_drift, store_alerts
from pipeline.jobs.nightly_result import NightlyRequest
from pipeline.jobs.nightly_steps import Night
from pipeline.monitoring.alerts import Alert, Notifier, NotifyResult, training_failed

__all__ = ["alerts_of", "drift", "drift_facts", "notifier_for", "tell"]


def drift(request: NightlyRequest) -> DriftResult:
    """Measure drift as the job of that name does. Raises as `measure_drift`."""
    return measure_drift(
        DriftRequest(request.settings, request.reporter, request.now, request.drift, request.drift_limits)
    )


def drift_facts(result: DriftResult) -> tuple[str, dict[str, Any]]:
    """The sentence and the facts of the step."""
    past = [f"{row.name} {row.value:.4g} (limit: {row.limit:g})" for row in result.exceeded if row.value is not None]
    sentence = f"past its limit: {', '.join(past)}" if past else f"{len(result.measures)} measures, none past its limit"
    return sentence, {"exceeded": [row.name for row in result.exceeded], "measures": result.measures}


def notifier_for(request: NightlyRequest) -> Notifier:
    """Who is told. Raises UsageError for a target that can't be read: before the work of the night."""
    telling = request.telling
    return Notifier(telling.targets, request.settings.state_path, hours=telling.notify_hours)


def alerts_of(night: Night, measured: DriftResult | None) -> tuple[Alert, ...]:
    """What somebody should be told of the night: drift, and what MLflow knows of trainings and of the gate."""
    if measured is not None:
        return measured.alerts
    broken = night.server_failed()
    if broken is None:
        try:
            return tuple(store_alerts(night.request.settings.names))
        except RanklineError as error:
            return (training_failed(night.model, cause=type(error).__name__),)
    trained = night.result("train")
    if trained is not None and trained.state == "done":
        return ()  # what comes after it is tried again
    return (training_failed(night.model, cause=str(broken.facts.get("error", ""))),)


def tell(night: Night, notifier: Notifier, alerts: tuple[Alert, ...]) -> NotifyResult:
    """Send the alerts; what kept a target from being told is said."""
    told = notifier.notify(alerts, night.request.now)
    for sentence in told.sentences:
        night.request.reporter.say(sentence)
    return told
