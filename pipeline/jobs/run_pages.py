"""Adds the report to a run. Report failures are logged and never fail the run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.errors import RanklineError
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.jobs.inputs import LoadedInput
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import champion as champions
from pipeline.tracking.lookup import RunRef, evaluation_of
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.training.train import Trained

__all__ = ["champion_evaluation", "log_pages"]


def champion_evaluation(model: str, reporter: Reporter) -> StoredEvaluation | None:
    """The evaluation of the registered model's champion, for the comparison in the report.

    None where it does not exist or can't be read.
    """
    try:
        champion = champions.champion(model)
        if champion is None or not champion.run_id:
            return None
        return evaluation_of(RunRef(champion.run_id, champion.label, "", champion.version))
    except RanklineError as error:
        reporter.say(f"report.html does not compare with the champion: {error}")
        return None


def log_pages(
    run: PendingRunWriter,
    trained: Trained,
    chosen: LoadedInput,
    settings: Settings,
    reporter: Reporter,
    champion: StoredEvaluation | None = None,
) -> None:
    """Add ``report.html`` and ``pictures/*.svg`` to the run's root. An error is reported and the run continues."""
    try:
        # Import it here: a drawing library that can't be imported must not fail the training.
        from pipeline.jobs.report import write_report

        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            run.folder(write_report(Path(scratch), run, trained, chosen, settings, reporter, champion))
    except Exception as error:  # noqa: BLE001 (no failure of the report may fail the training)
        reason = str(error) if isinstance(error, RanklineError) else f"{type(error).__name__}: {error}"
        reporter.say(f"no report.html, or not all of it: {' '.join(reason.split())[:300]}")
