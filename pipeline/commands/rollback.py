"""`rankline rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    Reason,
    settings_here,
)
from pipeline.console import Console
from pipeline.errors import UsageError

__all__: list[str] = []


@app.command(
    "rollback",
    rich_help_panel="Models",
    epilog='Example: rankline rollback --reason "complaints about the lists of new users"',
)
def _rollback(
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            envvar="RANKLINE_TABLE",
            help="Not the champion: the published table goes back to the one before.",
        ),
    ] = False,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", envvar="RANKLINE_KEEP", min=1, help="With --table: published tables to keep besides the newest."
        ),
    ] = 5,
    reason: Reason = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Make the champion before the champion again, or with --table the table before the published one.

    Repeated, each goes back one more.
    """
    console = Console(log_format)
    settings = settings_here()
    if reason == "none":  # as `mlflow run` says that it is not given
        reason = None
    if table:
        if reason is not None:
            raise UsageError("--reason is recorded with a champion: leave it out with --table")
        from pipeline.jobs.rollback_table import rollback_table_job

        with console.working() as reporter:
            rollback_table_job(keep, settings, reporter)
        return
    from pipeline import verdicts
    from pipeline.jobs.promote import rollback_job

    with console.working() as reporter:
        result = rollback_job(reason, settings, reporter)
    verdicts.rolled_back(result, console.json)
