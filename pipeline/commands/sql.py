"""`rankline sql`."""

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


@app.command(
    "sql",
    rich_help_panel="The warehouse",
    epilog='Example: rankline sql "SELECT * FROM analytics.recommendations WHERE user_id = 1"',
)
def _sql(
    statement: Annotated[str, typer.Argument(help="One SQL statement.")],
    output: Annotated[
        str, typer.Option("--output", envvar="RANKLINE_OUTPUT", metavar="table|tsv|json", help="How to print rows.")
    ] = "",
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Run a statement in the warehouse; for the embedded one, which has no client at hand."""
    if output not in ("", "table", "tsv", "json"):
        raise typer.BadParameter(f"{output!r} is not table|tsv|json", param_hint="--output")
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.warehouse import sql_job

    columns, rows = sql_job(statement, settings)
    console.rows(columns, rows, output)
