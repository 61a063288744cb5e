"""`rankline init`."""

from __future__ import annotations

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command

__all__: list[str] = []


@command("init", panel=WAREHOUSE, examples="RANKLINE_WAREHOUSE=clickhouse://user:password@host:8123 rankline init")
def _init(run: Invocation) -> Outputs:
    """Create the warehouse's tables and views that are missing.

    A view of the mart that differs from its SQL file is replaced.
    """
    from pipeline.cli.output.warehouse import init_output
    from pipeline.jobs.warehouse import init_job

    return init_output(init_job(run.settings))
