"""The model that a command works with is the one that its version names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ArtifactError
from pipeline.jobs import promote
from pipeline.jobs.load_model import loaded
from pipeline.models.saved_model import with_meta
from pipeline.runtime.progress import Reporter
from pipeline.tracking import registry
from pipeline.tracking.lookup import RunRef

QUIET = Reporter(lambda _: None, lambda *_: None)


def test_artifacts_of_another_run_are_refused(
    tmp_path: Path, make_model: Any, rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody copied those of version 1 into the folder of version 2."""
    model = make_model(rng, 20, 10)
    folder = with_meta(model, {**model.meta, "run_id": "run-1"}).save(tmp_path / "copied")
    monkeypatch.setattr(registry, "download", lambda *_, **__: folder)
    monkeypatch.setattr(registry, "restored_from", lambda _: "")

    def version(run_id: str) -> None:
        version_loaded = registry.ModelVersion("rankline", "2", run_id, "as asked")
        monkeypatch.setattr(registry, "resolve", lambda *_: version_loaded)

    version("run-2")
    refused = pytest.raises(ArtifactError, match=r"of rankline/2 are those of another run: metadata\.json says run-1")
    with refused, loaded("rankline/2", QUIET, "rankline"):
        pass
    assert "those of another run" in promote.why_unusable(RunRef("run-2", "rankline/2", "", "2"), "rankline")
    version("run-1")
    with loaded("rankline/2", QUIET, "rankline") as (_, version_loaded):
        assert version_loaded.run_id == "run-1"
    assert promote.why_unusable(RunRef("run-1", "rankline/2", "", "2"), "rankline") == ""
    with_meta(model, {**model.meta, "run_id": None}).save(folder)
    version("run-2")
    with loaded("rankline/2", QUIET, "rankline"):  # made before artifacts said so
        pass
