"""`rankline why`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command("why", rich_help_panel="Recommendations", epilog="Example: rankline why 42 318")
def _why(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    item: Annotated[str, typer.Argument(help="The item's id.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Other artifacts than those of the run that the table names.",
        ),
    ] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show why an item is, or is not, in a user's published list: the row made again, factor by factor."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.console_tables import show_why
    from pipeline.jobs.why import why_job

    with console.working() as reporter:
        why = why_job(user, item, model, settings, reporter)
    show_why(console, why)
    why.check()
