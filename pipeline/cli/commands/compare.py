"""`rankline compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.cli.options import Metric

__all__: list[str] = []


@command(
    "compare", panel=MODELS, examples="rankline compare rankline@champion rankline/3 --metric recall_at_10", named=True
)
def _compare(
    run: Invocation,
    run_a: Annotated[str, typer.Argument(help="A run's id (or its beginning) or name, rankline/3, rankline@champion.")],
    run_b: Annotated[str, typer.Argument(help="The run to compare with it.")],
    metric: Metric = "ndcg_at_10",
) -> Outputs:
    """Compare two runs user by user, with intervals.

    B is compared with A on the users and held-out interactions that both were evaluated on, overall and for users
    with little (cold), some (warm) and much (hot) history: means, the difference with its 95 % bootstrap interval,
    p of Wilcoxon's signed-rank test, and how much the lists overlap (mean Jaccard). Refused where the runs were
    trained on different data or evaluated with different splits.
    """
    from pipeline.cli.output.promotion import compare_output
    from pipeline.jobs.compare import compare_job

    return compare_output(compare_job(run_a, run_b, metric, run.settings, run.reporter))
