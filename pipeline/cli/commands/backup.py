"""`rankline backup`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command import OPERATE, Invocation, Outputs, command

__all__: list[str] = []


@command("backup", panel=OPERATE, examples=("rankline backup /backups/rankline", "rankline backup DIR --json"))
def _backup(
    run: Invocation,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder for the backup alone, new or with one.", show_default=False)
    ],
) -> Outputs:
    """Write what a machine needs to serve the same lists again.

    The published sets, the log of publications, digests of who was forgotten, rules, MLflow's store with the artifacts
    of the last champions, and this host's interaction log; of an embedded warehouse all tables. A backup in DIR is
    replaced in one step. Keys are not in it: rankline key add makes new ones.
    """
    from pipeline.cli.output.backup import backup_output
    from pipeline.jobs.backup import backup_job

    return backup_output(backup_job(folder, run.settings, run.reporter, datetime.now(UTC)))
