"""`rankline ship`."""

from __future__ import annotations

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command

__all__: list[str] = []


@command("ship", panel=WAREHOUSE, examples=("rankline ship", "rankline ship --json"))
def _ship(run: Invocation) -> Outputs:
    """Send new interactions from this host's log to the warehouse.

    The log is interactions.db in RANKLINE_LIVE_DIR. Each interaction arrives once, however often this is stopped and
    run again. rankline train and rankline score do it first, by themselves.
    """
    from pipeline.cli.output.warehouse import ship_output
    from pipeline.jobs.ship import ship_job

    return ship_output(ship_job(run.settings, run.reporter))
