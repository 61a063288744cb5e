"""`rankline diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command("diff", rich_help_panel="Recommendations", epilog="Example: rankline diff")
def _diff(
    a: Annotated[str | None, typer.Argument(help="A published table. Default: the one before.")] = None,
    b: Annotated[str | None, typer.Argument(help="Another. Default: the published one.")] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Tell two published tables apart: users gained, lost and changed, overlap, items won and lost."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.console_tables import show_diff
    from pipeline.jobs.diff import diff_job

    show_diff(console, diff_job(a, b, settings))
