"""`rankline sample`."""

from __future__ import annotations

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command

__all__: list[str] = []


@command("sample", panel=WAREHOUSE, examples="rankline sample")
def _sample(run: Invocation) -> Outputs:
    """Load 100,004 real MovieLens ratings into the raw tables."""
    from pipeline.cli.output.warehouse import sample_output
    from pipeline.jobs.warehouse import sample_job

    return sample_output(sample_job(run.settings))
