"""`rankline forget`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command
from pipeline.errors import UsageError

__all__: list[str] = []


@command("forget", panel=WAREHOUSE, examples=("rankline forget 42 --dry-run", "rankline forget 42 --yes"))
def _forget(
    run: Invocation,
    user: Annotated[
        str | None, typer.Argument(help="The user's id, as the tables have it.", show_default=False)
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", envvar="RANKLINE_YES", help="Don't ask; needed where no terminal is.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="RANKLINE_DRY_RUN", help="Count rows and name runs; change nothing.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            envvar="RANKLINE_AGAIN",
            help="Instead of one user: delete what has come back of all who were forgotten, "
            "as after a table was loaded anew.",
        ),
    ] = False,
    lift: Annotated[
        bool,
        typer.Option(
            "--lift", envvar="RANKLINE_LIFT", help="The user came back of their own will: they may have a list again."
        ),
    ] = False,
) -> Outputs:
    """Delete a user's rows and name the runs that still hold them.

    Rows of raw.*, the mart and all published sets are deleted. What is scored later leaves the user out, with
    every model. Exit status 3 where nobody of that id is known, or a table can't be deleted from; 0 where they were
    forgotten before.
    """
    if (user is None) != again or (lift and again):
        raise UsageError("Name one user, or --again for all who were forgotten before")
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    if not (yes or dry_run or lift or asks):
        raise UsageError("No terminal to ask on: --yes says that rows are to be deleted, --dry-run counts them")
    from pipeline.cli.output.forgetting import forget_output, lift_output
    from pipeline.cli.redis_cache import forget_in_cache
    from pipeline.jobs.forget import count_job, forget_again_job, forget_job, lift_job

    if lift and user is not None:
        return lift_output(lift_job(user, run.settings))
    if not (yes or dry_run):
        n_rows, address = count_job(user, run.settings)
        who = "all who were forgotten before" if user is None else f"user {user!r}"
        if not typer.confirm(f"Delete {n_rows:,} rows of {who} in {address}, for good?", err=True):
            raise UsageError("Not confirmed: nothing was deleted")
    if user is None:
        return forget_output(forget_again_job(run.settings, run.reporter, dry_run))
    result = forget_job(user, run.settings, run.reporter, dry_run)
    if not dry_run:
        forget_in_cache(user, run)
    return forget_output(result)
