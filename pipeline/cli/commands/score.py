"""`rankline score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.options import EngineOptions, ScoreOptions

__all__: list[str] = []


@command(
    "score",
    panel=RECOMMENDATIONS,
    examples=("rankline score", "rankline score --model rankline@champion --k 20"),
    specs=(ScoreOptions, EngineOptions),
    named=True,
)
def _score(
    run: Invocation,
    spec: ScoreOptions,
    engine: EngineOptions,
    parquet: Annotated[
        Path | None,
        typer.Option(
            "--parquet",
            envvar="RANKLINE_PARQUET",
            metavar="FOLDER",
            help="Write the lists into this new folder, too, as Parquet; it appears once they are published.",
        ),
    ] = None,
    fill_cache: Annotated[
        bool,
        typer.Option(
            "--fill-cache",
            envvar="RANKLINE_FILL_CACHE",
            help="Store each user's list in the Redis of the service (REDIS_URL) besides.",
        ),
    ] = False,
) -> Outputs:
    """Rank for every user and publish analytics.recommendations."""
    from pipeline.cli.output.publishing import score_output
    from pipeline.cli.redis_cache import filling
    from pipeline.jobs.score import score_job

    settings, reporter = run.settings, run.reporter
    if fill_cache:
        return score_output(score_job(spec, settings, reporter, filling(run), engine=engine, parquet=parquet))
    return score_output(score_job(spec, settings, reporter, engine=engine, parquet=parquet))
