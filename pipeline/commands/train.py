"""`rankline train`."""

from __future__ import annotations

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    Experiment,
    LogFormat,
    VersionFile,
    options_of,
    settings_here,
    writable,
)
from pipeline.console import Console
from pipeline.spec import ReadSpec, TrainSpec

__all__: list[str] = []


@app.command(
    "train",
    rich_help_panel="Models",
    epilog="Example: rankline train --source file --input ratings.csv --n-components 20",
)
@options_of(TrainSpec, ReadSpec)
def _train(
    spec: TrainSpec,
    read: ReadSpec,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Train a model, record it in MLflow and register it."""
    console = Console(log_format)
    settings = settings_here()
    file = None if version_file is None else writable(version_file)
    from pipeline.jobs.train import train_job

    with console.working() as reporter:
        result = train_job(spec, read, settings, reporter, experiment_name)
    if file is not None:
        file.write_text(f"rankline/{result.version}\n")
    console.trained(result, settings)
