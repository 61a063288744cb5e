"""The output of `init` and `sample`."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cli.output.model import Output
from pipeline.jobs.warehouse import SampleResult

__all__ = ["init_output", "sample_output"]


def init_output(done: Sequence[str]) -> Output:
    """The tables and views that were created."""
    return Output("initialised", {"done": list(done)}, list(done))


def sample_output(result: SampleResult) -> Output:
    """The number of rows that were added to each table."""
    rows = ", ".join(f"{n:,} rows into {table}" for table, n in result.added.items() if n)
    line = (
        f"loaded the MovieLens sample into {result.address}: {rows}"
        if rows
        else f"the MovieLens sample is in {result.address} already: nothing to add"
    )
    return Output("sampled", {"added": result.added, "address": result.address}, [line])
