"""`rankline experiment` as a user types it: checked, started, published by assignment, reported, ended."""

from __future__ import annotations

import json

import pytest
from support.processes import Home

from pipeline.experiments.assignment import bucket

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow

SHOWN = """SELECT arm, user_id, count() AS n, any(request_id) AS request, any(length(items)) AS k
    FROM analytics.exposures WHERE channel = 'table' GROUP BY arm, user_id"""


@pytest.mark.takes(10)
def test_from_the_check_to_the_end(trained_copy: Home) -> None:
    home = trained_copy
    made = home.many(
        ["experiment", "aa-check", "--json", "--days", "3000"],
        ["experiment", "list"],
        ["experiment", "start", "x", "--versions", "1,1", "--split", "70,30", "--json"],
        ["score"],
        ["score"],
        ["sql", SHOWN, "--output", "json"],
        ["experiment", "report", "x", "--json"],
        ["experiment", "report", "x"],
        ["experiment", "stop", "x"],
        ["experiment", "stop", "x", "--winner", "none"],
        ["experiment", "list", "--json"],
        ["experiment", "start", "Bad-Name", "--versions", "1,1"],
        ["experiment", "start", "y"],
        ["experiment", "report"],
        ["experiment", "begin", "y"],
    )
    checked, none, started, scored, again, shown, report, printed, held, ended, listed, *wrong = made
    assert (checked[0], json.loads(checked[1])["passed"]) == (0, True), checked
    assert json.loads(checked[1])["n_found"] <= 35
    assert "there are no experiments" in none[1]
    definition = json.loads(started[1])
    assert (started[0], definition["split"], definition["versions"]) == (0, [7000, 3000], ["1", "1"])
    assert "an A/A test" in started[2]
    assert (scored[0], again[0]) == (0, 0), scored
    assert "by the experiment x" in scored[2]
    rows = [json.loads(line) for line in shown[1].splitlines()]
    assert len(rows) == 671
    for row in rows:
        assert row["arm"] == "ab"[bucket(definition["salt"], row["user_id"]) >= 7000]
        assert (row["n"], row["k"]) == (1, 10), "a second score of the same adds nothing"
        assert row["request"].startswith("table:1")
        assert row["request"].endswith(f":{row['user_id']}")
    data = json.loads(report[1])
    assert (data["channel"], data["decision"], data["join_rate"]) == ("table", "hold", None)
    assert sum(data["sample_ratio"]["counts"]) == 671
    assert json.loads((home.folder / "experiments" / "x" / "decision.json").read_text())["decision"] == "hold"
    assert printed[1].splitlines()[0] == "join rate: no outcome names an answer yet"
    assert "HOLD: no outcome names its answer" in printed[1]
    assert (held[0], "decides for neither yet" in held[2]) == (3, True)
    assert ended[0] == 0
    assert json.loads(listed[1])["experiments"][0]["state"] == "stopped"
    assert [status for status, _, _ in wrong] == [2, 2, 2, 2], wrong
