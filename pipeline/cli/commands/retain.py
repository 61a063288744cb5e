"""`rankline retain`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import OPERATE, Invocation, Outputs, command
from pipeline.options import RetainOptions

__all__: list[str] = []


@command(
    "retain",
    panel=OPERATE,
    examples=("rankline retain --dry-run", "rankline retain --keep-versions 10"),
    specs=(RetainOptions,),
    named=True,
)
def _retain(
    run: Invocation,
    options: RetainOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="RANKLINE_DRY_RUN", help="Say what would go; delete nothing.")
    ] = False,
) -> Outputs:
    """Delete old versions and what is behind them, for good.

    The newest versions and the champions of the last days stay, and so does whatever an alias, a published table, a
    rollback or a folded version needs. Of a version that goes, its files and models go, and its run stays with its
    metrics. Staged tables that jobs left behind, trainings that MLflow never took, and logs of jobs go, too. The
    nightly job does the same.
    """
    from datetime import UTC, datetime

    from pipeline.cli.output.nightly import retain_output
    from pipeline.jobs.retain import RetainRequest, retain

    return retain_output(retain(RetainRequest(run.settings, run.reporter, datetime.now(UTC), options, dry_run)))
