"""`rankline drift` as a user runs it: what it prints, what MLflow has afterwards, who is told."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from support.processes import Home
from support.told import Webhook

pytest_plugins = ["support.homes"]

DONE = """
INSERT INTO raw.ratings (user_id, movie_id, rating, rated_at)
SELECT user_id, item_id, 4, generated_at + toIntervalHour(1) FROM analytics.recommendations
WHERE user_id <= 300 AND (rank = 3 OR (rank = 1 AND user_id % 2 = 0))
"""
STRANGERS = """
INSERT INTO raw.ratings (user_id, movie_id, rating, rated_at)
SELECT 900000 + number, 1, 4, (SELECT max(generated_at) FROM analytics.recommendations) + toIntervalHour(2)
FROM numbers(1000)
"""


@pytest.fixture
def sample(trained_copy: Home) -> Home:
    statuses = trained_copy.many(
        ["promote", "--force", "--reason", "a test"],
        ["sql", DONE],
        ["sql", STRANGERS],
    )
    assert [status for status, _, _ in statuses] == [0, 0, 0], statuses
    return trained_copy


@pytest.mark.takes(15)
def test_drift_is_measured_recorded_and_told(sample: Home) -> None:
    (row,) = sample.sql("SELECT max(generated_at) AS at FROM analytics.recommendations")
    published = datetime.fromisoformat(row).replace(tzinfo=UTC)
    now = published.replace(microsecond=0).timestamp() + 48 * 3600
    at = datetime.fromtimestamp(now, UTC).isoformat()
    with Webhook() as hook:
        env = {"RANKLINE_NOTIFY": f"{hook.url}/services/T0-B0-hunter2s3cret"}
        first, again, shown = sample.many(
            ["drift", "--json", "--now", at],
            ["drift", "--json", "--now", at, "--max-table-age-hours", "none"],
            ["drift", "--now", "2001-01-01"],
            **env,
        )
    assert first[0] == 3, first
    found = json.loads(first[1])
    measures: dict[str, Any] = {one["name"]: one for one in found["measures"]}
    assert measures["hit_rate"]["value"] == pytest.approx(1.0)
    assert 0 <= measures["popular_hit_rate"]["value"] < 1
    assert measures["ndcg_over_popular"]["low"] > 0
    assert measures["user_coverage"]["value"] == pytest.approx(
        measures["hit_rate"]["n"] / (measures["hit_rate"]["n"] + 1000), abs=1e-5
    )
    assert measures["unknown_users"]["value"] > 0.5
    assert measures["unknown_items"]["value"] == 0
    assert measures["table_age_hours"]["value"] == pytest.approx(48, abs=0.01)
    assert measures["psi_scores"]["state"] == "not measured"
    assert {"unknown_users", "table_age_hours"} <= set(found["exceeded"])
    assert [alert["kind"] for alert in found["alerts"]].count("table_age") == 1

    # Told once: the second run has nothing new to tell.
    assert len(hook.letters) == 1
    kinds = {(alert["kind"], alert["subject"]) for alert in hook.letters[0]["alerts"]}
    assert {("drift", "rankline unknown_users"), ("table_age", "analytics.recommendations")} <= kinds
    assert "hunter2" not in first[1] + first[2] + again[1] + again[2]
    told = json.loads(again[1])["told"]
    assert (told["sent"], told["failed"]) == ([], [])
    assert told["repeated"] >= 1
    assert "table_age_hours" not in json.loads(again[1])["exceeded"]

    assert shown[0] == 0, shown
    assert "psi_popularity, unknown_users, unknown_items: there is no interaction since rankline/1 learned" in shown[1]

    # The champion's run has the day as the step, and the last measurement as a whole.
    client = sample.client()
    version = client.get_model_version_by_alias("rankline", "champion")
    history = client.get_metric_history(version.run_id, "drift/hit_rate")
    day = (datetime.fromtimestamp(now, UTC).date() - date(1970, 1, 1)).days
    assert {(point.step, round(point.value, 6)) for point in history} == {(day, 1.0)}
    run = client.get_run(version.run_id)
    assert json.loads(run.data.tags["rankline_drift"])["champion"] == "rankline/1"
    assert run.data.metrics["drift/hit_rate_low"] < 1
    assert run.info.status == "FINISHED"


def test_what_is_refused_before_any_work(home: Home) -> None:
    secret = "https://user:hunter2s3cret@host/x"
    no_champion, bad, time, limit = home.many(
        ["drift"],
        ["drift", "--notify", secret],
        ["drift", "--now", "tomorrow"],
        ["drift", "--max-psi", "-1"],
    )
    assert (no_champion[0], bad[0], time[0], limit[0]) == (3, 2, 2, 2)
    assert "No version of rankline is champion" in no_champion[2]
    assert "takes no user and password" in bad[2]
    assert "hunter2" not in bad[2]
    assert "--now takes a time" in time[2]
