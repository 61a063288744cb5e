"""Where a job computes, if not in this process: opened for the length of a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.files import ReadFiles
from pipeline.models.solvers.steps import Engine
from pipeline.options import EngineOptions, TrainOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.training.train import require_distributed

__all__ = ["Executors", "open_executors"]


@dataclass(frozen=True, eq=False)
class Executors:
    """Who computes instead of this process.

    Attributes
    ----------
    engine : carries out the half-steps of a fit
    read_files : reads files of interactions
    tags : of the run
    """

    engine: Engine
    read_files: ReadFiles
    tags: Mapping[str, str]


@contextmanager
def open_executors(
    options: EngineOptions, spec: TrainOptions, settings: Settings, reporter: Reporter
) -> Iterator[Executors | None]:
    """What `options` name, for a training of `spec`; None for this process.

    Raises UsageError for a model that is fitted in one process, and without pyspark or Java; ServerError and InputError
    for executors that can't do the work; LockedError where another command uses the shared folder.
    """
    if not options.on_spark:
        yield None
        return
    require_distributed(spec)
    from pipeline.spark.engine import open_spark

    folder = options.spark_folder or settings.spark_path
    with open_spark(options.spark_master, Path(folder).absolute(), reporter.say) as spark:
        yield Executors(spark.engine, spark.read_files, spark.tags)
