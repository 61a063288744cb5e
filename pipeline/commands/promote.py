"""`rankline promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    Metric,
    Reason,
    settings_here,
)
from pipeline.console import Console
from pipeline.errors import NotPromotedError

__all__: list[str] = []


@app.command("promote", rich_help_panel="Models", epilog="Example: rankline promote rankline/3 --margin 0.02")
def _promote(
    model: Annotated[
        str | None, typer.Argument(help="rankline/3, or the run that registered it. Default: the newest version.")
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", envvar="RANKLINE_MARGIN", help="How much worse it may be, as a share.")
    ] = 0.05,
    segment_margin: Annotated[
        float,
        typer.Option("--segment-margin", envvar="RANKLINE_SEGMENT_MARGIN", help="How much a segment may fall."),
    ] = 0.2,
    metric: Metric = "ndcg_at_10",
    force: Annotated[
        bool, typer.Option("--force", envvar="RANKLINE_FORCE", help="Promote against the gate; needs --reason.")
    ] = False,
    reason: Reason = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Make a version the champion, if the gate holds; the decision is recorded on it either way.

    The gate: its artifacts load and their checksums hold; it was never rolled back; it is better than most popular
    (the 95 % interval of the difference is above 0); it was judged by the champion's split; the low end of the 95 %
    interval of its difference to the champion, user by user, is at or above -margin times the champion's mean; in no
    segment (cold, warm, hot) of at least 30 users does the mean fall by more than the segment margin with the
    interval wholly below 0. An interval too wide to tell does not pass; what is said then names the users or the
    margin that would do. Where there is no champion, beating most popular is enough. Where the champion was trained
    on other data, the two are compared by what each has more than most popular, and refused where that is worse
    beyond the margin with the interval wholly below 0. Exit status 3: not promoted. docs/promotion.md has the why.
    """
    console = Console(log_format)
    settings = settings_here()
    from pipeline import verdicts
    from pipeline.jobs.promote import promote_job
    from pipeline.promotion import Gate

    if model == "none":  # as `mlflow run` says that it is not given
        model = None
    gate = Gate(metric, margin, segment_margin)
    with console.working() as reporter:
        result = promote_job(model, gate, force, reason, settings, reporter)
    verdicts.promoted(result, console.json)
    if result.outcome == "refused":
        first, *others = result.decision.failed
        more = f" (and {len(others)} more of the gate's checks)" if others else ""
        raise NotPromotedError(f"{result.version} is not promoted: {first.summary}{more}")
