"""Drift in health, in Prometheus over two workers, and on the page; what the agent reads, and whom it tells."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.drift_reports import HOSTILE, drift_value
from support.served import Workers, put_copy, small_trained
from support.told import Webhook

from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.serving import agent_alerts
from pipeline.serving.drift_report import parse_report
from pipeline.serving.drift_snapshot import DriftSnapshot
from pipeline.serving.job_table import JobTable
from pipeline.serving.live_folder import read_json, write_json
from pipeline.tracking.drift_log import TAG

pytest_plugins = ["support.homes"]

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    made = Workers(tmp_path_factory.mktemp("served") / "live", n=0)
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _nothing_measured(workers: Workers) -> None:
    workers.folder.drift_snapshot.unlink(missing_ok=True)


def gauges(workers: Workers, worker: int, name: str) -> dict[str, float]:
    families = text_string_to_metric_families(workers.get("/metrics", worker).text)
    return {
        sample.labels["statistic"]: sample.value
        for family in families
        if family.name == name
        for sample in family.samples
    }


def test_before_anything_is_measured(workers: Workers) -> None:
    body = workers.get("/api/v1/health").json()
    assert body["drift"] == {"measured_at": None, "fault": ""}
    assert gauges(workers, 0, "rankline_drift") == {}
    assert "Nothing was measured yet" in workers.get("/page/health", headers=HTML).text


def test_both_workers_say_the_same_of_what_was_measured_last(workers: Workers) -> None:
    degraded = workers.get("/api/v1/health").json()["status"]
    write_json(workers.folder.drift_snapshot, drift_value())
    for worker in (0, 1):
        body = workers.get("/api/v1/health", worker).json()
        drift = body["drift"]
        assert (drift["champion"], drift["warning"]) == ("rankline/2", "past a limit: psi_popularity 0.31")
        assert drift["measures"] == {
            "psi_popularity": 0.31, "hit_rate": 0.241, "table_age_hours": 20.5, "model_lag_hours": 150.0,
        }  # fmt: skip
        assert body["status"] == degraded, "drift is no fault of the service"
        values = gauges(workers, worker, "rankline_drift")
        assert values.pop("measured_age_hours") == pytest.approx(2, abs=0.05)
        assert values == {**drift["measures"], "hit_rate_low": 0.22, "hit_rate_high": 0.263}
        assert gauges(workers, worker, "rankline_drift_past_limit") == {
            "psi_popularity": 1.0, "table_age_hours": 0.0, "model_lag_hours": 0.0,
        }  # fmt: skip


def test_the_page_has_a_table_in_which_nothing_is_markup(workers: Workers) -> None:
    write_json(workers.folder.drift_snapshot, drift_value())
    text = workers.get("/page/health", headers=HTML).text
    assert "1 past its limit" in text
    assert HOSTILE not in text
    assert "&lt;img src=x" in text
    rows = re.findall(r"<tr.*?</tr>", text[text.index("drift-title") :], re.DOTALL)
    assert len(rows) == 1 + 5
    assert [word for word in ("0.3100", "≤ 0.25", "past its limit") if word not in rows[1]] == []
    assert "6.25 days" in rows[5]
    write_json(workers.folder.drift_snapshot, drift_value(past=False))
    assert "within its limits" in workers.get("/page/health", headers=HTML).text


@pytest.mark.parametrize(
    "value",
    [
        None, 3, [], {}, {"at": "2026-11-29"}, {"at": 3, "measures": [], "champion": ""},
        {"at": "2026-11-29", "measures": {"psi": 1}, "champion": "x"},
        {"at": "2026-11-29", "measures": [3], "champion": "x"},
    ],
)  # fmt: skip
def test_a_tag_that_somebody_wrote_is_no_report(workers: Workers, value: Any) -> None:
    assert parse_report(value) is None
    write_json(workers.folder.drift_snapshot, value)
    assert workers.get("/api/v1/health").json()["drift"]["measured_at"] is None
    assert workers.get("/metrics").status_code == 200


def test_numbers_that_are_none_are_left_out() -> None:
    odd = {
        "name": "psi_popularity",
        "value": "0.3",
        "limit": True,
        "low": float("nan"),
        "high": 10**400,
        "state": "past",
    }
    report = parse_report({"at": "2026-11-29", "champion": "rankline/1", "measures": [odd]})
    assert report is not None
    (row,) = report.rows
    assert (row.value, row.limit, row.low, row.high, row.past) == (None, None, None, None, False)


# ---- the agent -----------------------------------------------------------------------------------


def test_the_agent_reads_what_the_champions_run_says(workers: Workers, tmp_path: Path, store_template: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes((store_template / "mlflow.db").read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((tmp_path / "artifacts").as_uri(),))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    try:
        client, snapshot = mlflow.MlflowClient(), DriftSnapshot(workers.folder, "rankline")
        file = workers.folder.drift_snapshot
        snapshot.refresh(now=True)
        assert not file.exists()
        run = client.create_run(client.get_experiment_by_name("rankline").experiment_id)
        client.create_registered_model("rankline")
        client.create_model_version("rankline", "file:///nowhere", run.info.run_id)
        client.set_registered_model_alias("rankline", "champion", "1")
        snapshot.refresh(now=True)
        assert not file.exists()
        client.set_tag(run.info.run_id, TAG, json.dumps(drift_value()))
        snapshot.refresh()  # it is not time yet
        assert not file.exists()
        snapshot.refresh(now=True)
        assert read_json(file)["champion"] == "rankline/2"
        written = file.stat().st_mtime_ns
        snapshot.refresh(now=True)
        assert file.stat().st_mtime_ns == written
        for damaged in ("{", "3", '{"at": 1}'):
            client.set_tag(run.info.run_id, TAG, damaged)
            snapshot.refresh(now=True)
            assert read_json(file)["champion"] == "rankline/2", "the last good one stays"
    finally:
        mlflow.set_tracking_uri(before)


def test_the_agent_tells_of_a_log_a_table_and_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(tmp_path / "live", n=0)
    workers.folder.make()
    config = replace(workers.config, max_log_age_hours=26.0, max_table_age_hours=36.0, alerts=tmp_path)
    now = datetime.now(UTC)
    assert agent_alerts.agent_alerts(config, now) == []
    with InteractionLog.open(workers.folder.interactions_path) as log:
        log.append([Interaction(4711, 1, 5.0)])
    write_json(workers.folder.drift_snapshot, drift_value())
    jobs = JobTable(workers.folder.jobs_path)
    job_id = jobs.add("train", {"options": {}}, "boss")[0].job_id
    assert agent_alerts.agent_alerts(config, now) == []
    jobs.start(job_id)
    jobs.finish(job_id, "bad rows of user 4711")
    later = now + timedelta(hours=27)
    alerts = agent_alerts.agent_alerts(config, later)
    assert [alert.kind for alert in alerts] == ["interaction_log_age", "table_age", "training_failed"]
    assert alerts[1].facts["hours"] == pytest.approx(20.5 + 29, abs=0.1)
    none = replace(config, max_log_age_hours=None, max_table_age_hours=None)
    assert [alert.kind for alert in agent_alerts.agent_alerts(none, later)] == ["training_failed"]

    monkeypatch.setattr(agent_alerts, "_SECONDS", 0.02)
    stopping = threading.Event()
    with Webhook() as hook:
        watch = threading.Thread(target=agent_alerts.keep_watch, args=(replace(none, notify=(hook.url,)), stopping))
        watch.start()
        while not hook.letters:
            assert watch.is_alive()
        stopping.wait(0.2)
        stopping.set()
        watch.join()
    assert [len(letter["alerts"]) for letter in hook.letters] == [1]  # once, however often it looks
    assert "4711" not in json.dumps(hook.letters)
    workers.runner.close()
