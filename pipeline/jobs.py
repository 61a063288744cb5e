"""The wiring, from top to bottom: what each command does with the rooms below."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import registry, tracking
from pipeline.batch import BatchSummary, score_all
from pipeline.errors import InputError, ServerError
from pipeline.scorer import Ranking, Scorer
from pipeline.settings import PROJECT_ROOT, Settings
from pipeline.sinks import PUBLISHED, RecommendationsTable
from pipeline.sources.choice import Chosen, open_warehouse, read_interactions
from pipeline.sources.sample import load_sample
from pipeline.sources.warehouse import MART, history, init, interactions_query, seen_now, titles
from pipeline.spec import ReadSpec, ScoreSpec, TrainSpec
from pipeline.sql import load, read_query
from pipeline.train import Progress, Stages, Trained, train

__all__ = [
    "Listing",
    "Reporter",
    "ScoreResult",
    "Shown",
    "TrainResult",
    "init_job",
    "recommend_job",
    "sample_job",
    "score_job",
    "show_job",
    "sql_job",
    "train_job",
]


@dataclass(frozen=True)
class Reporter:
    """How a job speaks while it works: sentences, and how far a stage is."""

    say: Callable[[str], None]
    progress: Progress


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training left: the run, the registered version, and what was measured."""

    run_id: str
    run_name: str
    version: str
    metrics: dict[str, float]
    messages: tuple[str, ...]
    facts: dict[str, Any]
    chosen: Chosen


# ---- train ------------------------------------------------------------------------------------


def train_job(
    spec: TrainSpec, read_spec: ReadSpec, settings: Settings, reporter: Reporter, experiment: str = "rankline"
) -> TrainResult:
    """Read, train, and record everything in one MLflow run; the last step registers the model."""
    stages = Stages()
    start = time.perf_counter()
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
    with tracking.start_run(settings.tracking_uri, experiment, PROJECT_ROOT) as run:
        run.name_if_made_up(f"NMF k={spec.n_components} · {_source_name(read_spec)}")
        run.params(_as_asked(spec, read_spec))
        with stages("read"):
            reporter.progress("read", 0, None)
            chosen = read_interactions(
                read_spec, settings, reporter.say, lambda done, total: reporter.progress("read", done, total)
            )
        run.tags(_source_tags(chosen))
        if chosen.read.n_bad:
            reporter.say(f"{chosen.read.n_bad} bad row(s) of {chosen.read.n_rows} left out; bad_rows.json has a sample")
            run.text("bad_rows.json", json.dumps(chosen.read.bad_rows, indent=1, ensure_ascii=False))
            run.metrics({"n_bad_rows": chosen.read.n_bad})

        trained = train(chosen.read.interactions, spec, reporter.progress)
        for message in trained.report.messages:
            reporter.say(message)

        with stages("log"):
            reporter.progress("log", 0, None)
            run.name_if_made_up(_run_name(trained, read_spec, chosen))
            run.params(trained.found)
            run.tags({"data_digest": trained.data_digest})
            run.dataset(
                "interactions",
                trained.data_digest,
                chosen.where,
                {"kind": chosen.source, "rows": str(chosen.read.n_rows)},
            )
            run.metrics(trained.report.metrics)
            run.curve("loss", trained.losses.tolist())
            model_uri = _log_model(run, trained, chosen)
        seconds = {**stages.seconds, **trained.seconds, "total": time.perf_counter() - start}
        run.metrics({f"seconds_{name}": value for name, value in seconds.items()})
        run.metrics({"peak_memory_mb": _peak_memory_mb()})
        run.describe(_description(trained, chosen))
        # Last: a version exists only when everything behind it does.
        version = registry.register(model_uri, run.id, {"data_digest": trained.data_digest})
        run.tags({"model_version": version})
        return TrainResult(
            run.id,
            run.name,
            version,
            dict(trained.report.metrics),
            trained.report.messages,
            {**trained.found, **{f"seconds_{name}": value for name, value in seconds.items()}},
            chosen,
        )


def _as_asked(spec: TrainSpec, read_spec: ReadSpec) -> dict[str, Any]:
    """Every option, spelled as MLproject spells it (`mlflow run` logs them itself, as typed)."""
    values = {**asdict(spec), **asdict(read_spec)}
    return {name: "none" if value is None else value for name, value in values.items()}


