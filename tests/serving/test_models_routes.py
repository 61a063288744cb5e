"""Versions, metrics, trainings and jobs in the API: what the agent wrote for the workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Workers, put_copy, small_trained
from support.version_snapshots import put_snapshot, version

from pipeline.serving.live_folder import write_json


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular"), "2"))
    made.runner.run(made._start())
    yield made
    made.close()


def test_versions_metrics_and_history(workers: Workers) -> None:
    before = workers.get("/api/v1/models")
    assert (before.status_code, before.json()["code"], before.headers["retry-after"]) == (503, "NOT_KNOWN_YET", "1")
    one, two, three = version("1", champion=True, ndcg=0.3), version("2"), version("3", ndcg=0.2)
    put_snapshot(workers, three, two, one)
    shown = workers.get("/api/v1/models").json()
    assert shown["models"] == [{**three, "served": False}, {**two, "served": True}, {**one, "served": False}]
    assert workers.get("/api/ml/models").json() == shown
    metrics = workers.get("/api/v1/metrics").json()
    assert metrics == {"version": "1", "metrics": one["metrics"], "baselines": one["baselines"]}
    history = workers.get("/api/v1/metrics/history").json()["history"]
    assert [(row["version"], row["metrics"]["ndcg_at_10"]) for row in history] == [("1", 0.3), ("2", 0.1), ("3", 0.2)]
    assert set(history[0]) == {"version", "created_at", "metrics", "baselines"}
    assert workers.get("/api/ml/metrics/history").json()["history"] == history
    put_snapshot(workers, three, two)  # while none is promoted: what is served
    assert workers.get("/api/ml/metrics").json()["version"] == "2"
    two["metrics"] |= {"cost/seconds_total": 12.5, "holdout/rmse": 0.875}
    put_snapshot(workers, three, two)
    scraped = workers.get("/metrics").text
    assert "rankline_training_seconds 12.5" in scraped
    assert "rankline_model_rmse 0.875" in scraped
    workers.folder.models_snapshot.write_text("{}")
    assert "rankline_training_seconds" not in workers.get("/metrics").text
    assert workers.get("/api/v1/models").status_code == 503


def test_a_training_from_its_request_to_its_end(workers: Workers) -> None:
    idle = workers.get("/api/v1/training").json()
    assert (idle["state"], idle["job_id"], idle["loss"], idle["lines"]) == ("idle", None, [], [])
    table = workers.services[0].jobs
    job, _ = table.add("train", {})
    assert workers.get("/api/v1/training").json()["state"] == "queued"
    table.start(job.job_id)
    seen = {"job_id": job.job_id, "stage": "fit", "loss": [[1, 2.5], [2, 2.25]], "lines": ["read 3 interactions"]}
    write_json(workers.folder.training_snapshot, seen)
    going = workers.get("/api/ml/training-status").json()
    assert (going["state"], going["stage"], going["loss"]) == ("running", "fit", [[1, 2.5], [2, 2.25]])
    assert going["lines"] == ["read 3 interactions"]
    assert going["started_at"] is not None
    table.finish(job.job_id, result={"version": "4"})
    done = workers.get("/api/v1/training").json()
    assert (done["state"], done["version"], done["loss"]) == ("done", "4", [[1, 2.5], [2, 2.25]])
    later, _ = table.add("train", {})  # the snapshot is of the one before
    assert workers.get("/api/v1/training").json()["loss"] == []
    table.finish(later.job_id, "too little data")
    failed = workers.get("/api/v1/training").json()
    assert (failed["state"], failed["reason"]) == ("failed", "too little data")


def test_a_job_by_its_id(workers: Workers) -> None:
    job, _ = workers.services[0].jobs.add("forget", {"user": "7"}, "shop")
    shown = workers.get(f"/api/v1/jobs/{job.job_id}").json()
    assert (shown["job_id"], shown["kind"], shown["state"], shown["finished_at"]) == (
        job.job_id,
        "forget",
        "queued",
        None,
    )
    assert not {"request", "key_id"} & set(shown)
    unknown = workers.get("/api/v1/jobs/none")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_JOB")
    workers.folder.jobs_path.write_bytes(b"damaged, and no database at all " * 40)
    broken = workers.get(f"/api/v1/jobs/{job.job_id}")
    assert (broken.status_code, broken.json()["code"]) == (503, "JOBS_UNAVAILABLE")
    assert workers.get("/api/v1/recommendations/100").status_code == 200
