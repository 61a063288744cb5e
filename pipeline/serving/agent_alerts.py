"""What the agent tells people of by itself: a log that ages, a table that ages, a training that failed here.

Drift itself is told by whoever measures it: `rankline drift`, or the nightly job.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from pipeline.errors import RanklineError
from pipeline.interaction_log import InteractionLog
from pipeline.monitoring.alerts import Alert, Notifier, log_aged, table_aged, training_failed
from pipeline.options import Names
from pipeline.serving.drift_report import drift_report
from pipeline.serving.job_table import JobTable
from pipeline.serving.live_folder import LiveFolder
from pipeline.serving.service import ServiceConfig

__all__ = ["agent_alerts", "keep_watch"]

_LOG = logging.getLogger("rankline")
_SECONDS = 60.0  # between two looks
_STOPPED = "the agent ended while it ran"


def agent_alerts(config: ServiceConfig, now: datetime) -> list[Alert]:
    """What is to be told now. Raises RanklineError, OSError."""
    folder = LiveFolder(config.live, config.model)
    alerts = _of_the_log(folder, config.max_log_age_hours, now)
    report, limit = drift_report(folder), config.max_table_age_hours
    if report is not None and limit is not None:
        ages = {row.name: row.value for row in report.rows}
        age = ages.get("table_age_hours")
        since = (now - report.at).total_seconds() / 3600
        # By what was measured last: a table that was published since is measured by the same job.
        if age is not None and age + since > limit:
            alerts.append(table_aged(Names(config.model).table, age + since, limit))
    job = JobTable(folder.jobs_path).latest("train")
    if job is not None and job.state == "failed" and job.reason != _STOPPED:
        alerts.append(training_failed(config.model))
    return alerts


def _of_the_log(folder: LiveFolder, limit: float | None, now: datetime) -> list[Alert]:
    if limit is None or not folder.interactions_path.exists():
        return []
    with InteractionLog.open(folder.interactions_path, create=False) as log:
        pending, oldest = log.pending()
    hours = 0.0 if oldest is None else (now - oldest).total_seconds() / 3600
    return [log_aged(hours, limit, pending)] if hours > limit else []


def keep_watch(config: ServiceConfig, stopping: threading.Event) -> None:
    """Look every minute until it is to stop, and tell the targets of the service; nothing without any."""
    if not config.notify or config.alerts is None:
        return
    notifier = Notifier(config.notify, config.alerts, hours=config.notify_hours)
    said = ""
    while not stopping.wait(_SECONDS):
        try:
            told = notifier.notify(agent_alerts(config, datetime.now(UTC)))
            fault = "; ".join(told.sentences) if told.failed or told.notes else ""
        except (RanklineError, OSError) as error:
            fault = f"nobody was told of alerts: {error}"
        if fault and fault != said:
            _LOG.warning(fault)
        said = fault
