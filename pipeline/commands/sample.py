"""`rankline sample`."""

from __future__ import annotations

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    settings_here,
)
from pipeline.console import Console

__all__: list[str] = []


@app.command("sample", rich_help_panel="The warehouse", epilog="Example: rankline sample")
def _sample(log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Load 100,004 real MovieLens ratings into the warehouse's raw tables."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.warehouse import sample_job

    with console.working() as reporter:
        sample_job(settings, reporter)
