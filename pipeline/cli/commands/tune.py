"""`rankline tune`."""

from __future__ import annotations

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.cli.options import Experiment, VersionFile, writable
from pipeline.options import ReadOptions, TrainOptions, TuneOptions

__all__: list[str] = []


@command(
    "tune",
    panel=MODELS,
    examples=(
        "rankline tune --trials 40 --timeout 1800",
        "rankline tune --source file --input ratings.csv",
    ),
    specs=(TrainOptions, TuneOptions, ReadOptions),
    named=True,
)
def _tune(
    run: Invocation,
    spec: TrainOptions,
    search: TuneOptions,
    read: ReadOptions,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
) -> Outputs:
    """Search for the options that rank best, and train with them.

    The search sees neither the test part nor what it is compared with; the winner is trained on everything and
    registered.
    """
    file = None if version_file is None else writable(version_file)
    from pipeline.cli.output.training import tune_output
    from pipeline.jobs.tune import tune_job

    result = tune_job(spec, search, read, run.settings, run.reporter, experiment_name)
    if file is not None:
        file.write_text(f"{run.names.model}/{result.trained.version}\n")
    return tune_output(result, run.settings, step_follows=file is not None)
