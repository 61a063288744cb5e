"""`rankline compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    Metric,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command(
    "compare",
    rich_help_panel="Models",
    epilog="Example: rankline compare rankline@champion rankline/3 --metric recall_at_10",
)
def _compare(
    run_a: Annotated[str, typer.Argument(help="A run's id (or its beginning) or name, rankline/3, rankline@champion.")],
    run_b: Annotated[str, typer.Argument(help="The run to set against it.")],
    metric: Metric = "ndcg_at_10",
    as_json: Annotated[bool, typer.Option("--json", envvar="RANKLINE_JSON", help="Print one JSON object.")] = False,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Set two runs beside each other, user by user: who gains, who loses, is it luck?

    B against A on the users and held-out interactions both were judged by, overall and for users with little
    (cold), some (warm) and much (hot) history: means, the difference with its 95 % bootstrap interval, p of
    Wilcoxon's signed-rank test, and how much the lists overlap (mean Jaccard). Refused where the runs were
    trained on different data or judged by different splits.
    """
    console = Console("text" if as_json else log_format)  # the object is all there is
    settings = settings_here()
    from pipeline import verdicts
    from pipeline.jobs.compare import compare_job

    with console.working() as reporter:
        result = compare_job(run_a, run_b, metric, settings, reporter)
    verdicts.compared(result, as_json, console.json)
