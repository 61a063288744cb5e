"""The report of a run goes to the run; a run is never lost for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.errors import RanklineError
from pipeline.jobs.reporter import Reporter
from pipeline.kept import Draft
from pipeline.settings import Settings
from pipeline.sources.choice import Chosen
from pipeline.train import Trained

__all__ = ["log_pages"]


def log_pages(run: Draft, trained: Trained, chosen: Chosen, settings: Settings, reporter: Reporter) -> None:
    """``report.html`` and ``pictures/*.svg`` for the run's root; what goes wrong is said, and the run goes on."""
    try:
        # Here and not above: a drawing library that can't be imported costs the page, not the model.
        from pipeline.jobs.report import write_report

        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            run.folder(write_report(Path(scratch), run, trained, chosen, settings, reporter))
    except Exception as error:  # noqa: BLE001 (a picture is not worth a model)
        reason = str(error) if isinstance(error, RanklineError) else f"{type(error).__name__}: {error}"
        reporter.say(f"no report.html, or not all of it: {' '.join(reason.split())[:300]}")
