"""What `rankline serve` says while nobody answers yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.served import put_copy, small_trained

from pipeline.serving import supervisor
from pipeline.serving.live_folder import LiveFolder, WorkerReport, write_json


def test_why_it_takes_long_is_said_once_and_then_that_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def again() -> supervisor._Readiness:
        said.clear()
        return supervisor._Readiness(folder, 1, "http://here", said.append)

    folder = LiveFolder(tmp_path / "live")
    folder.make()
    again().look()
    assert said == []  # it has just begun
    monkeypatch.setattr(supervisor, "_LONG", -1.0)
    again().look()
    assert said == ["not ready yet: the agent starts, and fetches the model from MLflow"]
    write_json(folder.agent_path, {"at": 1, "fault": "No version of rankline"})
    again().look()
    assert said == ["not ready yet: No version of rankline"]
    pointer = put_copy(folder, small_trained("popular"))
    folder.propose(pointer)
    readiness = again()
    readiness.look()
    readiness.look()
    assert len(said) == 1
    assert "workers load the model" in said[0]
    folder.report(WorkerReport((pointer.digest,), {}, pointer.label))
    readiness.look()
    assert said[1].endswith("http://here answers by rankline/1")
