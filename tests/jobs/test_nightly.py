"""Nights over a real store and a real warehouse: what is trained, folded in, refused, gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.nights import FIRST, QUICK, Nights, states
from support.processes import Home

from pipeline.errors import LockedError, UsageError
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.jobs import logged_run, nightly
from pipeline.jobs.drift import DriftResult
from pipeline.jobs.load_model import loaded
from pipeline.jobs.nightly_result import STEPS
from pipeline.jobs.nightly_state import NightState, night_state
from pipeline.jobs.retain import RetainResult
from pipeline.options import NightlyOptions
from pipeline.runtime.progress import Reporter, silent
from pipeline.tracking import champion as champions

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]
pytestmark = pytest.mark.slow


@pytest.fixture
def nights(here: Home, embedded_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Nights:
    monkeypatch.setattr("pipeline.jobs.train.log_pages", lambda *_: None)  # a second of pictures a training
    return Nights(embedded_dsn)


@pytest.fixture
def short(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> Nights:
    """Nights whose last two steps have nothing to do."""
    monkeypatch.setattr("pipeline.jobs.nightly.retain", lambda _: RetainResult("rankline", False, {}))
    monkeypatch.setattr("pipeline.jobs.nightly_watch.drift", lambda request: DriftResult("", "", request.now, (), ()))
    return nights


def model_of(version: str) -> Any:
    """The saved model of a version, and its scorer."""
    with loaded(version, Reporter(lambda _: None, silent), "rankline") as (scorer, _):
        return scorer


def reason(result: Any, name: str) -> str:
    return str(result.step(name).reason)


@pytest.mark.takes(12)
def test_nights_that_train_fold_in_and_do_nothing(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nights.settings(live_dir=tmp_path / "live")
    first = nights.run(settings=settings)
    assert first.exit_status == 0
    assert [step.name for step in first.steps] == list(STEPS)
    assert set(states(first).values()) == {"done", "skipped"}
    assert reason(first, "train").endswith("no version is champion yet")
    assert reason(first, "promote") == "rankline/1 is the champion, the first one"
    assert json.loads(json.dumps(first.to_json()))["published"] == "rankline/1"
    lists = nights.lists()

    second = nights.run(settings=settings)
    assert states(second)["train"] == "skipped"
    assert reason(second, "train") == "nothing is new since rankline/1, the champion"
    assert second.step("score").facts["action"] == "already published"
    assert (second.exit_status, nights.lists()) == (0, lists)

    # A new user, a new item, news of two users; some of it by way of the service's log, which the job ships.
    with InteractionLog.open(settings.interaction_log_path) as log:
        log.append([Interaction("900", 3, 5.0), Interaction("900", 6, 4.0), Interaction("2", 777, 5.0)])
        log_id, last = log.log_id, log.latest_seq()
    nights.rate((1, 777, 5), (900, 9, 4.5))
    third = nights.run(settings=settings)
    assert third.exit_status == 0, nights.said
    assert "1 new and 2 changed user(s) and 1 new item(s) folded into rankline/1" in reason(third, "train")
    assert (third.step("train").facts["how"], third.step("score").facts["model"]) == ("folded in", "rankline/2")
    tags = champions.tags_of("2")
    assert (tags["folded_from"], tags["folded_items"], tags["promotion"]) == ("1", "1", "promoted")
    scorer = model_of("rankline/2")
    assert scorer.model.meta["data_watermark"] == {log_id: last}
    assert not model_of("rankline/1").model.meta["data_watermark"]
    # The table and the service, which answers with this version, agree for everybody.
    published = nights.lists()
    assert 900 in published
    for user, items in published.items():
        assert scorer.recommend(user, 10)[0].tolist() == items
    assert not {3, 6, 9} & set(published[900])
    untouched = [user for user in lists if user not in (1, 2)]
    before = {user: [item for item in items if item != 777] for user, items in nights.lists(untouched).items()}
    assert sum(lists[user][:9] == before[user][:9] for user in untouched) == len(untouched)

    # The next fold-in starts from the training again, and not from what was folded in.
    nights.rate((901, 3, 5), (901, 6, 5))
    fourth = nights.run(settings=settings)
    assert "2 new and 2 changed user(s) and 1 new item(s) folded into rankline/1" in reason(fourth, "train")
    nights.rate(*[(1000 + i, 3 * i, 5) for i in range(15)], *[(1000 + i, 3 * i + 3, 5) for i in range(15)])
    monkeypatch.setattr("pipeline.jobs.nightly_training.train_on", lambda *_: 1 / 0)
    nights.run(settings=settings)
    (why,) = [line for line in nights.said if "(--refit-after 0.05)" in line]
    assert "of the interactions are new or changed since rankline/1 was trained" in why


def test_the_age_of_the_training_and_other_options_ask_for_another(short: Nights) -> None:
    nights = short
    nights.run()
    nights.rate((1, 44, 5))
    nights.day += 6
    kept = nights.run(nightly=NightlyOptions(refit_days=None))
    assert kept.step("train").facts["how"] == "folded in"
    nights.rate((1, 43, 5))
    with pytest.MonkeyPatch.context() as patch:  # what a training does is not looked at here
        patch.setattr("pipeline.jobs.nightly_training.train_on", lambda *_: 1 / 0)
        patch.setattr("pipeline.jobs.nightly.score_job", lambda *_: 1 / 0)
        nights.run()
        assert "train: rankline/1 is 8 days old (--refit-days 7)" in nights.said
        nights.run(train=replace(QUICK, max_iter=10))
        assert "train: --max-iter is 10, and was 15 for rankline/1" in nights.said


def test_what_stops_a_night_leaves_version_and_table(short: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights = short
    nights.run()
    lists = nights.lists()

    broken = nights.run(settings=nights.settings(limit_min_interactions=10_000))
    assert (broken.exit_status, states(broken)["data gate"]) == (3, "stopped")
    assert {name: states(broken)[name] for name in ("train", "gate", "promote", "score", "drift")} == dict.fromkeys(
        ("train", "gate", "promote", "score", "drift"), "skipped"
    )
    assert states(broken)["retention"] == "done"
    assert [alert.kind for alert in broken.alerts] == ["training_failed"]

    nights.rate(*[(2000 + i % 7, i, 5) for i in range(44)])
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.jobs.train.train", lambda *_: 1 / 0)
        crashed = nights.run()
    assert (crashed.exit_status, states(crashed)["train"]) == (1, "failed")
    assert "ZeroDivisionError" in reason(crashed, "train")
    # The table is published anew all the same, without what users have seen by now.
    assert (states(crashed)["score"], crashed.step("score").facts["model"]) == ("done", "rankline/1")

    small = nights.run(settings=nights.settings(memory_limit_mb=1))
    assert (small.exit_status, states(small)["data gate"]) == (3, "stopped")
    assert "What would fit" in reason(small, "data gate")

    worse = replace(QUICK, n_components=1, max_iter=1)
    refused = nights.run(train=worse)
    assert (refused.exit_status, states(refused)["gate"], states(refused)["promote"]) == (3, "stopped", "skipped")
    assert refused.alerts == ()  # that is for three in a row
    assert "rankline/1 stays the champion" in reason(refused, "gate")
    assert champions.champion().version == "1"
    assert set(nights.lists()) == set(lists)
    # The champion's options were measured on the same holdout, and what it knew of its training side.
    reasons = refused.step("gate").facts["reasons"]
    assert any("of the champion's options on" in line for line in reasons), reasons
    (of_data,) = [line for line in reasons if "of a fit to what the champion knew" in line]

    again = nights.run()
    assert champions.champion().version == "3", nights.said
    same, data = again.step("gate").facts["reasons"][-2:]
    assert same.endswith("same options as the champion, newer data: fitted to the same data the two are one model")
    assert data == of_data.replace("NO", "ok")  # the options, the data and the split are those of before


class Killed(BaseException):
    """Stands for a process that ends here."""


def killed(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: bool) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def die(*arguments: Any, **options: Any) -> Any:
        if after:
            real(*arguments, **options)
        raise Killed

    monkeypatch.setattr(module, name, die)


@pytest.mark.parametrize(
    ("module", "name", "after", "n_versions"),
    [
        (logged_run, "record", False, 1),  # trained, and nothing uploaded
        (logged_run, "register", True, 1),  # registered, and not written down
        (nightly, "score_job", True, 1),
    ],
)
def test_a_killed_night_is_gone_on_with(
    short: Nights, here: Home, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: bool, n_versions: int
) -> None:
    nights = short
    with monkeypatch.context() as patch:
        patch.setattr(NightState, "forget", lambda *_: None)  # a killed process does nothing more
        killed(patch, module, name, after)
        with pytest.raises(Killed):
            nights.run()
    result = nights.run(again=True)
    assert (result.continued, result.exit_status) == (True, 0), nights.said
    assert set(states(result)) == set(STEPS)
    assert states(result)["score"] == "done"
    assert len(here.client().search_model_versions("name = 'rankline'")) == n_versions
    assert champions.champion().version == "1"
    (row,) = nights.rows("SELECT uniqExact(user_id) AS n FROM analytics.recommendations")
    assert row["n"] == 60
    assert json.loads(nights.settings().nightly_path.read_text())["finished"] is True


def test_without_mlflow_the_night_is_not_over(nights: Nights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.settings.PROJECT_ROOT", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    away = nights.run()
    assert away.exit_status == 4
    assert states(away) == {"resume": "failed", **dict.fromkeys(STEPS[1:], "skipped")}
    assert "No MLflow server answers at http://127.0.0.1:9" in reason(away, "resume")
    assert "a server can't be used (see resume)" in reason(away, "score")
    again = nights.run(again=True)
    assert (again.continued, again.exit_status) == (True, 4)
    assert [(alert.kind, alert.facts["cause"]) for alert in again.alerts] == [("training_failed", "UnreachableError")]


def test_a_training_that_kills_its_process_is_left_out_the_third_time(
    short: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = short
    with monkeypatch.context() as patch:
        patch.setattr(NightState, "forget", lambda *_: None)
        killed(patch, __import__("pipeline.jobs.train", fromlist=["x"]), "train", False)
        for again in (False, True):
            with pytest.raises(Killed):
                nights.run(again=again)
    third = nights.run(again=True)
    assert (third.exit_status, states(third)["train"], states(third)["score"]) == (3, "stopped", "skipped")
    assert "was killed 2 times in this step" in reason(third, "train")


def test_one_at_a_time_and_not_under_mlflow_run(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    with night_state(nights.settings().nightly_path, "", FIRST), pytest.raises(LockedError, match="one nightly job at"):
        nights.run()
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(UsageError, match="unset MLFLOW_RUN_ID"):
        nights.run()


def test_a_state_that_is_damaged_or_of_another_request_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "nightly.json"
    with night_state(path, "a", FIRST) as state:
        state.end({"name": "resume", "state": "done"})
    with night_state(path, "a", FIRST) as state:
        assert (state.continued, len(state.steps)) == (True, 1)
    with night_state(path, "b", FIRST) as state:
        assert (state.continued, state.steps) == (False, [])
    for text in ("", "[]", "{}", '{"format": 1, "steps": 3}', "\0"):
        path.write_text(text)
        with night_state(path, "b", FIRST) as state:
            assert (state.continued, state.steps) == (False, [])
