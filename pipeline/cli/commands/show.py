"""`rankline show`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.cli.options import Model

__all__: list[str] = []


@command(
    "show", panel=RECOMMENDATIONS, examples=("rankline show", "rankline show --model rankline/3 --user 42"), named=True
)
def _show(
    run: Invocation,
    model: Model = None,
    user: Annotated[
        str | None, typer.Option("--user", envvar="RANKLINE_USER", help="Whose list to show. Default: the first.")
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics/--no-metrics", envvar="RANKLINE_METRICS", help="Whether to show the metrics."),
    ] = True,
) -> Outputs:
    """Show a version's metrics, a published list, and where all is."""
    from pipeline.cli.output.recommendations import version_output
    from pipeline.jobs.show import show_job

    return version_output(show_job(model, run.settings, run.reporter, user), run.settings, metrics)
