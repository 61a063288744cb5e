"""`rankline train`."""

from __future__ import annotations

from importlib import import_module

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.cli.options import Experiment, VersionFile, writable
from pipeline.options import EngineOptions, ReadOptions, TrainOptions

__all__: list[str] = []


@command(
    "train",
    panel=MODELS,
    examples=(
        "rankline train --n-components 20",
        "rankline train --source file --input ratings.csv",
    ),
    specs=(TrainOptions, ReadOptions, EngineOptions),
    named=True,
)
def _train(
    run: Invocation,
    spec: TrainOptions,
    read: ReadOptions,
    engine: EngineOptions,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
) -> Outputs:
    """Train a model, record it in MLflow and register it."""
    file = None if version_file is None else writable(version_file)
    if spec.algorithm.lower() == TrainOptions.algorithm.lower():
        # Its estimator is saved by skops, which looks through all modules that are imported for each of numpy's
        # functions: before MLflow is, that takes a second less.
        import_module("skops.io")
    from pipeline.cli.output.training import train_output
    from pipeline.jobs.executors import open_executors
    from pipeline.jobs.train import train_job

    with open_executors(engine, spec, run.settings, run.reporter) as executors:
        result = train_job(spec, read, run.settings, run.reporter, experiment_name, executors)
    if file is not None:
        file.write_text(f"{run.names.model}/{result.version}\n")
    return train_output(result, run.settings, step_follows=file is not None)
