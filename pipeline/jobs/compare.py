"""`compare`: compares the evaluations of two runs."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import FILE_NAME, differences
from pipeline.errors import InputError
from pipeline.evaluation.comparison import Compared, compare_runs
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking import run as tracking
from pipeline.tracking.lookup import RunRef, evaluation_of, find_run, text_of

__all__ = ["CompareResult", "compare_job"]


@dataclass(frozen=True)
class CompareResult:
    """The two runs, the split that both were evaluated on, and the comparison."""

    a: RunRef
    b: RunRef
    split: str
    split_digest: str
    data_digest: str
    comparison: Compared
    config: tuple[tuple[str, str | None, str | None], ...] = ()  # differences in rankline.yaml: key, in a, in b


def compare_job(a: str, b: str, metric: str, settings: Settings, reporter: Reporter) -> CompareResult:
    """Compare the second run with the first, on the users and held-out interactions of both."""
    tracking.open_store(settings.tracking_uri)
    model = settings.names.model
    runs = find_run(a, model), find_run(b, model)
    if runs[0].run_id == runs[1].run_id:
        raise InputError(f"{a} and {b} are one and the same run, {runs[0].run_id}")
    reporter.progress("read", 0, None)
    first, second = _stored_evaluation(runs[0]), _stored_evaluation(runs[1])
    reporter.progress("compare", 0, None)
    comparison = compare_runs(first, second, metric)
    config = tuple(differences(*(text_of(run, FILE_NAME) for run in runs)))
    return CompareResult(*runs, first.split_name, first.split_digest, first.data_digest, comparison, config)


def _stored_evaluation(run: RunRef) -> StoredEvaluation:
    evaluation = evaluation_of(run)
    if evaluation is None:
        raise InputError(
            f"{run.label} can't be compared: it was trained before runs were evaluated (or with --holdout 0); "
            "train again"
        )
    return evaluation
