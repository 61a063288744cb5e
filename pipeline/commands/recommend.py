"""`rankline recommend`."""

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


@app.command("recommend", rich_help_panel="Recommendations", epilog="Example: rankline recommend 42 --k 5")
def _recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    k: Annotated[int, typer.Option("--k", envvar="RANKLINE_K", min=1, help="Items, at most.")] = 10,
    model: Model = None,
    unknown: Annotated[
        str,
        typer.Option(
            "--unknown",
            metavar="error|popular",
            help="For a user who is not in the model: an error, or what is popular.",
        ),
    ] = "error",
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show a user's list in the terminal, with titles where the warehouse has them."""
    if unknown not in ("error", "popular"):
        raise typer.BadParameter(f"{unknown!r} is not error|popular", param_hint="--unknown")
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.look import recommend_job

    with console.working() as reporter:
        listing = recommend_job(user, k, model, unknown == "popular", settings, reporter)
    console.listing(listing)
