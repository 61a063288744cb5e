"""Logs what a job made to its run: saved on this machine first, then uploaded and registered, so nothing is lost."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import FILE_NAME
from pipeline.errors import RanklineError
from pipeline.evaluation.metric_names import seconds_by_stage
from pipeline.jobs.executors import Executors
from pipeline.options import ReadOptions
from pipeline.runtime.memory import peak_memory
from pipeline.runtime.progress import Reporter
from pipeline.runtime.redact import address_of_store
from pipeline.runtime.retry import AGAIN
from pipeline.settings import Settings
from pipeline.tracking import run as tracking
from pipeline.tracking.outbox import PendingRun
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.tracking.upload import record, register
from pipeline.training.stages import Stages

__all__ = ["LoggedRun", "TrainingJob", "log_run"]


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """The context that all steps of a training share.

    Attributes
    ----------
    run : the open MLflow run
    start : the start of the command, by `time.perf_counter`
    stages : the duration of each stage
    executors : who fits, if not this process
    """

    run: tracking.Run
    read_spec: ReadOptions
    settings: Settings
    reporter: Reporter
    start: float
    stages: Stages = field(default_factory=Stages)
    executors: Executors | None = None

    def seconds(self, of_the_fit: Mapping[str, float]) -> dict[str, float]:
        """The duration of each stage and in total so far, by metric name."""
        return seconds_by_stage({**self.stages.seconds, **of_the_fit, "total": time.perf_counter() - self.start})


@dataclass(frozen=True)
class LoggedRun:
    """Attributes
    ----------
    version : that was registered
    facts : what was logged: see `pipeline.tracking.outbox`
    seconds : the duration of each stage, by metric name
    """

    version: str
    facts: Mapping[str, Any]
    seconds: dict[str, float]


def log_run(
    job: TrainingJob, name: str, fill: Callable[[PendingRunWriter], None], of_the_fit: Mapping[str, float]
) -> LoggedRun:
    """Log what `fill` writes to the job's run, register the model that is part of it, and end the run.

    Parameters
    ----------
    name : of the run, unless a person has named it
    of_the_fit : seconds by stage, besides those of the job

    If MLflow fails, the run's results stay on this machine, and the error says where, and how to log them later.
    """
    run = job.run
    with _saved_locally(job, run.name_for(name), fill, of_the_fit) as pending_run:
        with job.stages("log"):
            job.reporter.progress("log", 0, None)
            model_uri = record(run, pending_run)
        seconds = job.seconds(of_the_fit)
        run.metrics({**seconds, "cost/peak_memory_mb": _peak_memory_mb()})
        version = register(run, pending_run, model_uri)
        run.finish()
    return LoggedRun(version, pending_run.facts, seconds)


@contextmanager
def _saved_locally(
    job: TrainingJob, name: str, fill: Callable[[PendingRunWriter], None], of_the_fit: Mapping[str, float]
) -> Iterator[PendingRun]:
    """The run, saved locally until MLflow accepts it: the block logs it, and then the local copy is deleted."""
    run, settings = job.run, job.settings
    store = address_of_store(settings.tracking_uri)
    at_ms = int(time.time() * 1000)
    with PendingRunWriter(settings.unlogged_path, run.id, name, store, at_ms, settings.names.model) as writer:
        fill(writer)
        with job.stages("log"):
            if name != run.name:
                writer.rename()
            if settings.config is not None:
                writer.text(FILE_NAME, settings.config.text)
            writer.metrics(run.held())
            writer.tags(run.held_tags())
            writer.metrics({**job.seconds(of_the_fit), "cost/peak_memory_mb": _peak_memory_mb()}, late=True)
            pending_run = writer.keep()
    try:
        yield pending_run
    except BaseException as error:
        pending_run.close()
        folder = pending_run.folder
        where = f"the trained model is saved in {folder}; upload it with: rankline resume {shlex.quote(str(folder))}"
        if isinstance(error, RanklineError):
            error.args = (f"{str(error).removesuffix(AGAIN)}; {where}",)
        else:
            job.reporter.say(where)
        raise
    pending_run.remove()


def _peak_memory_mb() -> float:
    """Peak resident memory of this process."""
    return peak_memory() / 2**20
