"""`score`: rank for every user and publish."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pipeline import orphans, tracking
from pipeline.batch import BatchSummary, score_all
from pipeline.checks import Limits
from pipeline.errors import CheckFailedError, ServerError
from pipeline.forgotten import read_forgotten
from pipeline.jobs.model import loaded
from pipeline.jobs.reporter import Reporter
from pipeline.settings import PROJECT_ROOT, Settings
from pipeline.sinks import PUBLISHED, Outcome, RecommendationsTable
from pipeline.sources.choice import open_warehouse
from pipeline.sources.warehouse import MART, interactions_query
from pipeline.spec import ScoreSpec
from pipeline.sql import Sql, read_query
from pipeline.warehouse import Warehouse

__all__ = ["ScoreResult", "score_job"]


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring left."""

    model: str
    table: str
    address: str
    summary: BatchSummary
    outcome: Outcome
    seconds: float


def score_job(spec: ScoreSpec, settings: Settings, reporter: Reporter) -> ScoreResult:
    """Rank for every user of the model and publish the table; whatever fails, the old table stays."""
    start = time.perf_counter()
    tracking.open_store(settings.tracking_uri)
    orphans.end_orphans(settings.tracking_uri, reporter.say)
    with _run_of_mlflow(settings) as run, loaded(spec.model, reporter, mapped=True) as (scorer, version):
        with open_warehouse(settings) as warehouse:
            seen = _seen_query(spec, warehouse, scorer.model.meta.get("source"), reporter)
            table = RecommendationsTable(
                warehouse, scorer.users.kind, scorer.items.kind, version.version, version.run_id
            )
            try:
                reporter.progress("score", 0, len(scorer.users), "users")
                summary = score_all(
                    scorer,
                    table,
                    spec.k,
                    seen_now=() if seen is None else table.seen_now(seen),
                    unknown_popular=spec.unknown == "popular",
                    forgotten=read_forgotten(warehouse).mask,
                    progress=lambda done, total: reporter.progress("score", done, total, "users"),
                )
                reporter.progress("publish", 0, None)
                outcome = table.publish(scorer.model, _limits(spec), spec.keep, reporter.say)
            except CheckFailedError as error:
                if run is not None:
                    run.tags({"failed_check": error.check, "staged_table": f"analytics.{table.staged}"})
                raise
            except BaseException:  # Ctrl-C too: no staged table is left behind
                _discard(table, reporter)
                raise
            seconds = time.perf_counter() - start
            result = ScoreResult(version.label, PUBLISHED, warehouse.address, summary, outcome, seconds)
        for sentence in outcome.notes:
            reporter.say(sentence)
        if summary.n_forgotten:
            reporter.say(
                f"{summary.n_forgotten:,} user(s) who were forgotten are left out; a newer model has them no more"
            )
        for failed in outcome.accepted:
            reporter.say(f"published all the same, as --accept-changes says: {failed}")
        if run is not None:
            run.name_if_made_up(f"score {version.label}")
            run.params({name: value for name, value in asdict(spec).items() if value is not None})
            run.tags({"model_version": version.version, "scored_run": version.run_id, "published": outcome.action})
            run.tags({"accepted_changes": "; ".join(outcome.accepted) or None})
            run.metrics({"n_users": summary.n_users, "n_rows": summary.n_rows, "seconds_total": result.seconds})
        return result


@contextmanager
def _run_of_mlflow(settings: Settings) -> Iterator[tracking.Run | None]:
    """The run that `mlflow run` has opened; the command on its own makes none."""
    if os.environ.get("MLFLOW_RUN_ID") is None:
        yield None
        return
    with tracking.start_run(settings.tracking_uri, "rankline", PROJECT_ROOT) as run:
        yield run


def _limits(spec: ScoreSpec) -> Limits:
    return Limits(
        spec.k, spec.unknown == "popular", spec.max_coverage_drop, spec.max_fallback, spec.accept_changes == "yes"
    )


def _seen_query(spec: ScoreSpec, warehouse: Warehouse, source: object, reporter: Reporter) -> Sql | None:
    """The query that says what is seen by now, None where the warehouse has nothing to say."""
    if spec.query is not None:
        return read_query(spec.query)
    if source == "file":
        # The warehouse's users may be other people with the same ids.
        reporter.say("the model was trained on a file: what it has as seen is left out; --query adds a warehouse's")
        return None
    if warehouse.engine(MART) is None:
        reporter.say(f"{MART} is not there: what the model's artifact has as seen is left out, nothing else")
        return None
    return interactions_query(warehouse, None)


def _discard(table: RecommendationsTable, reporter: Reporter) -> None:
    try:
        table.discard()
    except ServerError as error:
        reporter.say(f"the staged table was left behind ({error}); a later job drops it")