def _source_tags(chosen: Chosen) -> dict[str, str | None]:
    return {
        "source": chosen.source,
        "source_address": chosen.where,
        "source_note": " · ".join(chosen.notes) or None,
        "fallback": "file" if chosen.fell_back else None,
        "query": chosen.query.name if chosen.query else None,
        "query_digest": chosen.query.digest if chosen.query else None,
    }


def _source_name(spec: ReadSpec) -> str:
    """What is read, short enough for a run's name."""
    path = spec.query or (spec.input if spec.source != "warehouse" else None)
    return path.name if path is not None else "warehouse"


def _run_name(trained: Trained, spec: ReadSpec, chosen: Chosen) -> str:
    source = _source_name(spec) if chosen.source == "file" or spec.query is not None else "warehouse"
    transform = "" if trained.spec.transform == "none" else f" {trained.spec.transform}"
    return f"NMF k={trained.model.n_components}{transform} · {source} {trained.found['matrix_shape']}"


def _log_model(run: tracking.Run, trained: Trained, chosen: Chosen) -> str:
    """The four artifacts at the run's root, `nmf_model` and `recommender`; returns the latter's URI."""
    import pandas as pd

    from pipeline import pyfunc

    facts = {"run_id": run.id, "source": chosen.source, "query_digest": chosen.query.digest if chosen.query else None}
    model = replace(trained.model, meta={**trained.model.meta, **facts})
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        folder = model.save(Path(scratch) / "model")
        run.folder(folder)
        if chosen.query is not None:
            run.text("query.sql", chosen.query.text + "\n")
        run.sklearn_model(trained.estimator())
        example = pd.DataFrame({"user_id": model.users.values[:1]})
        return run.pyfunc_model(
            Path(pyfunc.__file__),
            Path(pyfunc.__file__).parent,
            folder,
            example,
            pyfunc.signature_for(model.users.kind, model.items.kind),
        )


def _description(trained: Trained, chosen: Chosen) -> str:
    """The run's page in a few lines of Markdown: how it fares beside most popular, and from what data."""
    metrics = trained.report.metrics
    lines = [
        f"**{trained.found['matrix_shape']}**, {trained.found['n_interactions']:,} interactions from {chosen.where}",
        "",
    ]
    if "holdout_ndcg_at_10" in metrics:
        lines += ["| held-out interactions | this model | most popular |", "|---|---|---|"]
        for title, name in (("NDCG@10", "ndcg_at_10"), ("recall@10", "recall_at_10")):
            lines.append(f"| {title} | {metrics['holdout_' + name]:.4f} | {metrics['holdout_popular_' + name]:.4f} |")
        lines.append("")
    lines += [f"- {message}" for message in (*chosen.notes, *trained.report.messages)]
    return "\n".join(lines)


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


# ---- score ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring left."""

    model: str
    table: str
    address: str
    summary: BatchSummary
    seconds: float


def score_job(spec: ScoreSpec, settings: Settings, reporter: Reporter) -> ScoreResult:
    """Rank for every user of the model and publish the table; whatever fails, the old table stays."""
    start = time.perf_counter()
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
    with _run_of_mlflow(settings) as run, _loaded(spec.model, reporter, mapped=True) as (scorer, version):
        with open_warehouse(settings) as warehouse:
            seen = _seen_query(spec, warehouse, reporter)
            table = RecommendationsTable(
                warehouse, scorer.users.kind, scorer.items.kind, version.version, version.run_id
            )
            try:
                summary = score_all(
                    scorer,
                    table,
                    spec.k,
                    seen_now=() if seen is None else seen_now(warehouse, seen, scorer.users.kind, scorer.items.kind),
                    unknown_popular=spec.unknown == "popular",
                    progress=lambda done, total: reporter.progress("score", done, total, "users"),
                )
                reporter.progress("publish", 0, None)
                table.publish()
            except BaseException:
                _discard(table, reporter)
                raise
            result = ScoreResult(version.label, PUBLISHED, warehouse.address, summary, time.perf_counter() - start)
        if run is not None:
            run.name_if_made_up(f"score {version.label}")
            run.params({**{name: value for name, value in asdict(spec).items() if value is not None}})
            run.tags({"model_version": version.version, "scored_run": version.run_id})
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


@contextmanager
def _loaded(
    model: str | None, reporter: Reporter, mapped: bool = False
) -> Iterator[tuple[Scorer, registry.ModelVersion]]:
    version = registry.resolve(model)
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        scorer = Scorer.load(registry.download(version, Path(scratch)), mapped=mapped)
        if not version.run_id:
            version = replace(version, run_id=str(scorer.model.meta.get("run_id", "")))
        reporter.say(
            f"model {version.label} ({version.how}): {len(scorer.users)} users, {len(scorer.items)} items, "
            f"run {version.run_id or 'unknown'}"
        )
        yield scorer, version


