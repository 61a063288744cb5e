"""`rankline init`."""

from __future__ import annotations

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command(
    "init",
    rich_help_panel="The warehouse",
    epilog="Example: RANKLINE_WAREHOUSE=clickhouse://user:password@host:8123 rankline init",
)
def _init(log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Make the tables that are missing and bring the mart's view up to its SQL file."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.warehouse import init_job

    with console.working() as reporter:
        init_job(settings, reporter)
