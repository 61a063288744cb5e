"""`rankline estimate`."""

from __future__ import annotations

from pipeline.commands.app import app
from pipeline.commands.options import Debug, LogFormat, options_of, settings_here
from pipeline.console import Console
from pipeline.errors import DoesNotFitError
from pipeline.spec import ReadSpec, TrainSpec

__all__: list[str] = []

# What memory and time do not depend on.
_WITHOUT = {
    "init", "on_interrupt", "random_state", "alpha_W", "alpha_H", "l1_ratio", "reg_exponent", "transform",
    "half_life_days", "duplicates", "max_interactions", "min_data", "split", "split_last", "split_cutoff",
}  # fmt: skip


@app.command(
    "estimate",
    rich_help_panel="Models",
    epilog="Example: rankline estimate --n-components 100 --source file --input ratings.csv",
)
@options_of(TrainSpec, ReadSpec, without=_WITHOUT)
def _estimate(spec: TrainSpec, read: ReadSpec, log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Say what memory and time a training would take, and whether that fits; trains nothing, records nothing.

    A large table is counted in the warehouse, everything else is read. Exit status 3: it does not fit, and what would.
    """
    console = Console(log_format)
    settings = settings_here()
    from pipeline.jobs.estimate import estimate_job
    from pipeline.preview import show_preview

    with console.working() as reporter:
        preview = estimate_job(spec, read, settings, reporter)
    show_preview(console, preview)
    if preview.refusal:
        raise DoesNotFitError(preview.refusal)
