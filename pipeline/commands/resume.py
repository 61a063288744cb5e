"""`rankline resume`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import Debug, LogFormat, settings_here
from pipeline.console import Console

__all__: list[str] = []


@app.command("resume", rich_help_panel="Models", epilog="Example: rankline resume 3f2a")
def _resume(
    kept: Annotated[
        str | None,
        typer.Argument(metavar="[PATH|RUN_ID]", help="A folder, or a run's id. Default: all that is kept."),
    ] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Log what was trained while MLflow was away: into the same run, registered once, however often this is run."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.resume import resume_job

    with console.working() as reporter:
        done = resume_job(kept, settings, reporter)
    for one in done:
        if console.json:
            console.result("logged", asdict(one))
        else:
            console.print(f"logged {one.name} (run {one.run_id[:8]}) as rankline/{one.version}")
