"""`rankline score`."""

from __future__ import annotations

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
def _score(run: Invocation, spec: ScoreOptions) -> Outputs:
    """Rank for every user and publish analytics.recommendations."""
    from pipeline.cli.output.publishing import score_output
    from pipeline.jobs.score import score_job

    return score_output(score_job(spec, run.settings, run.reporter))
