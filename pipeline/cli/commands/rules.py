"""`rankline rules`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command
from pipeline.errors import UsageError

__all__: list[str] = []


@command(
    "rules",
    panel=WAREHOUSE,
    examples=("rankline rules show", "rankline rules push takedown.csv", "rankline rules push all.csv --replace"),
    named=True,
)
def _rules(
    run: Invocation,
    action: Annotated[str, typer.Argument(metavar="show|push", help="Show the rules, or load some from a file.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A CSV file: action, item_id or genre, valid_from, valid_until, reason, model, quota, label."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="The file's rules take the place of all that are there.")
    ] = False,
) -> Outputs:
    """Show or load rules about items: deny, allow, promote.

    They hold for the next `rankline score`, for `rankline recommend` and for served models, without a training.
    """
    if action not in ("show", "push"):
        raise typer.BadParameter(f"{action!r} is not show|push", param_hint="show|push")
    if (action == "push") != (file is not None) or (replace and action == "show"):
        raise UsageError("Write rankline rules show, or rankline rules push FILE.csv [--replace]")
    from pipeline.cli.output.rules import rules_output
    from pipeline.jobs.rules import push_job, show_rules_job

    if file is None:
        return rules_output(show_rules_job(run.settings))
    return rules_output(push_job(file, replace, run.settings, run.reporter))
