"""The output of `nightly` and `retain`."""

from __future__ import annotations

from pipeline.cli.output.model import Block, Output, Styled, Table
from pipeline.jobs.nightly_result import NightlyResult
from pipeline.jobs.retain import RetainResult

__all__ = ["nightly_output", "retain_output"]

_STYLES = {"done": "green", "skipped": "dim", "stopped": "yellow", "failed": "bold red"}


def nightly_output(result: NightlyResult) -> Output:
    """A line a step, the alerts, and the exit status for a scheduler."""
    rows = [
        (step.name, Styled(step.state, _STYLES[step.state]), f"{step.seconds:.1f}", step.reason)
        for step in result.steps
    ]
    columns, left = ("step", "", "seconds", "why"), ("step", "", "why")
    blocks: list[Block] = [Table(columns, rows, left=left)]
    blocks += [f"alert: {alert.message}" for alert in result.alerts]
    if result.exit_status == 4:
        blocks.append("the night is not over: the same command goes on with it")
    return Output("nightly", result.to_json(), blocks, exit_status=result.exit_status)


def retain_output(result: RetainResult) -> Output:
    """What goes, what stays and why."""
    rows = [(f"{result.model}/{version}", "; ".join(reasons)) for version, reasons in result.kept.items()]
    blocks: list[Block] = [Table(("stays", "why"), rows, left=("stays", "why"))] if rows else []
    gone = [f"{result.model}/{version}" for version in result.versions]
    for what, names in (
        ("versions", gone),
        ("begun before", result.finished),
        ("staged tables", [f"analytics.{name}" for name in result.tables]),
        ("kept trainings", result.trainings),
        ("logs", result.logs),
        ("exposures", [f"{n:,} of {name}" for name, n in result.exposures.by_experiment.items()]),
        ("outcomes", [f"{result.exposures.n_outcomes:,}"] if result.exposures.n_outcomes else []),
    ):
        if names:
            blocks.append(f"{'would go' if result.dry_run else 'gone'}, {what}: {', '.join(names)}")
    return Output("retention", result.to_json(), [*blocks, result.sentence])
