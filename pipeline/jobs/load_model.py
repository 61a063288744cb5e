"""Loads the model for a command: finds the version, downloads and verifies its files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.tracking import registry

__all__ = ["loaded"]


@contextmanager
def loaded(
    model: str | None, reporter: Reporter, name: str, mapped: bool = False
) -> Iterator[tuple[Scorer, registry.ModelVersion]]:
    """The scorer and the version that `model` names. A version that the registry chose is reported.

    name : the registered model, where `model` names none
    """
    version = registry.resolve(model, name)
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        with registry.signature_named(version):
            scorer = Scorer.load(registry.download(version, Path(scratch)), mapped=mapped)
        registry.check_run(scorer.model, version)
        if not version.run_id:
            version = replace(version, run_id=str(scorer.model.meta.get("run_id") or ""))
        if model is None or "@" in model:
            # A version named by its number needs no report.
            reporter.say(
                f"model {version.label} ({version.how}): {len(scorer.users):,} users, {len(scorer.items):,} items, "
                f"run {version.run_id or 'unknown'}"
            )
        yield scorer, version
