"""`resume`: logs pending runs, whose training ended while MLflow was not available."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import InputError, LockedError
from pipeline.evaluation.metric_names import current_names
from pipeline.options.names import DEFAULT_NAME
from pipeline.runtime.progress import Reporter
from pipeline.runtime.redact import address_of_store
from pipeline.settings import Settings
from pipeline.tracking import run as tracking
from pipeline.tracking.outbox import PendingRun, find_pending, open_pending, pending_in
from pipeline.tracking.upload import record, register

__all__ = ["ResumeResult", "resume_job"]


@dataclass(frozen=True)
class ResumeResult:
    """A run that was logged, and the version of the model that it registered."""

    run_id: str
    name: str
    version: str
    model: str = DEFAULT_NAME


def resume_job(which: str | None, settings: Settings, reporter: Reporter) -> list[ResumeResult]:
    """Log pending runs, which end FINISHED. It may be repeated after an interrupt: nothing is logged twice.

    Parameters
    ----------
    which : a folder, or the beginning of a run's id; None: all pending runs

    Raises
    ------
    InputError
        No pending run has that name, or MLflow's store has no such run.
    ArtifactError
        A file of the pending run was changed.
    ServerError
        The store failed again; the pending run stays.
    """
    root = settings.unlogged_path
    folders = pending_in(root) if which is None else [find_pending(which, root)]
    if not folders:
        reporter.say(f"nothing to log: {root} holds no training")
        return []
    tracking.open_or_make_store(settings.tracking_uri, reporter.say)
    results, first_error = [], None
    for folder in folders:
        try:
            results.append(_resume(folder, settings, reporter))
        except (InputError, LockedError) as error:
            if which is not None:
                raise
            # A damaged pending run must not stop the others.
            reporter.say(str(error))
            first_error = first_error or error
    if first_error is not None:
        raise first_error
    return results


def _resume(folder: Path, settings: Settings, reporter: Reporter) -> ResumeResult:
    pending_run = open_pending(folder)
    try:
        reporter.progress("log", 0, None)
        try:
            return _logged(pending_run, settings)
        except InputError as error:
            current, original = address_of_store(settings.tracking_uri), pending_run.facts["store"]
            hint = f": it began in {original}, and MLFLOW_TRACKING_URI names {current}" if current != original else ""
            raise type(error)(f"{error}{hint}; what was trained stays in {folder}") from None
    finally:
        pending_run.close()


def _logged(pending_run: PendingRun, settings: Settings) -> ResumeResult:
    with tracking.resumed_run(settings.tracking_uri, pending_run.run_id, settings.retry_policy) as run:
        model_uri = record(run, pending_run)
        run.metrics(current_names(pending_run.facts["late_metrics"]), int(pending_run.facts["at_ms"]))
        version = register(run, pending_run, model_uri)
        run.untag("failure")
        run.tags({"resumed_at": datetime.now(UTC).isoformat(timespec="seconds")})
        tracking.finish_parent(run, version)
        run.finish()
    pending_run.remove()
    return ResumeResult(run.id, str(pending_run.facts["name"]), version, pending_run.registered_model)
