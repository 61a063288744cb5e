"""`compare`: two judged runs beside each other."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import tracking
from pipeline.comparison import Compared, compare_runs
from pipeline.errors import InputError
from pipeline.jobs.reporter import Reporter
from pipeline.judged import Judged
from pipeline.runs import Named, evaluation_of, find_run
from pipeline.settings import Settings

__all__ = ["CompareResult", "compare_job"]


@dataclass(frozen=True)
class CompareResult:
    """What was compared, by what split, and what was found."""

    a: Named
    b: Named
    split: str
    split_digest: str
    data_digest: str
    found: Compared


def compare_job(a: str, b: str, metric: str, settings: Settings, reporter: Reporter) -> CompareResult:
    """The second run against the first, on the users and held-out interactions they share."""
    tracking.open_store(settings.tracking_uri)
    runs = find_run(a), find_run(b)
    if runs[0].run_id == runs[1].run_id:
        raise InputError(f"{a} and {b} are one and the same run, {runs[0].run_id}")
    reporter.progress("read", 0, None)
    first, second = _judged(runs[0]), _judged(runs[1])
    reporter.progress("compare", 0, None)
    found = compare_runs(first, second, metric)
    return CompareResult(*runs, first.split_name, first.split_digest, first.data_digest, found)


def _judged(run: Named) -> Judged:
    judged = evaluation_of(run)
    if judged is None:
        raise InputError(
            f"{run.label} can't be compared: it was trained before runs were judged (or with --holdout 0); train again"
        )
    return judged
