"""The model that a command works with: which version, fetched and verified."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline import registry
from pipeline.jobs.reporter import Reporter
from pipeline.scorer import Scorer

__all__ = ["loaded"]


@contextmanager
def loaded(
    model: str | None, reporter: Reporter, mapped: bool = False
) -> Iterator[tuple[Scorer, registry.ModelVersion]]:
    """The scorer and the version that `model` names, said in a line."""
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
