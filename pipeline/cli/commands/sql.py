"""`rankline sql`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command
from pipeline.cli.output.model import Output

__all__: list[str] = []


@command(
    "sql",
    panel=WAREHOUSE,
    examples=(
        'rankline sql "SELECT * FROM analytics.recommendations WHERE user_id = 1"',
        'rankline sql "SELECT count() FROM raw.ratings" --output json',
    ),
    json_option=False,  # --output sets the form of the rows
)
def _sql(
    run: Invocation,
    statement: Annotated[str, typer.Argument(help="One SQL statement.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            envvar="RANKLINE_OUTPUT",
            metavar="table|tsv|json",
            help="How to print rows. Default: table on a terminal, else tsv.",
        ),
    ] = "",
) -> Outputs:
    """Run one SQL statement in the warehouse.

    The embedded warehouse has no client of its own: this is the way to look into it.
    """
    if output not in ("", "table", "tsv", "json"):
        raise typer.BadParameter(f"{output!r} is not table|tsv|json", param_hint="--output")
    from pipeline.cli.output.rows import row_blocks
    from pipeline.jobs.warehouse import sql_job

    return Output("rows", {}, row_blocks(*sql_job(statement, run.settings), output), always_blocks=True)
