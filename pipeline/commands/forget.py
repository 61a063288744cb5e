"""`rankline forget`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    settings_here,
)
from pipeline.console import Console
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.jobs.forget import Forgetting

__all__: list[str] = []


@app.command("forget", rich_help_panel="The warehouse", epilog="Example: rankline forget 42 --dry-run")
def _forget(
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
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Delete a user from raw.*, the mart and the published tables, and name the runs that still hold them.

    What is scored later leaves them out, whichever model it is by. Exit status 3 where nobody of that id is
    known, or a table can't be deleted from; 0 where they were forgotten before.
    """
    console = Console(log_format)
    if (user is None) != again or (lift and again):
        raise UsageError("Name one user, or --again for all who were forgotten before")
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    if not (yes or dry_run or lift or asks):
        raise UsageError("No terminal to ask on: --yes says that rows are to be deleted, --dry-run counts them")
    settings = settings_here()
    from pipeline.jobs.forget import count_job, forget_again_job, forget_job, lift_job

    if lift and user is not None:
        _show_lifted(console, lift_job(user, settings))
        return
    if not (yes or dry_run):
        n_rows, address = count_job(user, settings)
        who = "all who were forgotten before" if user is None else f"user {user!r}"
        if not typer.confirm(f"Delete {n_rows:,} rows of {who} in {address}, for good?", err=True):
            raise UsageError("Not confirmed: nothing was deleted")
    with console.working() as reporter:
        if user is None:
            result = forget_again_job(settings, reporter, dry_run)
        else:
            result = forget_job(user, settings, reporter, dry_run)
    _show(console, result)
    result.check()


def _show_lifted(console: Console, was_listed: bool) -> None:
    if console.json:
        console.result("lifted", {"was_listed": was_listed})
    elif was_listed:
        console.print("the user is off the list, and gets a list of recommendations again")
    else:
        console.print("the user was not on the list of those who were forgotten: nothing to do")


def _show(console: Console, result: Forgetting) -> None:
    """What was deleted, what is left and where, and what to do. It goes into logs: without the id."""
    from pipeline.jobs.forget import purge_commands

    commands = purge_commands(result)
    if console.json:
        metadata: dict[str, Any] = {
            "rows": {place.table: place.n_rows for place in result.before},
            "left": {place.table: place.n_rows for place in result.left},
            "already": result.already,
        }
        if result.holders is not None:
            metadata["runs"] = [
                {"run_id": one.run_id, "versions": one.versions, "files": one.files} for one in result.holders.found
            ]
            metadata |= {"unread": result.holders.unread, "running": result.holders.running, "commands": commands}
        console.result("forgotten" if result.deleted else "counted", metadata)
        return
    ours = [place for place in result.before if place.deletable]
    for place in ours:
        console.print(f"{place.table}: {place.n_rows:,} row(s) {'deleted' if result.deleted else 'to delete'}")
    if not ours:
        again = ": forgotten before" if result.already else ""
        console.print(f"no rows in the tables of {result.address}{again}")
    for place in result.left:
        if not place.ours:
            console.print(f"{place.table}: {place.n_rows:,} row(s), a table of your own: delete them there")
    if result.holders is not None:
        _show_holders(console, result, commands)
    if result.deleted:
        console.print(
            "rankline score leaves them out from now on, whichever model it is by. Not looked into: tables of other "
            "databases, that a --query of yours reads, and input files"
        )


def _show_holders(console: Console, result: Forgetting, commands: list[str]) -> None:
    assert result.holders is not None  # noqa: S101  (the caller's)
    for one in result.holders.found:
        versions = ", ".join(f"rankline/{version}" for version in one.versions)
        state = " (deleted, its files are still there)" if one.deleted else " (gone, its model is still there)"
        console.print(
            f"run {one.run_id}{f', {versions}' if versions else ''} still holds the user: {', '.join(one.files)}"
            f"{state if one.deleted or one.purged else ''}"
        )
    for folder in result.holders.kept:
        console.print(f"{folder}, a training that was never logged, still holds the user")
    for source in sorted({one.source for one in result.holders.found if one.source}):
        console.print(f"trained on {source}: delete the user there too")
    for run in result.holders.running:
        console.print(f"run {run} is still running: it may hold the user; look again when it is over (--dry-run)")
    for reason in result.holders.unread:
        console.print(f"run {reason}: can't be read, so it may hold the user")
    if not (result.holders.found or result.holders.kept):
        console.print(f"no run in {result.store} holds them")
    if commands:
        console.print("to be rid of these, train again (rankline train, then promote it and score), then:")
        for command in commands:
            console.print(f"  {command}")
        if result.champion and any(result.champion in one.versions for one in result.holders.found):
            console.print(f"rankline/{result.champion} is champion: promote another before it is deleted")
        console.print("(mlflow gc also takes away experiments that were deleted before)")
