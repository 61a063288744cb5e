"""`rankline doctor`."""

from __future__ import annotations

import sys

import typer

from pipeline.cli.app import app
from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command

__all__: list[str] = []


@command("doctor", panel=WAREHOUSE, examples=("rankline doctor", "rankline doctor --json"), named=True)
def _doctor(run: Invocation) -> Outputs:
    """Check the settings, the machine, the warehouse and MLflow.

    Each finding says what to do; nothing is changed, and secrets are not shown. Exit status 0 where nothing fails
    (a warning is no failure), 4 where a server can't be reached or refuses, 3 where something else fails.
    """
    from pipeline.cli.output.doctor import doctor_output
    from pipeline.jobs.doctor.job import doctor_job

    return doctor_output(doctor_job(_variables(), _to_stderr if run.debug else lambda _: None, names=run.names))


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


def _variables() -> set[str]:
    """The environment variables of all options of all commands."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    names = {"RANKLINE_VERSION"}
    for entry in commands.values():
        for parameter in entry.params:
            envvar = getattr(parameter, "envvar", None)
            names |= {envvar} if isinstance(envvar, str) else set(envvar or ())
    return names
