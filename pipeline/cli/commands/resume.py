"""`rankline resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import MODELS, Invocation, Outputs, command

__all__: list[str] = []


@command("resume", panel=MODELS, examples=("rankline resume", "rankline resume 3f2a"))
def _resume(
    run: Invocation,
    training: Annotated[
        str | None,
        typer.Argument(metavar="[PATH|RUN_ID]", help="A folder, or a run's id. Default: every saved training."),
    ] = None,
) -> Outputs:
    """Upload trainings saved locally while MLflow was away.

    Each goes into the run that it began, and is registered once, however often this is repeated.
    """
    from pipeline.cli.output.training import resume_output
    from pipeline.jobs.resume import resume_job

    return [resume_output(result) for result in resume_job(training, run.settings, run.reporter)]
