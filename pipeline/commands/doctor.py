"""`rankline doctor`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command("doctor", rich_help_panel="The warehouse", epilog="Example: rankline doctor --json")
def _doctor(
    as_json: Annotated[
        bool, typer.Option("--json", envvar="RANKLINE_JSON", help="One JSON object, instead of a table.")
    ] = False,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Look at everything that a command needs, and say of each what to do; nothing is changed.

    Versions, settings (secrets are not shown), disk and memory, the warehouse, MLflow, what dead jobs left behind.
    Exit status 0 where nothing fails (a warning is no failure), 4 where a server can't be reached or refuses,
    3 where something else fails.
    """
    console = Console(log_format)
    from pipeline.console_doctor import show_checkup
    from pipeline.jobs.doctor import doctor_job

    result = doctor_job(_variables(), (lambda text: print(text, file=sys.stderr)) if debug else lambda _: None)  # noqa: T201
    show_checkup(console, result, as_json)
    if result.hanging:
        # What still waits for an answer would be waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(result.exit_status)
    raise typer.Exit(result.exit_status)


def _variables() -> set[str]:
    """The variables that options of any command come from."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    found = {"RANKLINE_VERSION"}
    for command in commands.values():
        for parameter in command.params:
            envvar = getattr(parameter, "envvar", None)
            found |= {envvar} if isinstance(envvar, str) else set(envvar or ())
    return found
