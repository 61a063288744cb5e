"""`rankline restore`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command import OPERATE, Invocation, Outputs, command

__all__: list[str] = []


@command(
    "restore",
    panel=OPERATE,
    examples=("rankline restore /backups/rankline --dry-run", "rankline restore /backups/rankline"),
)
def _restore(
    run: Invocation,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a backup.", show_default=False)],
    replace: Annotated[
        str,
        typer.Option(
            "--replace",
            envvar="RANKLINE_REPLACE",
            metavar="yes|no",
            help="yes puts the backup's in the place of what is newer or other here; files are moved aside.",
        ),
    ] = "no",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", envvar="RANKLINE_DRY_RUN", help="Compare all digests, show what is in it, end."),
    ] = False,
) -> Outputs:
    """Put a backup back.

    What is there already stays where it is equal, newer or other. Who was forgotten since the backup, as the warehouse
    and the interaction log here know it, stays forgotten; nothing is shipped twice. Stop the service first. It may be
    stopped anywhere and run again.
    """
    if replace not in ("yes", "no"):
        raise typer.BadParameter(f"{replace!r} is not yes|no", param_hint="--replace")
    from pipeline.cli.output.backup import restore_output
    from pipeline.jobs.restore import inspect_job, restore_job

    if dry_run:
        return restore_output(inspect_job(folder, run.reporter))
    now = datetime.now(UTC)
    return restore_output(restore_job(folder, run.settings, run.reporter, now, replace == "yes"))
