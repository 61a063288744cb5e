"""The output of `init`, `sample` and `ship`."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cli.output.model import Output
from pipeline.jobs.ship import ShipResult
from pipeline.jobs.warehouse import SampleResult

__all__ = ["init_output", "sample_output", "ship_output"]


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


def ship_output(result: ShipResult) -> Output:
    """How many interactions were sent, and how many wait."""
    done = result.shipped
    if done is None:
        line = f"no interaction log at {result.path}: nothing to ship (RANKLINE_LIVE_DIR names its folder)"
        return Output("shipped", {"log": str(result.path), "shipped": 0}, [line])
    n_rows = done.n_ratings + done.n_watched
    lines = [
        f"shipped {n_rows:,} interaction(s) to {result.address}: {done.n_ratings:,} into raw.ratings, "
        f"{done.n_watched:,} into raw.watched_movies"
        if n_rows
        else f"nothing to ship: {result.address} has all of {result.path}"
    ]
    if done.n_forgotten:
        lines.append(f"{done.n_forgotten:,} user(s) who were forgotten are left out, and deleted from the log")
    if result.pending:
        lines.append(f"{result.pending:,} came in meanwhile, the oldest {result.oldest_seconds:.0f} s ago")
    data = {
        "log": str(result.path),
        "address": result.address,
        "shipped": n_rows,
        "ratings": done.n_ratings,
        "watched": done.n_watched,
        "shipments": done.n_shipments,
        "forgotten": done.n_forgotten,
        "last_seq": done.last_seq,
        "pending": result.pending,
    }
    return Output("shipped", data, lines)
