"""`rankline nightly`."""

from __future__ import annotations

from pipeline.cli.command import OPERATE, Invocation, Outputs, command
from pipeline.cli.options import Experiment
from pipeline.options import (
    DriftLimits,
    DriftOptions,
    NightlyOptions,
    NotifyOptions,
    PromotionLimits,
    ReadOptions,
    RetainOptions,
    ScoreOptions,
    TrainOptions,
)

__all__: list[str] = []

_SPECS = (
    NightlyOptions, RetainOptions, TrainOptions, ReadOptions, PromotionLimits, ScoreOptions, DriftOptions, DriftLimits,
    NotifyOptions,
)  # fmt: skip


@command(
    "nightly",
    panel=OPERATE,
    examples=("rankline nightly --config rankline.yaml --json", "rankline nightly --refit-after 0.1"),
    specs=_SPECS,
    without={"model"},
    named=True,
)
def _nightly(
    run: Invocation,
    nightly: NightlyOptions,
    retained: RetainOptions,
    train: TrainOptions,
    read: ReadOptions,
    gate: PromotionLimits,
    score: ScoreOptions,
    drift: DriftOptions,
    drift_limits: DriftLimits,
    telling: NotifyOptions,
    experiment_name: Experiment = "rankline",
) -> Outputs:
    """Train or fold in, promote, publish, tidy up: one night.

    data gate, train, gate, promote, score, retention, drift: each step ends done, skipped, stopped or failed, and says
    why. With little new data, new users and items are folded into the champion. What a gate stops leaves the version
    and the table of before. Killed, or without a server, the same command goes on where it was. One at a time.

    Exit status 0: all is well; 3: a gate or a check stopped something: look at it; 4: a server can't be used: try
    again. docs/nightly.md.
    """
    from datetime import UTC, datetime

    from pipeline.cli.output.nightly import nightly_output
    from pipeline.jobs.nightly import NightlyRequest, run_nightly

    now = datetime.now(UTC)
    request = NightlyRequest(
        run.settings,
        run.reporter,
        now,
        train,
        read,
        gate,
        score,
        nightly,
        retained,
        experiment_name,
        drift,
        drift_limits,
        telling,
    )
    return nightly_output(run_nightly(request))
