"""`rankline experiment`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.command import OPERATE, Invocation, Outputs, command
from pipeline.errors import UsageError
from pipeline.options import ExperimentOptions, PromotionLimits

if TYPE_CHECKING:
    from pipeline.jobs.experiment import Winner
    from pipeline.jobs.experiment_report import Channel

__all__: list[str] = []

_ACTIONS = ("start", "report", "stop", "list", "aa-check")


@command(
    "experiment",
    panel=OPERATE,
    examples=(
        "rankline experiment aa-check",
        "rankline experiment start new_als --versions rankline@champion,7",
        "rankline experiment report new_als",
        "rankline experiment stop new_als",
    ),
    specs=(ExperimentOptions, PromotionLimits),
    named=True,
)
def _experiment(
    run: Invocation,
    spec: ExperimentOptions,
    limits: PromotionLimits,
    action: Annotated[str, typer.Argument(metavar="|".join(_ACTIONS), help="What to do.")],
    test: Annotated[str | None, typer.Argument(metavar="NAME", help="Of the experiment.")] = None,
    versions: Annotated[
        str | None, typer.Option("--versions", metavar="A,B", help="start: what there is, and what is tested.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="A,B", help="Percentages of the users.")] = "50,50",
    winner: Annotated[
        str, typer.Option("--winner", metavar="auto|none|a|b", help="stop: whom to promote; auto: as the report says.")
    ] = "auto",
    channel: Annotated[
        str, typer.Option("--channel", metavar="auto|api|table", help="report: whose lists are compared.")
    ] = "auto",
    decision: Annotated[
        Path | None, typer.Option("--decision", metavar="PATH", help="report: where decision.json is written.")
    ] = None,
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="report: estimate a version that was not shown.")
    ] = False,
    days: Annotated[float, typer.Option("--days", min=0.01, help="aa-check: the last days of the data.")] = 28.0,
) -> Outputs:
    """Test two versions on users: start, report, stop.

    Users are assigned by a salted hash. The service and the table of `rankline score` serve each user the version of
    their arm, and log what was shown. The report says the join rate first, then the difference with an interval that
    holds at every look, and what follows: ship, hold or roll back. stop promotes the winner through the gate.

    Exit status 3: aa-check finds too much, or the gate refuses the winner.
    """
    _check(action, test, versions, winner, channel)
    from pipeline.cli.output import experiments as output
    from pipeline.evaluation.gate_checks import Gate
    from pipeline.jobs.experiment import list_job, start_job, stop_job
    from pipeline.jobs.experiment_aa import aa_job
    from pipeline.jobs.experiment_report import report_job

    settings, now = run.settings, datetime.now(UTC)
    if action == "list":
        return output.list_output(list_job(settings))
    if action == "aa-check" or test is None:
        return output.aa_output(aa_job(spec, split, days, settings, run.reporter))
    if action == "start":
        return output.start_output(start_job(test, versions or "", split, spec, settings, run.reporter, now), run.names)
    if action == "stop":
        chosen: Winner = winner  # type: ignore[assignment]  # `_check` has seen to it
        gate = Gate(**asdict(limits))
        return output.stop_output(stop_job(test, chosen, gate, settings, run.reporter, now), run.names)
    of: Channel = channel  # type: ignore[assignment]  # `_check` has seen to it
    return output.report_output(report_job(test, of, settings, run.reporter, now, off_policy, decision))


def _check(action: str, name: str | None, versions: str | None, winner: str, channel: str) -> None:
    if action not in _ACTIONS:
        raise typer.BadParameter(f"{action!r} is not {'|'.join(_ACTIONS)}", param_hint="|".join(_ACTIONS))
    if winner not in ("auto", "a", "b", "none"):
        raise UsageError(f"--winner must be auto, a, b or none, got {winner!r}")
    if channel not in ("auto", "api", "table"):
        raise UsageError(f"--channel must be auto, api or table, got {channel!r}")
    if (name is None) != (action in ("list", "aa-check")):
        raise UsageError("Write rankline experiment start|report|stop NAME, or rankline experiment list|aa-check")
    if (versions is None) == (action == "start"):
        raise UsageError("Write rankline experiment start NAME --versions A,B; the other actions take no --versions")
