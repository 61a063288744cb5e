"""`rankline estimate`."""

from __future__ import annotations

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.options import ReadOptions, TrainOptions

__all__: list[str] = []

# Options on which memory and time do not depend.
_WITHOUT = {
    "budget_minutes", "init", "on_interrupt", "random_state", "alpha_W", "alpha_H", "l1_ratio", "reg_exponent",
    "transform", "half_life_days", "shrinkage", "duplicates", "max_interactions", "min_data", "split", "split_last",
    "split_cutoff",
}  # fmt: skip


@command(
    "estimate",
    panel=MODELS,
    examples="rankline estimate --n-components 100 --source file --input ratings.csv",
    specs=(TrainOptions, ReadOptions),
    without=_WITHOUT,
)
def _estimate(run: Invocation, spec: TrainOptions, read: ReadOptions) -> Outputs:
    """Say what memory and time a training would need.

    Nothing is trained or recorded. A large table is counted in the warehouse, everything else is read. Exit
    status 3: the training does not fit into memory; the error says what would.
    """
    from pipeline.cli.output.estimate import estimate_output
    from pipeline.jobs.estimate import estimate_job

    return estimate_output(estimate_job(spec, read, run.settings, run.reporter))
