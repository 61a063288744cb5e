"""`train`: reads the data, trains, and logs everything to one MLflow run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.holdout import HoldoutEvaluation
from pipeline.evaluation.storage import write_evaluation
from pipeline.jobs.champion_options import with_champion
from pipeline.jobs.choose import choose_model, fill_choice
from pipeline.jobs.data_gate import check_data
from pipeline.jobs.executors import Executors
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.item_texts import catalogue_texts, item_texts, texts_of_files
from pipeline.jobs.logged_run import TrainingJob, log_run
from pipeline.jobs.preflight import TrainingRequest, check_memory, read_source
from pipeline.jobs.run_pages import champion_evaluation, log_pages
from pipeline.jobs.run_texts import (
    as_asked,
    run_description,
    run_name,
    source_label,
    tag_source,
    version_description,
)
from pipeline.jobs.ship import drain
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.saved_model import ItemTexts
from pipeline.models.signatures import SigningKeys
from pipeline.options import ReadOptions, TrainOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import run as tracking
from pipeline.tracking import stale_runs
from pipeline.tracking.outbox import pending_in
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.tracking.registry import ModelVersion
from pipeline.training.choice import Choice
from pipeline.training.search import check_holdout
from pipeline.training.study import check_optuna
from pipeline.training.train import Trained, checked_algorithm, train

__all__ = ["TrainResult", "TrainingJob", "read_for", "reading", "train_in", "train_job", "train_on"]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The run of a training, the registered version, and its metrics.

    `better_than_popular` is ``yes``, ``no`` or ``unclear``; None where it was not measured.
    """

    run_id: str
    run_name: str
    version: str
    metrics: dict[str, float]
    messages: tuple[str, ...]
    facts: dict[str, Any]
    chosen: LoadedInput
    better_than_popular: str | None = None
    algorithm: Algorithm = registry.DEFAULT
    choice: Choice | None = None


def train_job(
    spec: TrainOptions,
    read_spec: ReadOptions,
    settings: Settings,
    reporter: Reporter,
    experiment: str = "rankline",
    executors: Executors | None = None,
) -> TrainResult:
    """Read the data, train, and log everything to one MLflow run. The last step registers the model."""
    with reading(spec, read_spec, settings, reporter, experiment, executors) as (job, chosen):
        return train_on(job, chosen, spec)


@contextmanager
def reading(
    spec: TrainOptions,
    read_spec: ReadOptions,
    settings: Settings,
    reporter: Reporter,
    experiment: str = "rankline",
    executors: Executors | None = None,
    *,
    now: datetime | None = None,
    check_size: bool = True,
) -> Iterator[tuple[TrainingJob, LoadedInput]]:
    """A run, and the interactions that were read and passed the data gate, for a block that trains on them.

    Parameters
    ----------
    now : the time that the data gate goes by; default, the clock
    check_size : whether a training that needs more memory than there is is refused before the block
    """
    start = time.perf_counter()
    SigningKeys.of_environment()  # keys that are written wrongly are said now, not after the training
    label = "auto" if spec.is_auto else checked_algorithm(spec).label(spec)
    if spec.is_auto:
        check_optuna()
        check_holdout(spec)
    tracking.open_or_make_store(settings.tracking_uri, reporter.say)
    stale_runs.end_stale_runs(settings.tracking_uri, reporter.say)
    if pending := pending_in(settings.unlogged_path):
        reporter.say(
            f"{len(pending)} earlier training(s) are saved but not in MLflow yet: rankline resume uploads them"
        )
    with tracking.start_run(settings.tracking_uri, experiment, CHECKOUT, settings.retry_policy) as run:
        run.name_if_made_up(f"{label} · {source_label(read_spec)}")
        run.params(as_asked(settings.names, spec, read_spec))
        spec, settings = settings.limited(spec)
        if settings.config is not None:
            run.tags({"config": settings.config.in_one_line})
        if executors is not None:
            run.tags(executors.tags)
        job = TrainingJob(run, read_spec, settings, reporter, start, executors=executors)
        with job.stages("read"):
            wanted = TrainingRequest(spec, executors=executors)
            chosen = read_for(run, wanted, read_spec, settings, reporter, now=now, check_size=check_size)
        yield job, chosen


def train_on(
    job: TrainingJob, chosen: LoadedInput, spec: TrainOptions, beside: ModelVersion | None = None
) -> TrainResult:
    """Train on what was read, with ``auto`` the model that ranks best; log everything, and register the model.

    beside : the champion, which is measured on the same holdout, too
    """
    if not spec.is_auto:
        return train_in(job, chosen, spec, beside=beside)
    with job.stages("choose"):
        choice = choose_model(chosen.read.interactions, spec, job.settings, job.reporter)
    return train_in(job, chosen, choice.spec, choice, beside)


