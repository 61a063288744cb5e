"""`rankline score`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.options import ScoreOptions

__all__: list[str] = []


@command(
    "score",
    panel=RECOMMENDATIONS,
    examples=("rankline score", "rankline score --model rankline@champion --k 20"),
    specs=(ScoreOptions,),
    named=True,
)
def _score(
    run: Invocation,
    spec: ScoreOptions,
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

    if fill_cache:
        return score_output(score_job(spec, run.settings, run.reporter, filling(run)))
    return score_output(score_job(spec, run.settings, run.reporter))
