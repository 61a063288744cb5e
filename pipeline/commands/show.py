"""`rankline show`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    Model,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command("show", rich_help_panel="Recommendations", epilog="Example: rankline show --user 42")
def _show(
    model: Model = None,
    user: Annotated[
        str | None, typer.Option("--user", envvar="RANKLINE_USER", help="Whose list to show. Default: the first.")
    ] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show a version's metrics, one user's published list, and where everything is."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.look import show_job

    with console.working() as reporter:
        shown = show_job(model, settings, reporter, user)
    console.shown(shown, settings)
