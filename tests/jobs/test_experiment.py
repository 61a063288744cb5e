"""An experiment from its start to its end, over a real MLflow store and a real warehouse, with planted outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.processes import Home
from support.stored_evaluations import add_version, stored_evaluation

from pipeline.errors import InputError, UsageError
from pipeline.evaluation.gate_checks import Gate
from pipeline.experiments.definition import Experiment
from pipeline.jobs.experiment import list_job, start_job, stop_job
from pipeline.jobs.experiment_report import ExperimentReport, report_job
from pipeline.jobs.score import score_job
from pipeline.models.factor_model import FactorModel
from pipeline.options import ExperimentOptions, ScoreOptions
from pipeline.publishing import published_sets
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.shipping.exposures import make_tables
from pipeline.tracking import experiments, versions
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

REPORTER = Reporter(lambda _: None, lambda *arguments: None)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
BASE = np.clip(np.random.default_rng(5).normal(0.3, 0.1, 120), 0, 1)
SPEC = ExperimentOptions(min_effect=0.05)


@pytest.fixture
def there(
    here: Home, rng: np.random.Generator, make_model: Callable[..., FactorModel], embedded_dsn: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> Home:  # fmt: skip
    """A store with two versions, the first of them the champion, and an empty warehouse."""
    model = make_model(rng)
    for value in (BASE, BASE + 0.05):
        add_version(here, model, stored_evaluation(value))
    here.client().set_registered_model_alias("rankline", "champion", "1")
    monkeypatch.setenv("RANKLINE_WAREHOUSE", embedded_dsn)
    monkeypatch.setenv("RANKLINE_LIVE_DIR", str(tmp_path / "live"))
    return here


def start(name: str = "x", versions: str = "rankline@champion,2", shares: str = "50,50", **more: Any) -> Experiment:
    spec = ExperimentOptions(**{"min_effect": 0.05, **more})
    return start_job(name, versions, shares, spec, Settings(), REPORTER, NOW)


def report(days: float = 14, **more: Any) -> ExperimentReport:
    return report_job("x", "auto", Settings(), REPORTER, NOW + timedelta(days=days), **more)


def aliases(home: Home) -> dict[str, str]:
    return {name: str(version) for name, version in home.client().get_registered_model("rankline").aliases.items()}


def plant(
    warehouse: Warehouse, one: Experiment, rates: tuple[float, float], n: int = 4000, *, joined: float = 1.0,
    channel: str = "api", failing: float = 0.0,
) -> None:  # fmt: skip
    """n users, a list each; a share of each arm follows it, of which a share names the right answer."""
    make_tables(warehouse)
    rng = np.random.default_rng(7)
    arms = [one.arm(user) for user in range(n)]
    prefix = "table:" if channel == "table" else "r"
    failed = (rng.random(n) < failing) & (np.array(arms) == 1)
    exposures = {
        "experiment": pa.repeat(one.name, n),
        "arm": ["ab"[arm] for arm in arms],
        "request_id": [f"{prefix}{user}" for user in range(n)],
        "user_id": list(map(str, range(n))),
        "channel": pa.repeat(channel, n),
        "items": [["7", "8"]] * n,
        "status": pa.array(np.where(failed, 500, 200), pa.uint16()),
        "micros": pa.array(rng.integers(100, 300, n), pa.uint32()),
        "at": pa.repeat(pa.scalar(one.started + 1000, pa.timestamp("ms", "UTC")), n),
    }
    warehouse.insert("analytics.exposures", pa.table(exposures))
    users = [user for user in range(n) if rng.random() < rates[arms[user]]]
    right = rng.random(len(users)) < joined
    outcomes = {
        "request_id": [f"{prefix}{user}" if ok else f"{prefix}other" for user, ok in zip(users, right, strict=True)],
        "user_id": list(map(str, users)),
        "item_id": pa.repeat("7", len(users)),
        "at": pa.repeat(pa.scalar(one.started + 60_000, pa.timestamp("ms", "UTC")), len(users)),
        "seq": pa.array(range(len(users)), pa.uint64()),
    }
    warehouse.insert("analytics.outcomes", pa.table(outcomes))


def test_a_planted_effect_is_shipped_through_the_gate(there: Home, embedded: Warehouse) -> None:
    one = start()
    assert (one.versions, aliases(there)) == (
        ("1", "2"),
        {"champion": "1", "experiment-x-a": "1", "experiment-x-b": "2"},
    )
    plant(embedded, one, (0.10, 0.20))
    made = report()
    seen = made.evidence
    assert (seen.join_rate, sum(seen.users), made.channel) == (1.0, 4000, "api")
    assert seen.difference.low < 0.10 < seen.difference.high
    assert seen.difference.low > 0.03
    assert made.decision.action == "ship"
    written = json.loads(made.path.read_text())
    assert (written["decision"], written["winner"], written["join_rate"]) == ("ship", "b", 1.0)
    assert written["reasons"][0].startswith("b is better: +0.")
    assert report(2).decision.too_early, "less than a week"
    with pytest.raises(InputError, match="4,000 of 4,000 lists have no propensity"):
        report(off_policy=True)
    stopped = stop_job("x", "auto", Gate(), Settings(), REPORTER, NOW + timedelta(days=14))
    assert (stopped.promoted.version, stopped.promoted.outcome, stopped.experiment.winner) == (
        "rankline/2",
        "promoted",
        "b",
    )
    assert aliases(there) == {"champion": "2"}
    assert stop_job("x", "auto", Gate(), Settings(), REPORTER, NOW).already
    with pytest.raises(InputError, match="take another name"):
        start()


def test_no_effect_a_bad_join_and_harm(there: Home, embedded: Warehouse) -> None:
    one = start()
    plant(embedded, one, (0.1, 0.1), 3000)
    made = report()
    assert (made.decision.action, made.evidence.difference.p_value > 0.05) == ("hold", True)
    with pytest.raises(InputError, match="decides for neither yet"):
        stop_job("x", "auto", Gate(), Settings(), REPORTER, NOW)
    embedded.command("TRUNCATE TABLE analytics.exposures")
    embedded.command("TRUNCATE TABLE analytics.outcomes")
    plant(embedded, one, (0.1, 0.3), 3000, joined=0.8)
    made = report()
    assert (made.decision.action, round(made.evidence.join_rate, 1)) == ("hold", 0.8)
    assert made.decision.reasons[0].startswith("the join rate is")
    embedded.command("TRUNCATE TABLE analytics.exposures")
    embedded.command("TRUNCATE TABLE analytics.outcomes")
    plant(embedded, one, (0.1, 0.3), 3000, failing=0.1)
    made = report()
    assert (made.decision.action, made.decision.reasons[0][:19]) == ("roll back", "b has worse errors:")
    later = NOW + timedelta(days=14)
    assert stop_job("x", "auto", Gate(), Settings(), REPORTER, later).promoted.outcome == "already"
    assert aliases(there) == {"champion": "1"}


def test_lists_of_the_table_are_compared_where_the_api_showed_none(there: Home, embedded: Warehouse) -> None:
    one = start(shares="90,10")
    plant(embedded, one, (0.1, 0.1), 2000, channel="table")
    made = report()
    assert (made.channel, made.evidence.join_rate, made.evidence.ratio.mismatch) == ("table", 1.0, False)
    embedded.command("INSERT INTO analytics.exposures (experiment, channel, n_lost) VALUES ('x', 'lost', 500)")
    assert report().evidence.n_lost == 0
    assert report_job("x", "api", Settings(), REPORTER, NOW).evidence.n_lost == 500


def test_one_runs_at_a_time_and_a_start_that_was_killed_goes_on(there: Home) -> None:
    one = start()
    assert start() == one, "the same again is the same experiment"
    with pytest.raises(InputError, match="runs already, with other settings"):
        start(min_effect=0.01)
    with pytest.raises(InputError, match="one runs at a time"):
        start("y")
    with pytest.raises(InputError, match="served in the experiment x"):
        versions.delete_version("2")
    with pytest.raises(UsageError, match="--versions"):
        start("y", "1")
    with pytest.raises(InputError, match="has no version 9"):
        start("y", "1,9")
    with pytest.raises(InputError, match="there are x"):
        stop_job("z", "none", Gate(), Settings(), REPORTER, NOW)
    # Killed after the tag, before the aliases went.
    assert not stop_job("x", "none", Gate(), Settings(), REPORTER, NOW).experiment.running
    there.client().set_registered_model_alias("rankline", "experiment-x-b", "2")
    assert stop_job("x", "none", Gate(), Settings(), REPORTER, NOW).already
    assert aliases(there) == {"champion": "1"}
    assert experiments.running() is None


def test_a_winner_that_the_gate_refuses_lets_the_experiment_go_on(there: Home, embedded: Warehouse) -> None:
    start(versions="2,1")
    there.client().set_registered_model_alias("rankline", "champion", "2")
    refused = stop_job("x", "b", Gate(), Settings(), REPORTER, NOW)
    assert (refused.refused, refused.experiment.running) == (True, True)
    assert aliases(there)["experiment-x-b"] == "1"


def test_a_damaged_definition_is_named(there: Home) -> None:
    there.client().set_registered_model_tag("rankline", "rankline.experiment.x", "{}")
    with pytest.raises(InputError, match=r"the tag rankline\.experiment\.x"):
        list_job(Settings())


def test_the_table_serves_each_user_the_version_of_their_arm_in_one_set(there: Home, embedded: Warehouse) -> None:
    one = start(shares="60,40")
    first = score_job(ScoreOptions(k=3), Settings(), REPORTER)
    assert (first.model, first.outcome.action, first.summary.n_users) == ("rankline/1 and rankline/2", "published", 30)
    assert (first.summary.n_forgotten, first.summary.n_with_items) == (0, 30)
    rows = embedded.rows("SELECT DISTINCT user_id, model_version, generated_at FROM analytics.recommendations")
    assert {row["user_id"]: row["model_version"] for row in rows} == {
        user: one.versions[one.arm(user)] for user in range(100, 310, 7)
    }
    assert len({row["generated_at"] for row in rows}) == 1
    assert {row["model_version"] for row in rows} == {"1", "2"}
    names = [name for name in published_sets.sets(embedded) if "staged" in name]
    assert names == [], "neither arm's table is left behind, or taken for another set"
    assert score_job(ScoreOptions(k=3), Settings(), REPORTER).outcome.action == "already published"
    assert embedded.rows("SELECT count() AS n FROM analytics.exposures WHERE channel = 'table'") == [{"n": 30}]
    stop_job("x", "none", Gate(), Settings(), REPORTER, NOW)
    assert score_job(ScoreOptions(k=3), Settings(), REPORTER).model == "rankline/1"
    assert published_sets.sets(embedded)["recommendations_previous"].run_ids
