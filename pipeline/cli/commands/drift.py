"""`rankline drift`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from pipeline.cli.command import OPERATE, Invocation, Outputs, command
from pipeline.errors import UsageError
from pipeline.options import DriftLimits, DriftOptions, NotifyOptions

__all__: list[str] = []


@command(
    "drift",
    panel=OPERATE,
    examples=(
        "rankline drift",
        "rankline drift --max-psi 0.2 --json",
        "RANKLINE_NOTIFY='slack+https://hooks.slack.com/services/…' rankline drift",
    ),
    specs=(DriftOptions, DriftLimits, NotifyOptions),
    named=True,
)
def _drift(
    run: Invocation,
    options: DriftOptions,
    limits: DriftLimits,
    telling: NotifyOptions,
    now: Annotated[
        str | None,
        typer.Option(
            "--now",
            envvar="RANKLINE_NOW",
            metavar="TIME",
            help="Measure as of this time (UTC), e.g. 2026-11-29T02:00. Default: the clock.",
        ),
    ] = None,
) -> Outputs:
    """Measure drift and the lists' success, and tell of alerts.

    What users do against what the champion learned from; the published lists against what users did afterwards, beside
    what most popular would have reached; the age of the table, the data and the log. All of it is recorded by day on
    the champion's run. Alerts besides: a training that failed, a gate that refused three times. docs/monitoring.md says
    what each measure is, and what to do.

    Exit status 3: a limit is passed.
    """
    from pipeline.cli.output.drift import drift_output
    from pipeline.jobs.drift import DriftRequest, measure_drift
    from pipeline.monitoring.alerts import Notifier

    at = _time(now)
    # First: a target that can't be read is said before the work.
    notifier = Notifier(telling.targets, run.settings.state_path, hours=telling.notify_hours)
    result = measure_drift(DriftRequest(run.settings, run.reporter, at, options, limits))
    told = notifier.notify(result.alerts, at) if telling.targets else None
    return drift_output(result, told)


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--now takes a time such as 2026-11-29T02:00, got {text!r}") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
