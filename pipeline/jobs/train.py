"""`train`: read, train, and record everything in one MLflow run."""

from __future__ import annotations

import json
import resource
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import orphans, tracking
from pipeline.beside import side_by_side, verdict_in_words
from pipeline.errors import RanklineError
from pipeline.jobs.before_fit import Wanted, check_data, check_memory, check_reading
from pipeline.jobs.pages import log_pages
from pipeline.jobs.reporter import Reporter
from pipeline.judge import Judgement
from pipeline.judgement_files import write_judgement
from pipeline.kept import Draft, Kept, kept_in
from pipeline.patience import AGAIN
from pipeline.recording import record, register
from pipeline.settings import PROJECT_ROOT, Settings, address_of_store
from pipeline.sources.choice import Chosen, read_interactions
from pipeline.spec import ReadSpec, TrainSpec
from pipeline.train import Stages, Trained, train

__all__ = ["TrainResult", "as_asked", "read_for", "source_name", "source_tags", "train_in", "train_job"]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training left: the run, the registered version, and what was measured.

    `better_than_popular` is yes, no or unclear; None where that was not measured.
    """

    run_id: str
    run_name: str
    version: str
    metrics: dict[str, float]
    messages: tuple[str, ...]
    facts: dict[str, Any]
    chosen: Chosen
    better_than_popular: str | None = None


def train_job(
    spec: TrainSpec, read_spec: ReadSpec, settings: Settings, reporter: Reporter, experiment: str = "rankline"
) -> TrainResult:
    """Read, train, and record everything in one MLflow run; the last step registers the model."""
    start = time.perf_counter()
    tracking.open_store(settings.tracking_uri)
    orphans.end_orphans(settings.tracking_uri, reporter.say)
    if waiting := kept_in(settings.unlogged_path):
        reporter.say(f"{len(waiting)} earlier training(s) are kept and not logged yet: rankline resume logs them")
    with tracking.start_run(settings.tracking_uri, experiment, PROJECT_ROOT, settings.patience) as run:
        run.name_if_made_up(f"NMF k={spec.n_components} · {source_name(read_spec)}")
        run.params(as_asked(spec, read_spec))
        stages = Stages()
        with stages("read"):
            chosen = read_for(run, Wanted(spec), read_spec, settings, reporter)
        return train_in(run, chosen, spec, read_spec, settings, reporter, stages, start)


def read_for(run: tracking.Run, wanted: Wanted, read_spec: ReadSpec, settings: Settings, reporter: Reporter) -> Chosen:
    """The interactions, and on the run where they are from, what was left out, and what the data gate says of them.

    Raises DataGateError for data past a limit, DoesNotFitError where what is wanted needs more memory than is free.
    """
    limits = settings.data_limits
    reporter.progress("read", 0, None)
    chosen = read_interactions(
        read_spec,
        settings,
        reporter.say,
        lambda done, total: reporter.progress("read", done, total),
        check_reading(settings),
    )
    run.tags(source_tags(chosen))
    if chosen.read.n_bad:
        reporter.say(f"{chosen.read.n_bad} bad row(s) of {chosen.read.n_rows} left out; bad_rows.json has a sample")
        run.text("bad_rows.json", json.dumps(chosen.read.bad_rows, indent=1, ensure_ascii=False))
        run.metrics({"n_bad_rows": chosen.read.n_bad})
    facts = check_data(run, chosen, limits, reporter).facts
    check_memory(run, chosen.read.interactions, facts.n_duplicates, wanted, settings, reporter)
    return chosen


def train_in(
    run: tracking.Run,
    chosen: Chosen,
    spec: TrainSpec,
    read_spec: ReadSpec,
    settings: Settings,
    reporter: Reporter,
    stages: Stages,
    start: float,
) -> TrainResult:
    """Train on what was read, record everything in the run, and register the model.

    `start` is when the command began, on `time.perf_counter`'s clock; `stages` has what was done since.
    """
    trained = train(chosen.read.interactions, spec, reporter.progress)
    for message in trained.report.messages:
        reporter.say(message)

    with _kept(run, trained, chosen, read_spec, settings, reporter, stages, start) as kept:
        with stages("log"):
            reporter.progress("log", 0, None)
            model_uri = record(run, kept)
        seconds = _seconds(stages, trained, start)
        run.metrics({**seconds, "peak_memory_mb": _peak_memory_mb()})
        version = register(run, kept, model_uri)
        run.finish()
    return TrainResult(
        run.id,
        str(kept.facts["name"]),
        version,
        dict(trained.report.metrics),
        trained.report.messages,
        {**trained.found, **seconds},
        chosen,
        kept.facts["version_tags"].get("better_than_popular"),
    )


@contextmanager
def _kept(
    run: tracking.Run,
    trained: Trained,
    chosen: Chosen,
    read_spec: ReadSpec,
    settings: Settings,
    reporter: Reporter,
    stages: Stages,
    start: float,
) -> Iterator[Kept]:
    """What was trained, written to this machine before anything is logged: taken away when the block has logged it.

    Where the block fails it stays, and the error says where it is and how it is logged later.
    """
    name = run.name_for(_run_name(trained, read_spec, chosen))
    store = address_of_store(settings.tracking_uri)
    with Draft(settings.unlogged_path, run.id, name, store, int(time.time() * 1000)) as draft:
        with stages("pages"):
            reporter.progress("pages", 0, None)
            log_pages(draft, trained, chosen, settings, reporter)
        with stages("log"):
            if name != run.name:
                draft.rename()
            _fill(draft, trained, chosen)
            draft.metrics({**_seconds(stages, trained, start), "peak_memory_mb": _peak_memory_mb()}, late=True)
            kept = draft.keep()
    try:
        yield kept
    except BaseException as error:
        kept.close()
        where = (
            f"what was trained is kept in {kept.folder}; log it with: rankline resume {shlex.quote(str(kept.folder))}"
        )
        if isinstance(error, RanklineError):
            error.args = (f"{str(error).removesuffix(AGAIN)}; {where}",)
        else:
            reporter.say(where)
        raise
    kept.remove()


def _fill(draft: Draft, trained: Trained, chosen: Chosen) -> None:
    """Everything that the run is to hold; `recording.record` logs it."""
    facts = {"run_id": draft.id, "source": chosen.source, "query_digest": chosen.query.digest if chosen.query else None}
    replace(trained.model, meta={**trained.model.meta, **facts}).save(draft.model)
    if trained.spec.plain:
        # The rest of the estimator are the factors, and the curve of the loss.
        params = trained.spec.estimator_params(trained.model.n_components)
        draft.estimator(params, trained.fitted.converged, trained.fitted.error)
    if trained.judgement is not None:
        with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
            written = write_judgement(trained.judgement, trained.data_digest, Path(scratch) / "evaluation")
            draft.folder(written, "evaluation")
    draft.params(trained.found)
    judged = _judged_tags(trained.judgement)
    if trained.interrupted:
        judged["interrupted"] = ", ".join(trained.interrupted)
    draft.tags({"data_digest": trained.data_digest, **judged})
    draft.tags({"data_digest": trained.data_digest, **judged}, of_the_version=True)
    where = {"kind": chosen.source, "rows": str(chosen.read.n_rows)}
    draft.dataset("interactions", trained.data_digest, chosen.where, where)
    draft.metrics(trained.report.metrics)
    draft.curve("loss", trained.losses.tolist())
    draft.describe(_description(trained, chosen))


def _seconds(stages: Stages, trained: Trained, start: float) -> dict[str, float]:
    """What each stage took, and all of it until now, by their logged names."""
    seconds = {**stages.seconds, **trained.seconds, "total": time.perf_counter() - start}
    return {f"seconds_{name}": value for name, value in seconds.items()}


def _judged_tags(judgement: Judgement | None) -> dict[str, str]:
    """What was judged by, and the verdict: on the run and on the version."""
    if judgement is None:
        return {}
    tags = {"split": judgement.split_in_words, "split_digest": judgement.split.digest}
    better = judgement.better_than_popular
    return tags if better is None else {**tags, "better_than_popular": better}


def as_asked(*specs: Any) -> dict[str, Any]:
    """Every option, spelled as MLproject spells it (`mlflow run` logs them itself, as typed)."""
    values = {name: value for spec in specs for name, value in asdict(spec).items()}
    return {name: "none" if value is None else value for name, value in values.items()}


def source_tags(chosen: Chosen) -> dict[str, str | None]:
    """Where the interactions are from, on the run."""
    return {
        "source": chosen.source,
        "source_address": chosen.where,
        "source_note": " · ".join(chosen.notes) or None,
        "fallback": "file" if chosen.fell_back else None,
        "query": chosen.query.name if chosen.query else None,
        "query_digest": chosen.query.digest if chosen.query else None,
    }


def source_name(spec: ReadSpec) -> str:
    """What is read, short enough for a run's name."""
    path = spec.query or (spec.input if spec.source != "warehouse" else None)
    return path.name if path is not None else "warehouse"


