"""`rankline rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.cli.options import Reason
from pipeline.errors import UsageError

__all__: list[str] = []


@command(
    "rollback",
    panel=MODELS,
    examples=(
        'rankline rollback --reason "complaints about the lists of new users"',
        "rankline rollback --table",
    ),
    named=True,
)
def _rollback(
    run: Invocation,
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
            "--keep", envvar="RANKLINE_KEEP", min=1, help="With --table: published sets to keep besides the newest."
        ),
    ] = 5,
    reason: Reason = None,
    accept_changes: Annotated[
        str,
        typer.Option(
            "--accept-changes",
            envvar="RANKLINE_ACCEPT_CHANGES",
            metavar="yes|no",
            help="With --table: yes goes back to a set with items that rules leave out by now.",
        ),
    ] = "no",
) -> Outputs:
    """Go back to the champion, or the table, before.

    Without --table the champion before becomes the champion again, with it the table before is published again.
    Repeated, each goes back one more.
    """
    if reason == "none":  # `mlflow run` passes this for a parameter that is not given
        reason = None
    if accept_changes not in ("yes", "no"):
        raise typer.BadParameter(f"{accept_changes!r} is not yes|no", param_hint="--accept-changes")
    if table:
        if reason is not None:
            raise UsageError("--reason is recorded with a champion: leave it out with --table")
        from pipeline.cli.output.publishing import rollback_table_output
        from pipeline.jobs.rollback import rollback_table_job

        accepted = accept_changes == "yes"
        return rollback_table_output(rollback_table_job(keep, accepted, run.settings, run.reporter))
    from pipeline.cli.output.promotion import rollback_output
    from pipeline.jobs.rollback import rollback_job

    return rollback_output(rollback_job(reason, run.settings, run.reporter), run.names)
