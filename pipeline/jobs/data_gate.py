"""The data gate of a training: what was read is examined, and compared with the champion's data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from pipeline.data.profile import ReferenceData, Source
from pipeline.data.quality import DataLimits, DataQuality, examine
from pipeline.errors import ArtifactError, InputError
from pipeline.jobs.inputs import LoadedInput
from pipeline.options.names import DEFAULT_NAME
from pipeline.runtime.progress import Reporter
from pipeline.tracking import run as tracking
from pipeline.tracking.champion_data import champion_data

__all__ = ["check_data", "quality_of"]


def quality_of(
    loaded: LoadedInput, limits: DataLimits, now: np.datetime64 | None = None, before: ReferenceData | None = None
) -> DataQuality:
    """Examine the data that was read. `now` is the clock by default; `before` is the champion's data."""
    return examine(
        loaded.read.interactions,
        limits,
        n_rows=loaded.read.n_rows,
        n_bad=loaded.read.n_bad,
        now=np.datetime64("now", "ms") if now is None else now,
        source=Source(loaded.source, loaded.where, loaded.query.digest if loaded.query else None),
        before=before,
        old_is_usual=loaded.source == "file" or loaded.where.startswith("chdb://"),
    )


def check_data(
    run: tracking.Run,
    chosen: LoadedInput,
    limits: DataLimits,
    reporter: Reporter,
    now: np.datetime64 | None = None,
    model: str = DEFAULT_NAME,
) -> DataQuality:
    """Run the data gate and log its result to the run. Raises DataGateError where a limit is exceeded.

    model : the registered model with whose champion the data is compared
    """
    reporter.progress("data gate", 0, None)
    unread = ""
    try:
        before = champion_data(model)
    except (ArtifactError, InputError) as error:
        before, unread = None, f"the champion's data is not known ({error}): gained and lost are not checked"
    outcome = quality_of(chosen, limits, now, before)
    if unread:
        outcome = replace(outcome, notes=(unread,))
    run.text("data_gate.json", json.dumps(outcome.as_json(), indent=1, ensure_ascii=False, allow_nan=False))
    if outcome.facts.score_mean is not None:
        run.params({"mean_score": f"{outcome.facts.score_mean:.6g}"})  # the next gate compares with it
    run.tags({"data_gate": outcome.verdict, "data_gate_findings": outcome.words or None})
    for finding in outcome.findings:
        if not finding.breach:
            reporter.say(f"data gate: {finding.sentence}")
    # The first training has no champion; that needs no report.
    if before is not None or unread:
        for note in outcome.notes:
            reporter.say(f"data gate: {note}")
    outcome.check()
    return outcome
