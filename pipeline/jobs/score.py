"""`score`: ranks items for every user and publishes the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.warehouse import MART, interactions_query
from pipeline.errors import CheckFailedError, InputError, ServerError, UsageError
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.preflight import check_scoring
from pipeline.jobs.rules import write_snapshot
from pipeline.jobs.score_arms import LeftOut, Part, parts_to_score
from pipeline.jobs.score_engine import Lists, check_engine, engine_tags, lists_by
from pipeline.jobs.ship import drain, logged_pairs
from pipeline.options import EngineOptions, ScoreOptions
from pipeline.publishing.batch_scoring import BatchSummary, score_all
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.parquet_lists import ParquetTarget
from pipeline.publishing.recommendations_table import PublishResult, RecommendationsTable
from pipeline.publishing.rules import read_rules
from pipeline.publishing.suppressed_users import read_suppressed_users
from pipeline.publishing.table_exposures import log_published
from pipeline.ranking.rules import Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.settings import CHECKOUT, Settings
from pipeline.tracking import run as tracking
from pipeline.tracking import stale_runs
from pipeline.tracking.registry import ModelVersion
from pipeline.warehouse import Warehouse
from pipeline.warehouse.sql import Sql, read_query

__all__ = ["ScoreResult", "score_job"]


@dataclass(frozen=True)
class ScoreResult:
    """The published table, its model, and the counts of the scoring; `parquet` is the folder with the same lists."""

    model: str
    table: str
    address: str
    summary: BatchSummary
    outcome: PublishResult
    seconds: float
    is_limited: bool = False
    parquet: Path | None = None


# Told after publishing: the scorer under the rules, the version, and which of some ids are users who were forgotten.
Then = Callable[[Scorer, ModelVersion, Callable[[NDArray[Any]], NDArray[np.bool_]]], None]


class _Job(NamedTuple):
    """What a scoring goes by, and the run that tells of it, if any."""

    spec: ScoreOptions
    settings: Settings
    reporter: Reporter
    run: tracking.Run | None
    engine: EngineOptions
    parquet: ParquetTarget | None
    at_ms: int | None = None


class _Scored(NamedTuple):
    """The lists of a part: the scorer with its rules, what it wrote, and whom it left out."""

    scorer: Scorer
    version: ModelVersion
    table: RecommendationsTable
    summary: BatchSummary
    left_out: LeftOut


class _Batch(NamedTuple):
    """What was published: its parts, the rules, the counts of all, and how it was taken."""

    scored: Sequence[_Scored]
    rules: Rules
    summary: BatchSummary
    outcome: PublishResult


def score_job(
    spec: ScoreOptions,
    settings: Settings,
    reporter: Reporter,
    then: Then = lambda _scorer, _version, _forgotten: None,
    engine: EngineOptions | None = None,
    parquet: Path | None = None,
    now: datetime | None = None,
) -> ScoreResult:
    """Rank items for every user of the model and publish the table. If anything fails, the old table stays.

    engine : where the lists are found; default, this process
    parquet : a folder for the same lists, which must not exist; it appears once the table is published
    now : when the set is generated, where days are simulated; default, the clock of the warehouse
    """
    start, names = time.perf_counter(), settings.names
    engine = engine or EngineOptions()
    check_engine(engine)
    with ExitStack() as stack:
        target = None if parquet is None else stack.enter_context(ParquetTarget(parquet))
        tracking.open_store(settings.tracking_uri)
        stale_runs.end_stale_runs(settings.tracking_uri, reporter.say)
        run = stack.enter_context(tracking.run_of_mlflow(settings.tracking_uri, CHECKOUT))
        parts = stack.enter_context(parts_to_score(spec.model, reporter, names))
        if len(parts) > 1 and parquet is not None:
            raise UsageError(
                "While an experiment runs, its lists go to the table alone: --model names one version for everybody, "
                "or rankline experiment stop ends it"
            )
        with open_warehouse(settings) as warehouse:
            for part in parts:
                check_scoring(part.scorer.model, spec.k, settings)
            drain(warehouse, settings, reporter)
            job = _Job(spec, settings, reporter, run, engine, target, _ms(now))
            batch = _publish(job, warehouse, parts)
            if parts[0].experiment is not None:
                log_published(warehouse, parts[0].experiment, names)
            if target is not None:
                target.appear()
            write_snapshot(batch.rules, settings, reporter)
            seconds = time.perf_counter() - start
            result = ScoreResult(
                " and ".join(part.version.label for part in parts),
                names.table,
                warehouse.address,
                batch.summary,
                batch.outcome,
                seconds,
                batch.scored[0].scorer.limit is not None,
                None if target is None else target.target,
            )
        _say(batch, reporter)
        if run is not None:
            _record(run, job, batch, parts[0], seconds)
        for one in batch.scored:
            then(one.scorer.limited(None), one.version, one.left_out)
        return result


def _record(run: tracking.Run, job: _Job, batch: _Batch, part: Part, seconds: float) -> None:
    """What was published, and from what, in the run of `mlflow run`."""
    version = part.version
    run.name_if_made_up(f"score {version.label}")
    given = {name: value for name, value in asdict(job.spec).items() if value is not None}
    run.params(given | asdict(job.settings.names))
    run.tags({"model_version": version.version, "scored_run": version.run_id, "published": batch.outcome.action})
    run.tags({**engine_tags(job.engine), "experiment": None if part.experiment is None else part.experiment.name})
    run.tags({"rules_digest": batch.rules.digest if batch.rules.rules else None})
    run.tags({"accepted_changes": "; ".join(batch.outcome.accepted) or None})
    counts = {"n_users": batch.summary.n_users, "n_rows": batch.summary.n_rows}
    run.metrics({**counts, "cost/seconds_total": seconds})


def _publish(job: _Job, warehouse: Warehouse, parts: Sequence[Part]) -> _Batch:
    """Score every user into staged tables and put them in place of the published one; drop them where that fails."""
    spec, settings, reporter = job.spec, job.settings, job.reporter
    forgotten = read_suppressed_users(warehouse).mask
    rules = read_rules(warehouse, settings.names)
    scored: list[_Scored] = []
    try:
        for part in parts:
            # One time for all: they become one set.
            at_ms = scored[0].table.generated_at_ms if scored else job.at_ms
            scored.append(_score(job, warehouse, part, rules, LeftOut(part, forgotten), at_ms))
        reporter.progress("publish", 0, None)
        main, *others = sorted(scored, key=lambda one: one.table.n_rows == 0)
        also = [(one.table, one.scorer.model, _limits(spec, one.scorer)) for one in others]
        limits = _limits(spec, main.scorer)
        outcome = main.table.publish(main.scorer.model, limits, spec.keep, reporter.say, settings.lock_expiry, also)
    except CheckFailedError as error:
        if job.run is not None:
            job.run.tags({"failed_check": error.check, "staged_table": f"analytics.{main.table.staged}"})
        raise
    except BaseException:  # Ctrl-C, too: drop the staged tables
        for one in scored:
            _discard(one.table, reporter)
        raise
    return _Batch(scored, rules, sum((one.summary for one in scored[1:]), scored[0].summary), outcome)


def _score(job: _Job, warehouse: Warehouse, part: Part, rules: Rules, left_out: LeftOut, at_ms: int | None) -> _Scored:
    """Score the users of a part into a staged table of its own."""
    spec, settings, reporter, names = job.spec, job.settings, job.reporter, job.settings.names
    scorer, version = part.scorer, part.version
    seen = _seen_query(spec, warehouse, scorer.model.meta.get("source"), reporter)
    kinds = scorer.users.kind, scorer.items.kind
    source_name = str(scorer.model.meta.get("source_name") or "")
    number = version.number_of(names.model)
    table = RecommendationsTable(warehouse, *kinds, number, version.made_by, names, source_name, at_ms)
    table.ranked = None if part.experiment is None else part.of_arms
    try:
        scorer = scorer.under(rules, table.generated_at_ms).limited(spec.max_per_genre, spec.max_per_series)
        _check_rules(scorer)
        reporter.progress("score", 0, len(scorer.users), "users")
        with lists_by(job.engine, Lists(scorer, rules, spec.k), settings, table, job.parquet, reporter.say) as by:
            summary = score_all(
                scorer,
                by.sink,
                spec.k,
                seen_now=() if seen is None else table.seen_now(seen, lambda: logged_pairs(settings, *kinds)),
                unknown_popular=spec.unknown == "popular",
                forgotten=left_out,
                progress=lambda done, total: reporter.progress("score", done, total, "users"),
                rank=by.rank,
                users_a_block=by.users_a_block,
            )
    except BaseException:  # as above
        _discard(table, reporter)
        raise
    return _Scored(scorer, version, table, left_out.counted(summary), left_out)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def _say(batch: _Batch, reporter: Reporter) -> None:
    """What a reader of the table should know."""
    scorer = batch.scored[0].scorer
    for sentence in batch.outcome.notes:
        reporter.say(sentence)
    if n := batch.summary.n_forgotten:
        reporter.say(f"{n:,} user(s) who were forgotten are left out; a newer model has them no more")
    if scorer.hidden is not None:
        n_hidden = int(scorer.hidden.sum())
        reporter.say(f"{n_hidden:,} of {len(scorer.items):,} items are left out by rules ({batch.rules.digest[:12]})")
    for promotion in scorer.promotions:
        n_items = int(promotion.items.sum())
        reporter.say(f"{n_items:,} item(s) are {promotion.source}, at most {promotion.quota} of them in a list")
    for failed in batch.outcome.accepted:
        reporter.say(f"published in spite of a failed check (--accept-changes yes): {failed}")


def _check_rules(scorer: Scorer) -> None:
    if scorer.hidden is not None and scorer.hidden.all():
        raise InputError(
            f"The rules leave out all {len(scorer.items):,} items of the model: nothing is published, and the table "
            "stays as it is. `rankline rules show` lists them"
        )


def _limits(spec: ScoreOptions, scorer: Scorer) -> PublishLimits:
    return PublishLimits(
        spec.k,
        spec.unknown == "popular",
        spec.max_coverage_drop,
        spec.max_fallback,
        spec.accept_changes == "yes",
        scorer.limit,
        scorer.promotions,
    )


def _seen_query(spec: ScoreOptions, warehouse: Warehouse, source: object, reporter: Reporter) -> Sql | None:
    """The query for the interactions up to now; None where the warehouse has none for this model."""
    if spec.query is not None:
        return interactions_query(warehouse, read_query(spec.query), spec.user_column, spec.item_column)
    if source == "file":
        # The same ids may mean other users in the warehouse.
        reporter.say(
            "the model was trained on a file: only what it has as seen is left out; --query adds a warehouse's"
        )
        return None
    if warehouse.engine(MART) is None:
        reporter.say(f"{MART} does not exist, so only the items that the model has as seen are left out")
        return None
    return interactions_query(warehouse, None)


def _discard(table: RecommendationsTable, reporter: Reporter) -> None:
    try:
        table.discard()
    except ServerError as error:
        reporter.say(f"the staged table was left behind ({error}); a later job drops it")
