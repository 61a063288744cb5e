"""What `estimate` shows: the counts, the memory by part beside what there is, the time, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.console import Console
from pipeline.estimate import in_bytes, in_time

if TYPE_CHECKING:
    from pipeline.jobs.estimate import Preview

__all__ = ["show_preview"]


def show_preview(console: Console, preview: Preview) -> None:
    """A small table on stdout, or one object."""
    size, plan, found, room = preview.size, preview.plan, preview.found, preview.room
    if console.json:
        console.result(
            "estimated",
            {
                "n_users": size.n_users, "n_items": size.n_items, "n_interactions": size.n_cells,
                "n_rows": size.n_rows, "n_components": plan.n_components, "exact": preview.exact,
                "estimated_peak_mb": found.peak / 2**20, "memory_mb": None if room is None else room.most / 2**20,
                "seconds": dict(found.seconds), "fits": not preview.refusal,
            },
        )  # fmt: skip
        return
    from rich.table import Table

    about = "" if preview.exact else "about "
    repeated = f" ({size.n_rows - size.n_cells:,} rows repeat one)" if size.n_rows > size.n_cells else ""
    table = Table("what", "how much", show_header=False)
    table.add_row("interactions", f"{about}{size.n_cells:,}{repeated}")
    table.add_row("users × items", f"{about}{size.n_users:,} × {size.n_items:,}")
    table.add_row("factors", str(plan.n_components), end_section=True)
    for part, n in found.parts.items():
        if n >= 2**20:
            table.add_row(f"memory: {part}", in_bytes(n))
    table.add_row(f"memory at most (phase: {found.largest})", in_bytes(found.peak))
    table.add_row("there is", "not known" if room is None else f"{in_bytes(room.most)} ({room.why})", end_section=True)
    table.add_row("time of the last fit", in_time(found.seconds["fit"]))
    table.add_row("time after the read, in all", in_time(found.seconds_in_all), end_section=True)
    table.add_row("verdict", "does not fit" if preview.refusal else "fits")
    console.print(table)
