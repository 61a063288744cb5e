"""`rankline recommend`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.cli.options import Model

__all__: list[str] = []


@command(
    "recommend",
    panel=RECOMMENDATIONS,
    examples=("rankline recommend 42 --k 5", "rankline recommend 42 --model rankline/3"),
    named=True,
)
def _recommend(
    run: Invocation,
    user: Annotated[str, typer.Argument(help="The user's id.")],
    k: Annotated[int, typer.Option("--k", envvar="RANKLINE_K", min=1, help="Items, at most.")] = 10,
    max_per_genre: Annotated[
        int | None,
        typer.Option(
            "--max-per-genre", envvar="RANKLINE_MAX_PER_GENRE", min=1, help="Items of one genre in the list, at most."
        ),
    ] = None,
    max_per_series: Annotated[
        int | None,
        typer.Option("--max-per-series", envvar="RANKLINE_MAX_PER_SERIES", min=1, help="Items of one series, at most."),
    ] = None,
    model: Model = None,
    unknown: Annotated[
        str,
        typer.Option(
            "--unknown",
            metavar="error|popular",
            help="For a user who is not in the model: an error, or what is popular. Not from the environment.",
        ),
    ] = "error",
) -> Outputs:
    """Show the list that a model makes for a user.

    Titles are shown where the warehouse has them.
    """
    if unknown not in ("error", "popular"):
        raise typer.BadParameter(f"{unknown!r} is not error|popular", param_hint="--unknown")
    from pipeline.cli.output.recommendations import listing_output
    from pipeline.jobs.recommend import recommend_job

    popular = unknown == "popular"
    limits = max_per_genre, max_per_series
    return listing_output(recommend_job(user, k, model, popular, run.settings, run.reporter, limits))
