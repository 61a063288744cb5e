"""`rankline why`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command

__all__: list[str] = []


@command("why", panel=RECOMMENDATIONS, examples="rankline why 42 318", named=True)
def _why(
    run: Invocation,
    user: Annotated[str, typer.Argument(help="The user's id.")],
    item: Annotated[str, typer.Argument(help="The item's id.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Other artifacts than those of the run that the table names. Not from the environment.",
        ),
    ] = None,
) -> Outputs:
    """Explain why an item is, or is not, in a user's published list.

    The row is computed again from the artifacts, factor by factor. Exit status 3 where it is not the published one.
    """
    from pipeline.cli.output.explanation import why_output
    from pipeline.jobs.why import why_job

    return why_output(why_job(user, item, model, run.settings, run.reporter))
