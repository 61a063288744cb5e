"""The output of `forget`: what was deleted, what is left and where, and what to do. It never shows the user's id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.cli.output.model import Block, Output
from pipeline.errors import RanklineError
from pipeline.jobs.forget import ForgetResult, purge_commands
from pipeline.options.names import DEFAULT_NAME
from pipeline.tracking.user_search import UserRecords

__all__ = ["forget_output", "lift_output"]


def lift_output(was_listed: bool) -> Output:
    """Whether the user was on the list of forgotten users."""
    line = (
        "the user is off the list, and gets recommendations again"
        if was_listed
        else "the user was not on the list of those who were forgotten: nothing to do"
    )
    return Output("lifted", {"was_listed": was_listed}, [line])


def forget_output(result: ForgetResult) -> Output:
    """Rows by table, the runs whose files still hold the user, and the commands that delete those runs."""
    commands = purge_commands(result)
    blocks: list[Block] = [*_tables(result)]
    if result.holders is not None:
        blocks += _holders(result, result.holders, commands)
    if result.deleted:
        blocks.append(
            "rankline score leaves them out from now on, with every model. Not searched: other databases that a "
            "--query of yours reads, and input files"
        )
    event = "forgotten" if result.deleted else "counted"
    try:
        result.check()
    except RanklineError as error:
        return Output(event, _data(result, commands), blocks, failure=error)
    return Output(event, _data(result, commands), blocks)


def _data(result: ForgetResult, commands: Sequence[str]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "rows": {place.table: place.n_rows for place in result.before},
        "left": {place.table: place.n_rows for place in result.left},
        "already": result.already,
        "logged": result.n_logged,
    }
    if result.holders is not None:
        data["runs"] = [
            {"run_id": run.run_id, "versions": [*map(_number, run.versions)], "files": run.files}
            for run in result.holders.runs
        ]
        data |= {"unread": result.holders.unread, "running": result.holders.running, "commands": commands}
    return data


def _number(version: str) -> str:
    """The version as ``--json`` has it: of the default model the number alone."""
    return version.removeprefix(f"{DEFAULT_NAME}/")


def _tables(result: ForgetResult) -> list[str]:
    deletable = [place for place in result.before if place.deletable]
    done = "deleted" if result.deleted else "to delete"
    lines = [f"{place.table}: {place.n_rows:,} row(s) {done}" for place in deletable]
    if result.n_logged:
        lines.append(f"the interaction log: {result.n_logged:,} interaction(s) and preferences {done}")
    elif not deletable:
        lines.append(f"no rows in the tables of {result.address}{': forgotten before' if result.already else ''}")
    return lines + [
        f"{place.table}: {place.n_rows:,} row(s), a table of your own: delete them there"
        for place in result.left
        if not place.ours
    ]


def _holders(result: ForgetResult, records: UserRecords, commands: Sequence[str]) -> list[str]:
    lines = []
    for run in records.runs:
        versions = "".join(f", {version}" for version in run.versions)
        state = " (deleted, its files are still there)" if run.deleted else ""
        if run.purged and not run.deleted:
            state = " (gone, its model is still there)"
        lines.append(f"run {run.run_id}{versions} still holds the user: {', '.join(run.files)}{state}")
    lines += [f"{folder}, a training that was never logged, still holds the user" for folder in records.pending]
    lines += [
        f"trained on {source}: delete the user there too"
        for source in sorted({run.source for run in records.runs if run.source})
    ]
    lines += [
        f"run {run} is still running and may hold the user; look again when it is over (--dry-run)"
        for run in records.running
    ]
    lines += [f"{what}: can't be read, so it may hold the user" for what in records.unread]
    if not (records.runs or records.pending):
        lines.append(f"no run in {result.store} holds them")
    return lines + _commands(result, records, commands)


def _commands(result: ForgetResult, records: UserRecords, commands: Sequence[str]) -> list[str]:
    if not commands:
        return []
    lines = ["to delete these too, train again (rankline train, then promote and score the new version), then run:"]
    lines += [f"  {line}" for line in commands]
    lines += [
        f"{version} is the champion: promote another version before you delete it" for version in result.champions
    ]
    return [*lines, "(mlflow gc also deletes experiments that were deleted before)"]
