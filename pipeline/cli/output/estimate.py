"""The output of `estimate`: counts, memory by part and available memory, time, and whether the training fits."""

from __future__ import annotations

from pipeline.cli.output.model import Output, Table
from pipeline.errors import DoesNotFitError
from pipeline.jobs.estimate import EstimateResult
from pipeline.training.estimate import in_bytes, in_time

__all__ = ["estimate_output"]


def estimate_output(result: EstimateResult) -> Output:
    """A table; with DoesNotFitError as its failure if the training does not fit."""
    size, plan, estimate, room = result.size, result.plan, result.estimate, result.room
    data = {
        "n_users": size.n_users, "n_items": size.n_items, "n_interactions": size.n_cells,
        "n_rows": size.n_rows, "n_components": plan.n_components, "exact": result.exact,
        "estimated_peak_mb": estimate.peak / 2**20, "memory_mb": None if room is None else room.most / 2**20,
        "seconds": dict(estimate.seconds), "fits": not result.refusal,
    }  # fmt: skip
    about = "" if result.exact else "about "
    repeated = f" ({size.n_rows - size.n_cells:,} rows repeat a user and item)" if size.n_rows > size.n_cells else ""
    rows = [
        ["interactions", f"{about}{size.n_cells:,}{repeated}"],
        ["users × items", f"{about}{size.n_users:,} × {size.n_items:,}"],
        *([["factors", str(plan.n_components)]] if plan.n_components else []),
        None,
        *([f"memory: {part}", in_bytes(n)] for part, n in estimate.parts.items() if n >= 2**20),
        [f"memory at most (phase: {estimate.largest})", in_bytes(estimate.peak)],
        ["memory there is", "not known" if room is None else f"{in_bytes(room.most)} ({room.why})"],
        None,
        ["time of the last fit", in_time(estimate.seconds["fit"])],
        ["time after the read, in all", in_time(estimate.seconds_in_all)],
        None,
        ["verdict", "does not fit" if result.refusal else "fits"],
    ]
    table = Table(["what", "how much"], rows, left=("what", "how much"), header=False)
    failure = DoesNotFitError(result.refusal) if result.refusal else None
    return Output("estimated", data, [table], failure=failure)