def read_for(
    run: tracking.Run,
    wanted: TrainingRequest,
    read_spec: ReadOptions,
    settings: Settings,
    reporter: Reporter,
    *,
    now: datetime | None = None,
    check_size: bool = True,
) -> LoadedInput:
    """Read the interactions. Log their source, the bad rows and the result of the data gate to the run.

    Raises DataGateError for data past a limit, DoesNotFitError where the request needs more memory than is free.
    """
    limits = settings.data_limits
    files = None if wanted.executors is None else wanted.executors.read_files
    chosen = read_source(
        read_spec,
        settings,
        reporter,
        lambda warehouse: drain(warehouse, settings, reporter),
        files,
        wanted if check_size else None,
    )
    tag_source(run, chosen)
    if chosen.read.n_bad:
        reporter.say(f"{chosen.read.n_bad} bad row(s) of {chosen.read.n_rows} left out; bad_rows.json has a sample")
        run.text("bad_rows.json", json.dumps(chosen.read.bad_rows, indent=1, ensure_ascii=False))
        run.metrics_later({"data/n_bad_rows": chosen.read.n_bad})
    clock = None if now is None else np.datetime64(now.replace(tzinfo=None), "ms")
    facts = check_data(run, chosen, limits, reporter, clock, settings.names.model).facts
    reporter.say(
        f"read {facts.n_interactions:,} interactions of {facts.n_users:,} users and {facts.n_items:,} items "
        f"from {chosen.where}"
    )
    if wanted.spec.cold_items is not None:
        chosen = replace(chosen, texts=catalogue_texts(chosen, read_spec, settings))
    elif read_spec.items is not None:
        chosen = replace(chosen, texts=texts_of_files(read_spec))
    if check_size and files is None:  # executors have memory of their own
        chosen = check_memory(run, chosen, facts.n_duplicates, wanted, settings, reporter)
    return chosen


def train_in(
    job: TrainingJob,
    chosen: LoadedInput,
    spec: TrainOptions,
    choice: Choice | None = None,
    beside: ModelVersion | None = None,
) -> TrainResult:
    """Train on the data, log everything to the job's run, and register the model. `beside` is as of `train_on`."""
    run = job.run
    x, texts = chosen.read.interactions, chosen.texts
    if registry.find(spec.algorithm).needs.genres:
        texts = item_texts(x.item_ids, chosen, job.settings, job.reporter)
    engine = None if job.executors is None else job.executors.engine
    trained = replace(train(x, spec, job.reporter.progress, texts, engine), choice=choice)
    for message in trained.report.messages:
        job.reporter.say(message)
    if beside is not None:
        trained = with_champion(job, trained, beside, texts)
    logged = log_run(
        job,
        run_name(trained, job.read_spec, chosen),
        lambda writer: _fill_with_pages(writer, job, trained, chosen),
        trained.seconds,
    )
    return TrainResult(
        run.id,
        str(logged.facts["name"]),
        logged.version,
        dict(trained.report.metrics),
        trained.report.messages,
        {**trained.facts, **logged.seconds},
        chosen,
        logged.facts["version_tags"].get("better_than_popular"),
        trained.algorithm,
        choice,
    )


def _fill_with_pages(writer: PendingRunWriter, job: TrainingJob, trained: Trained, chosen: LoadedInput) -> None:
    """Write everything that `upload.record` will log, the report too."""
    run, settings, reporter, stages = job.run, job.settings, job.reporter, job.stages
    with stages("pages"):
        reporter.progress("pages", 0, None)
        champion = champion_evaluation(settings.names.model, reporter)
        log_pages(writer, trained, chosen, settings, reporter, champion)
        texts = item_texts(trained.model.items, chosen, settings, reporter)
    with stages("log"):
        page = f"#/experiments/{run.experiment_id}/runs/{run.id}/artifacts/report.html"
        _fill(writer, trained, chosen, page, texts)


def _fill(
    writer: PendingRunWriter, trained: Trained, chosen: LoadedInput, report: str, texts: ItemTexts | None = None
) -> None:
    """Write everything that `upload.record` will log. `report` is the address of the report in the UI."""
    facts = {
        "run_id": writer.id,
        "source": chosen.source,
        "source_name": chosen.name,
        "query_digest": chosen.query.digest if chosen.query else None,
        "data_watermark": chosen.watermark,
    }
    replace(trained.model, meta={**trained.model.meta, **facts}).save(writer.model, texts)
    if (facts_of_estimator := trained.fitted.estimator) is not None:
        # The factors and the loss curve, which complete the estimator, are saved anyway.
        writer.estimator(facts_of_estimator.params, facts_of_estimator.converged, facts_of_estimator.error)
    if trained.evaluation is not None:
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            folder = write_evaluation(trained.evaluation, trained.data_digest, Path(scratch) / "evaluation")
            writer.folder(folder, "evaluation")
    writer.params(trained.facts)
    if trained.choice is not None:
        fill_choice(writer, trained.choice)
    verdict = _verdict_tags(trained.evaluation)
    if trained.interrupted:
        verdict = {"interrupted": ", ".join(trained.interrupted), **verdict}
    # The UI shows tags in the order of setting: the verdict first, digests last.
    tags = {**verdict, "source_name": chosen.name, "data_digest": trained.data_digest}
    writer.tags(tags)
    writer.tags(tags, of_the_version=True)
    source_tags = {"kind": chosen.source, "rows": str(chosen.read.n_rows)}
    writer.dataset("interactions", trained.data_digest, chosen.where, source_tags)
    writer.metrics(trained.report.metrics)
    if trained.losses.size:
        writer.curve("loss", trained.losses.tolist())
    writer.describe(run_description(trained, chosen), of_the_version=version_description(trained, report))


def _verdict_tags(evaluation: HoldoutEvaluation | None) -> dict[str, str]:
    """Tags of the run and of the version with the verdict and the split of the evaluation."""
    if evaluation is None:
        return {}
    better = evaluation.better_than_popular
    tags = {} if better is None else {"better_than_popular": str(better)}
    return {**tags, "split": evaluation.split_in_words, "split_digest": evaluation.split.digest}
