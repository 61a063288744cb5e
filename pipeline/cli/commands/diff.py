"""`rankline diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command

__all__: list[str] = []


@command("diff", panel=RECOMMENDATIONS, examples="rankline diff", named=True)
def _diff(
    run: Invocation,
    a: Annotated[str | None, typer.Argument(help="Table of a published set. Default: the one before.")] = None,
    b: Annotated[str | None, typer.Argument(help="Another. Default: the published one.")] = None,
) -> Outputs:
    """Compare two published sets: users, lists, items."""
    from pipeline.cli.output.publishing import diff_output
    from pipeline.jobs.diff import diff_job

    return diff_output(diff_job(a, b, run.settings))