def _seen_query(spec: ScoreSpec, warehouse: Any, reporter: Reporter) -> Any:
    """The query that says what is seen by now, None where the warehouse has nothing to say."""
    if spec.query is not None:
        return read_query(spec.query)
    if warehouse.engine(MART) is None:
        reporter.say(f"{MART} is not there: what the model's artifact has as seen is left out, nothing else")
        return None
    return interactions_query(warehouse, None)


def _discard(table: RecommendationsTable, reporter: Reporter) -> None:
    try:
        table.discard()
    except ServerError as error:
        reporter.say(f"the staged table was left behind ({error}); a later job drops it")


# ---- look -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Listing:
    """A user's list, and what they liked, for people to look at."""

    user: int | str
    model: str
    ranking: Ranking
    titles: dict[str, str]
    liked: list[dict[str, Any]]


def recommend_job(
    user: str, k: int, model: str | None, popular_if_unknown: bool, settings: Settings, reporter: Reporter
) -> Listing:
    """A user's list from the model, with titles where the warehouse has them."""
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
    with _loaded(model, reporter) as (scorer, version):
        user_id = scorer.users.parse(user)
        ranking = scorer.recommend(user_id, k, unknown="popular" if popular_if_unknown else "error")
        try:
            with open_warehouse(settings) as warehouse:
                names = titles(warehouse, ranking.items.tolist())
                liked = history(warehouse, user_id, k)
        except ServerError as error:
            reporter.say(f"no titles: {error}")
            names, liked = {}, []
        return Listing(user_id, version.label, ranking, names, liked)


@dataclass(frozen=True, eq=False)
class Shown:
    """The end of a training, for people to look at."""

    run_id: str
    run_name: str
    metrics: dict[str, float]
    listing: Listing | None
    published: list[dict[str, Any]]
    address: str
    store: str


def show_job(model: str | None, settings: Settings, reporter: Reporter, user: str | None = None) -> Shown:
    """A version's metrics, one user's published list beside what they rated highest, and where all is."""
    tracking.open_store(settings.tracking_uri, PROJECT_ROOT)
    with _loaded(model, reporter) as (scorer, version):
        metrics = dict(scorer.model.meta.get("metrics", {}))
        with open_warehouse(settings) as warehouse:
            published = []
            listing = None
            if warehouse.engine(PUBLISHED) is not None:
                published = warehouse.rows(load("queries/published_summary").text)
                user_id = scorer.users.parse(user) if user is not None else scorer.users.values[0].item()
                rows = warehouse.rows(load("queries/published").text, {"user": str(user_id)})
                if user is not None and not rows:
                    raise InputError(f"{PUBLISHED} has no rows for user {user!r}")
                names = titles(warehouse, [row["item_id"] for row in rows])
                if rows:
                    ranking = Ranking([row["item_id"] for row in rows], [row["score"] for row in rows])  # type: ignore[arg-type]
                    listing = Listing(user_id, version.label, ranking, names, history(warehouse, user_id))
            address = warehouse.address
    return Shown(
        version.run_id,
        tracking.run_name(version.run_id) if version.run_id else "",
        metrics,
        listing,
        published,
        address,
        tracking.address_of_store(settings.tracking_uri),
    )


# ---- warehouse --------------------------------------------------------------------------------


def init_job(settings: Settings, reporter: Reporter) -> None:
    """Make the tables that are missing and bring the mart up to its SQL file."""
    with open_warehouse(settings) as warehouse:
        for sentence in init(warehouse):
            reporter.say(sentence)


def sample_job(settings: Settings, reporter: Reporter) -> None:
    """Load the sample; twice leaves the same rows."""
    with open_warehouse(settings) as warehouse:
        added = load_sample(warehouse)
        total = sum(added.values())
        detail = ", ".join(f"{n} into {name}" for name, n in added.items() if n)
        reporter.say(
            f"loaded the MovieLens sample into {warehouse.address}: {detail}"
            if total
            else f"the MovieLens sample is in {warehouse.address} already: nothing to add"
        )


def sql_job(statement: str, settings: Settings) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement; returns column names and rows (both empty for a statement without a result)."""
    with open_warehouse(settings) as warehouse:
        return warehouse.run(statement.rstrip().rstrip(";"))
