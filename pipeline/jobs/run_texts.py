"""The name, the parameters and the tags of a training's run, and the descriptions of the run and of its version."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pipeline.evaluation.report.summary import in_one_line, side_by_side, verdict_in_words
from pipeline.jobs.inputs import LoadedInput
from pipeline.options import ReadOptions
from pipeline.options.base import as_text
from pipeline.tracking.run import Run
from pipeline.training.choice_report import choice_page
from pipeline.training.train import Trained

__all__ = ["as_asked", "run_description", "run_name", "source_label", "tag_source", "version_description"]


def source_label(spec: ReadOptions) -> str:
    """A short name of the source, for the run's name."""
    if spec.query is not None:
        return spec.query.name
    if spec.source == "warehouse" or not spec.inputs:
        return "warehouse"
    first, *others = spec.inputs
    return f"{first.name or first} and {len(others)} more" if others else first.name


def run_name(trained: Trained, spec: ReadOptions, chosen: LoadedInput) -> str:
    """The name of the run: its model, its source and the shape of the matrix."""
    source = source_label(spec) if chosen.source == "file" or spec.query is not None else "warehouse"
    label = trained.algorithm.label(trained.spec, trained.facts)
    return f"{label} · {source} {trained.facts['matrix_shape']}"


def run_description(trained: Trained, chosen: LoadedInput) -> str:
    """The run's description in Markdown: its data, and its metrics beside those of the baselines."""
    metrics, evaluation = trained.report.metrics, trained.evaluation
    lines = [
        f"**{trained.facts['matrix_shape']}**, {trained.facts['n_interactions']:,} interactions from {chosen.where}",
        "",
    ]
    if evaluation is not None:
        verdict = verdict_in_words(metrics, evaluation.better_than_popular)
        lines += [f"Held out: {evaluation.split_in_words}." + (f" **{verdict.capitalize()}**" if verdict else ""), ""]
    for table in side_by_side(metrics):
        lines += [f"| {' | '.join(row)} |" for row in (table.columns, ("---",) * len(table.columns), *table.rows)]
        lines += ["", *([table.note, ""] if table.note else [])]
    if trained.choice is not None:
        lines += [choice_page(trained.choice), ""]
    lines += [f"- {message}" for message in (*chosen.notes, *trained.report.messages)]
    return "\n".join(lines)


def version_description(trained: Trained, report: str) -> str:
    """The version's description in one line: `in_one_line`, ``k = 20, 671 × 9,066, report: …``."""
    shape = " × ".join(f"{n:,}" for n in trained.matrix.scores.shape)
    k = trained.facts.get("n_components_used")
    size = trained.algorithm.label(trained.spec, trained.facts) if k is None else f"k = {k}"
    facts = f"{size}, {shape}, report: [report.html]({report})"
    return f"{in_one_line(trained.report.metrics)}, {facts}"


def as_asked(*specs: Any) -> dict[str, Any]:
    """All options as run parameters, in the spelling of MLproject (`mlflow run` logs them as typed)."""
    values = {name: value for spec in specs for name, value in asdict(spec).items()}
    return {
        name: as_text(value) if value is None or isinstance(value, tuple) else value for name, value in values.items()
    }


def tag_source(run: Run, chosen: LoadedInput) -> None:
    """Tag the run with the source of its interactions."""
    tags = {
        "source": chosen.source,
        "source_address": chosen.where,
        "source_note": " · ".join(chosen.notes) or None,
        "fallback": "file" if chosen.fell_back else None,
        "query": chosen.query.name if chosen.query else None,
        "columns": chosen.read.columns.sentence if chosen.read.columns else None,
        "data_watermark": json.dumps(chosen.watermark) if chosen.watermark else None,
    }
    run.tags(tags)
    run.tags_later({"query_digest": chosen.query.digest if chosen.query else None})