def _run_name(trained: Trained, spec: ReadSpec, chosen: Chosen) -> str:
    source = source_name(spec) if chosen.source == "file" or spec.query is not None else "warehouse"
    transform = "" if trained.spec.transform == "none" else f" {trained.spec.transform}"
    return f"NMF k={trained.model.n_components}{transform} · {source} {trained.found['matrix_shape']}"


def _description(trained: Trained, chosen: Chosen) -> str:
    """The run's page in a few lines of Markdown: how it fares beside its baselines, and from what data."""
    metrics, judgement = trained.report.metrics, trained.judgement
    lines = [
        f"**{trained.found['matrix_shape']}**, {trained.found['n_interactions']:,} interactions from {chosen.where}",
        "",
    ]
    if judgement is not None:
        verdict = verdict_in_words(metrics, judgement.better_than_popular)
        lines += [f"Held out: {judgement.split_in_words}." + (f" **{verdict.capitalize()}**" if verdict else ""), ""]
    for table in side_by_side(metrics):
        lines += [f"| {' | '.join(row)} |" for row in (table.columns, ("---",) * len(table.columns), *table.rows)]
        lines += ["", *([table.note, ""] if table.note else [])]
    lines += [f"- {message}" for message in (*chosen.notes, *trained.report.messages)]
    return "\n".join(lines)


def _peak_memory_mb() -> float:
    """Peak resident memory of this process; where /proc tells, without what a parent had before the exec."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
