"""Folds a night's new data into the champion's training, and registers the result as a version of its own.

The version has the rows of the new and changed users, the folded items, its own watermark, and the evaluation of the
training that it comes from: items and their factors are those that were evaluated. Its tags say so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.storage import leave_only
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.item_texts import item_texts
from pipeline.jobs.logged_run import TrainingJob, log_run
from pipeline.jobs.nightly_plan import FoldInPlan
from pipeline.models.registry import find
from pipeline.models.saved_model import ItemTexts, model_name, with_meta
from pipeline.tracking.lookup import RunRef, evaluation_files
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.tracking.version_deletion import FOLDED_FROM
from pipeline.training.fold_in import Folded, fold_in

__all__ = ["FoldInResult", "fold_in_night"]


@dataclass(frozen=True)
class FoldInResult:
    """The registered version, its run, and a sentence on what was folded in."""

    version: str
    run_id: str
    sentence: str


def fold_in_night(job: TrainingJob, chosen: LoadedInput, plan: FoldInPlan) -> FoldInResult:
    """Fold in, log everything to the job's run, and register the version.

    Raises UsageError, InputError where the model can't be folded into after all: see `fold_in`.
    """
    with job.stages("fold in"):
        job.reporter.progress("fold in", 0, None)
        folded = fold_in(plan.base.scorer.model, plan.now, plan.changes, plan.repeats)
    shape = f"{len(folded.model.users)}x{len(folded.model.items)}"
    name = f"fold in · {find(model_name(folded.model)).display_name} · {chosen.source} {shape}"
    sentence = _sentence(folded, plan)
    logged = log_run(job, name, _filling(job, chosen, plan, folded), {})
    return FoldInResult(logged.version, job.run.id, sentence)


def _sentence(folded: Folded, plan: FoldInPlan) -> str:
    left_out = (
        f"; {folded.n_left_out:,} interactions with new items wait for the next training" if folded.n_left_out else ""
    )
    return (
        f"{folded.n_new_users:,} new and {folded.n_changed_users:,} changed user(s) and {folded.n_new_items:,} new "
        f"item(s) folded into {plan.base.version.label}: {plan.changes.share:.2%} of its interactions{left_out}"
    )


def _filling(
    job: TrainingJob, chosen: LoadedInput, plan: FoldInPlan, folded: Folded
) -> Callable[[PendingRunWriter], None]:
    """A function that writes everything that `upload.record` will log."""

    def fill(writer: PendingRunWriter) -> None:
        base, model = plan.base, folded.model
        facts = {
            "run_id": writer.id,
            "source": chosen.source,
            "source_name": chosen.name,
            "query_digest": chosen.query.digest if chosen.query else None,
            "data_watermark": chosen.watermark,
            "data_digest": plan.data_digest,
            FOLDED_FROM: {"version": base.version.label, "run_id": base.version.run_id},
        }
        with_meta(model, {**model.meta, **facts}).save(writer.model, _texts(job, chosen, plan, folded))
        _write_evaluation(writer, plan)
        writer.params(_params(base.run.params, folded))
        tags = {
            FOLDED_FROM: base.version.version,
            "folded_users": f"{folded.n_new_users} new, {folded.n_changed_users} changed",
            "folded_items": str(folded.n_new_items),
            "evaluation_of": base.version.run_id,
            **{name: base.tags.get(name) for name in ("better_than_popular", "split", "split_digest")},
            "source_name": chosen.name,
            "data_digest": plan.data_digest,
        }
        writer.tags(tags)
        writer.tags(tags, of_the_version=True)
        source_tags = {"kind": chosen.source, "rows": str(chosen.read.n_rows)}
        writer.dataset("interactions", plan.data_digest, chosen.where, source_tags)
        metrics = model.meta.get("metrics")
        writer.metrics(metrics if isinstance(metrics, Mapping) else {})
        writer.metrics(
            {
                "fold_in/share_new": plan.changes.share,
                "fold_in/n_new_users": folded.n_new_users,
                "fold_in/n_changed_users": folded.n_changed_users,
                "fold_in/n_new_items": folded.n_new_items,
            }
        )
        sentence = _sentence(folded, plan)
        writer.describe(
            f"**No training:** {sentence}.\n\nThe metrics are those of {base.version.label}, whose items and their "
            "factors these are.",
            of_the_version=f"{sentence}; its metrics are those of {base.version.label}",
        )

    return fill


def _texts(job: TrainingJob, chosen: LoadedInput, plan: FoldInPlan, folded: Folded) -> ItemTexts | None:
    """Titles and genres: of the source, else those that the training had."""
    texts = item_texts(folded.model.items, chosen, job.settings, job.reporter)
    if texts is not None:
        return texts
    snapshot = plan.base.scorer.snapshot
    return None if snapshot is None else snapshot.texts


def _write_evaluation(writer: PendingRunWriter, plan: FoldInPlan) -> None:
    """That of the training, of the users who are there now alone: nobody who was forgotten is written again."""
    version = plan.base.version
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        run = RunRef(version.run_id, version.label, "", version.version)
        folder = evaluation_files(run, Path(scratch) / "evaluation")
        if folder is not None:
            leave_only(folder, plan.now.users.values)
            writer.folder(folder, "evaluation")


def _params(of_the_training: Mapping[str, str], folded: Folded) -> dict[str, Any]:
    """What a training logs of its fit, of the model as it is now."""
    kept = {name: of_the_training[name] for name in ("algorithm_used", "n_components_used") if name in of_the_training}
    n_users, n_items = len(folded.model.users), len(folded.model.items)
    return {
        **kept,
        "matrix_shape": f"{n_users}x{n_items}",
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": int(folded.model.seen.nnz),
    }
