"""Loads the model for a command: finds the version, downloads and verifies its files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.errors import ArtifactError
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.tracking import registry

__all__ = ["check_run", "loaded"]


@contextmanager
def loaded(
    model: str | None, reporter: Reporter, name: str, mapped: bool = False
) -> Iterator[tuple[Scorer, registry.ModelVersion]]:
    """The scorer and the version that `model` names. A version that the registry chose is reported.

    name : the registered model, where `model` names none
    """
    version = registry.resolve(model, name)
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        scorer = Scorer.load(registry.download(version, Path(scratch)), mapped=mapped)
        check_run(scorer.model, version)
        if not version.run_id:
            version = replace(version, run_id=str(scorer.model.meta.get("run_id") or ""))
        if model is None or "@" in model:
            # A version named by its number needs no report.
            reporter.say(
                f"model {version.label} ({version.how}): {len(scorer.users):,} users, {len(scorer.items):,} items, "
                f"run {version.run_id or 'unknown'}"
            )
        yield scorer, version


def check_run(model: SavedModel, version: registry.ModelVersion) -> None:
    """Raise ArtifactError where the artifacts say that another run made them, as those do that somebody copied.

    Artifacts of before they said so pass.
    """
    made_by = str(model.meta.get("run_id") or "")
    if version.run_id and made_by and made_by != version.run_id:
        raise ArtifactError(
            f"The artifacts of {version.label} are those of another run: metadata.json says {made_by}, and the version "
            f"is of run {version.run_id}. Put that run's own artifacts back, or name the other: --model runs:/{made_by}"
        )
