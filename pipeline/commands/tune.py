"""`rankline tune`."""

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
from pipeline.spec import ReadSpec, TrainSpec, TuneSpec

__all__: list[str] = []


@app.command(
    "tune",
    rich_help_panel="Models",
    epilog="Example: rankline tune --trials 40 --timeout 1800 --source file --input ratings.csv",
)
@options_of(TrainSpec, TuneSpec, ReadSpec)
def _tune(
    spec: TrainSpec,
    search: TuneSpec,
    read: ReadSpec,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Search the options that rank best, train with them on everything and register the model."""
    console = Console(log_format)
    settings = settings_here()
    file = None if version_file is None else writable(version_file)
    from pipeline.jobs.tune import tune_job

    with console.working() as reporter:
        result = tune_job(spec, search, read, settings, reporter, experiment_name)
    if file is not None:
        file.write_text(f"rankline/{result.trained.version}\n")
    console.tuned(result, settings)
