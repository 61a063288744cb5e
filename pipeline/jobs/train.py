"""`train`: read, train, and record everything in one MLflow run."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import registry, tracking
from pipeline.jobs.pages import log_pages
from pipeline.jobs.reporter import Reporter
from pipeline.settings import PROJECT_ROOT, Settings
from pipeline.sources.choice import Chosen, read_interactions
from pipeline.spec import ReadSpec, TrainSpec
from pipeline.train import Stages, Trained, train

__all__ = ["TrainResult", "train_job"]


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


def train_job(
    spec: TrainSpec, read_spec: ReadSpec, settings: Settings, reporter: Reporter, experiment: str = "rankline"
) -> TrainResult:
    """Read, train, and record everything in one MLflow run; the last step registers the model."""
    stages = Stages()
    start = time.perf_counter()
    tracking.open_store(settings.tracking_uri)
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
        with stages("pages"):
            reporter.progress("pages", 0, None)
            log_pages(run, trained, chosen, settings, reporter)
        seconds = {**stages.seconds, **trained.seconds, "total": time.perf_counter() - start}
        run.metrics({f"seconds_{name}": value for name, value in seconds.items()})
        run.metrics({"peak_memory_mb": _peak_memory_mb()})
        run.describe(_description(trained, chosen))
        # Last: a version exists only when everything behind it does.
        version = registry.register(model_uri, {"data_digest": trained.data_digest})
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
    """The four artifacts at the run's root, `nmf_model` (of the plain objective), `recommender`; returns its URI."""
    import pandas as pd

    from pipeline import pyfunc

    facts = {"run_id": run.id, "source": chosen.source, "query_digest": chosen.query.digest if chosen.query else None}
    model = replace(trained.model, meta={**trained.model.meta, **facts})
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        folder = model.save(Path(scratch) / "model")
        run.folder(folder)
        if (estimator := trained.estimator()) is not None:
            run.sklearn_model(estimator)
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
    """Peak resident memory of this process; where /proc tells, without what a parent had before the exec."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
