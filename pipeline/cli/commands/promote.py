"""`rankline promote`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.cli.options import Reason
from pipeline.options import PromotionLimits

__all__: list[str] = []


@command(
    "promote",
    panel=MODELS,
    examples=(
        "rankline promote",
        "rankline promote rankline/3 --margin 0.02",
        'rankline promote rankline/3 --force --reason "new catalogue"',
    ),
    specs=(PromotionLimits,),
    named=True,
)
def _promote(
    run: Invocation,
    limits: PromotionLimits,
    model: Annotated[
        str | None, typer.Argument(help="rankline/3, or the run that registered it. Default: the newest version.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="RANKLINE_FORCE", help="Promote against the gate; needs --reason.")
    ] = False,
    reason: Reason = None,
) -> Outputs:
    """Make a version the champion if it passes the gate.

    The decision is recorded on the version either way. The gate: its artifacts load and their checksums hold; it
    was never rolled back; it is better than most popular (the 95 % interval of the difference is above 0); it was
    evaluated with the champion's split; the low end of the 95 % interval of its difference to the champion, user by
    user, is at or above -margin times the champion's mean; in no segment (cold, warm, hot) of at least 30 users does
    the mean fall by more than the segment margin with the interval wholly below 0. An interval too wide to tell does
    not pass; the message then names the users or the margin that would do. Where there is no champion, being better
    than most popular is enough. Where the champion was trained on other data, the two are compared by what each has
    more than most popular, and refused where that is worse beyond the margin with the interval wholly below 0.

    Exit status 3: not promoted; 4: an evaluation can't be read. docs/promotion.md has the why.
    """
    from pipeline.cli.output.promotion import promote_output
    from pipeline.evaluation.gate_checks import Gate
    from pipeline.jobs.promote import promote_job

    if model == "none":  # `mlflow run` passes this for a parameter that is not given
        model = None
    gate = Gate(**asdict(limits))
    return promote_output(promote_job(model, gate, force, reason, run.settings, run.reporter), run.names)
