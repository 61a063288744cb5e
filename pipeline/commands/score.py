"""`rankline score`."""

from __future__ import annotations

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    options_of,
    settings_here,
)
from pipeline.console import Console
from pipeline.spec import ScoreSpec

__all__: list[str] = []


@app.command(
    "score", rich_help_panel="Recommendations", epilog="Example: rankline score --model rankline@champion --k 20"
)
@options_of(ScoreSpec)
def _score(spec: ScoreSpec, log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Rank for every user and publish analytics.recommendations."""
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.score import score_job

    with console.working() as reporter:
        result = score_job(spec, settings, reporter)
    console.scored(result)
