"""An experiment over HTTP: each user gets their arm's version, in every worker, and what was shown is logged."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.agent_store import Store
from support.exposures import shown
from support.fork import run_forked
from support.served import Workers, listed, put_copy, small_trained

from pipeline.experiments.definition import Experiment
from pipeline.interaction_log.exposures import ExposureLog, LoggedExposure
from pipeline.ranking.scorer import Scorer
from pipeline.serving.agent import Agent
from pipeline.serving.arms import with_experiment
from pipeline.serving.exposures import Exposures, settle_ended
from pipeline.tracking import experiments

pytest_plugins = ["support.homes"]

LISTS = "/api/v1/recommendations"
TEST = Experiment("x", ("1", "2"), (5000, 5000), "5a17", 0)


@pytest.fixture(scope="module")
def models():
    return small_trained(), small_trained("item-knn")


@pytest.fixture
def workers(tmp_path: Path, models) -> Iterator[Workers]:
    """Version 1 is the champion, and arm a; version 2 is arm b."""
    made = Workers(tmp_path / "live", n=0)
    a, b = (put_copy(made.folder, model, str(n)) for n, model in enumerate(models, 1))
    made.folder.flip(with_experiment(a, TEST, [a, b]))
    for _ in range(2):
        made.runner.run(made._start())
    yield made
    made.close()


def logged(workers: Workers) -> list[LoggedExposure]:
    for service in workers.services:
        service.exposures.flush()
    with ExposureLog.open(workers.folder.exposures_path) as log:
        return log.rows(1, 10_000)


def test_each_user_gets_the_list_of_their_arm_and_it_is_logged_from_the_cache_too(workers: Workers, models) -> None:
    scorers = [Scorer(model) for model in models]
    expected = []
    for user in models[0].users.values.tolist():
        arm = TEST.arm(user)
        items, scores = scorers[arm].recommend(user, 5)
        for worker, hit in ((0, False), (0, True), (1, False)):
            answer = workers.get(f"{LISTS}/{user}?k=5", worker, headers={"x-request-id": f"{user}-{worker}-{hit}"})
            assert listed(answer) == list(zip(items.tolist(), scores.tolist(), strict=True))
            assert answer.headers["x-model-version"] == answer.json()["model_version"] == f"rankline/{arm + 1}"
            by = (str(arm + 1), answer.headers["x-manifest"])
            expected.append((f"{user}-{worker}-{hit}", str(user), "ab"[arm], *by, list(map(str, items))))
    rows = logged(workers)
    assert sorted(
        (r.request_id, r.user_id, r.arm, r.model_version, r.manifest, json.loads(r.items)) for r in rows
    ) == sorted(expected)
    assert len({row.manifest for row in rows}) == 2
    assert {(row.status, row.experiment) for row in rows} == {(200, "x")}
    assert workers.services[0].metrics.process_hit._value.get() == len(models[0].users)
    assert 5 < sum(TEST.arm(user) for user in models[0].users.values.tolist()) < 25


def test_the_routes_of_a_user_agree_on_the_arm(workers: Workers, models) -> None:
    user = next(user for user in models[0].users.values.tolist() if TEST.arm(user) == 1)
    best = listed(workers.get(f"{LISTS}/{user}"))[0][0]
    assert workers.get(f"/api/v1/explain/{user}/{best}").json()["model_version"] == "rankline/2"
    assert workers.post("/api/v1/predict", {"user_id": user, "item_id": best}).json()["model_version"] == "rankline/2"
    assert workers.get("/api/v1/popular").headers["x-model-version"] == "rankline/1", "of no user: the champion's"
    users = models[0].users.values.tolist()[:9]
    answer = workers.post(LISTS, {"user_ids": users, "k": 3}, headers={"x-request-id": "many"}).json()
    assert [one["model_version"] for one in answer["lists"]] == [f"rankline/{TEST.arm(user) + 1}" for user in users]
    rows = [row for row in logged(workers) if row.request_id == "many"]
    assert [(row.user_id, row.arm) for row in rows] == [(str(user), "ab"[TEST.arm(user)]) for user in users]
    each = [workers.get(f"{LISTS}/{user}").headers["x-manifest"] for user in users]
    assert [row.manifest for row in rows] == each
    assert "lists" in workers.post(LISTS, {"interactions": [{"item_id": best, "rating": 5}]}).json()


def test_no_list_is_older_than_a_rating_in_any_worker(workers: Workers, models) -> None:
    for user in models[0].users.values.tolist()[:8]:
        lists = [workers.get(f"{LISTS}/{user}", worker) for worker in (0, 1, 0, 1)]
        item = listed(lists[0])[0][0]
        kept = {"user_id": user, "item_id": item, "rating": 5, "request_id": "of the list"}
        assert workers.post("/api/v1/interactions", kept).status_code == 201
        for worker in (1, 0, 1):
            after = workers.get(f"{LISTS}/{user}", worker)
            assert after.json()["source"] == "fold_in"
            assert item not in dict(listed(after))
    assert workers.logs[0].answers(1, 99) == dict.fromkeys(range(1, 9), "of the list")


def test_a_failure_is_an_exposure_and_a_forgotten_user_is_none(workers: Workers, models) -> None:
    first, other, gone = models[0].users.values.tolist()[:3]
    assert workers.get(f"{LISTS}/{first}?genre=Western").status_code == 404
    scorer = next(arm for arm in workers.services[0].model.arms.arms if TEST.arm(other) == "ab".index(arm.name))
    scorer.served.scorer.__dict__["recommend_rows"] = None
    answer = workers.get(f"{LISTS}/{other}")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    workers.logs[0].forget(gone)
    assert workers.get(f"{LISTS}/{gone}").json()["source"] == "popular"
    assert workers.get(f"{LISTS}/{gone}").json()["source"] == "popular"
    failed = logged(workers)
    assert [row.manifest for row in failed] == [
        workers.services[0].model.arms.of(user).served.served_by.manifest.decode() for user in (first, other)
    ]
    rows = [(row.user_id, row.status, row.source, row.items) for row in failed]
    assert rows == [(str(first), 404, "", "[]"), (str(other), 500, "", "[]")]


def test_an_end_and_a_new_champion_are_seen_at_the_next_request(workers: Workers, models) -> None:
    users = models[0].users.values.tolist()
    current = workers.folder.current()
    for user in users:
        workers.get(f"{LISTS}/{user}")
    workers.folder.flip(replace(current, experiment={}))
    assert {workers.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users} == {"rankline/1"}
    before = len(logged(workers))
    assert before == len(users)
    (_, winner) = (workers.services[0].model._loaded[pointer["digest"]] for pointer in current.experiment["arms"])
    workers.folder.flip(replace(winner.pointer, champion=True))
    assert {workers.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users} == {"rankline/2"}
    assert len(logged(workers)) == before, "without an experiment nothing is logged"


def test_an_arm_that_can_not_be_loaded_leaves_everybody_the_champion(tmp_path: Path, models) -> None:
    made = Workers(tmp_path / "live", n=0)
    a, b = (put_copy(made.folder, model, str(n)) for n, model in enumerate(models, 1))
    broken = made.folder.model_folder(b.digest) / "metadata.json"
    whole = broken.read_bytes()
    broken.write_bytes(b"{}")
    made.folder.flip(with_experiment(a, TEST, [a, b]))
    made.runner.run(made._start())
    users = models[0].users.values.tolist()
    assert {made.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users} == {"rankline/1"}
    health = made.get("/api/v1/health").json()
    assert health["status"] == "degraded"
    assert "the experiment x is not served" in health["experiment"]["fault"]
    broken.write_bytes(whole)
    made.services[0].model._failed = {}
    made.look()
    assert {made.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users} == {"rankline/1", "rankline/2"}
    assert made.get("/api/v1/health").json()["experiment"] == {
        "name": "x", "a": "rankline/1", "b": "rankline/2", "fault": "",
    }  # fmt: skip
    made.close()


def test_a_full_buffer_and_a_log_that_can_not_be_written_lose_a_known_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.serving.exposures.MOST", 10)
    told: list[tuple[int, int]] = []
    path = tmp_path / "gone" / "exposures.db"
    buffer = Exposures(path, tmp_path / "counters", lambda written, lost: told.append((written, lost)))
    for user in range(13):
        buffer.add(shown(user))
    buffer.flush()
    assert "can't be made" in buffer.fault
    path.parent.mkdir()
    buffer.close()
    with ExposureLog.open(path) as log:
        assert [row.n_lost for row in log.rows(1, 99)] == [0] * 10 + [3]
    assert settle_ended(path, tmp_path / "counters") == 0
    assert list((tmp_path / "counters").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.interaction_log.exposures import Exposure
from pipeline.serving.exposures import Exposures
buffer = Exposures(Path(sys.argv[1]), Path(sys.argv[2]))
for n in range(7):
    buffer.add(Exposure("x", "a", str(n), "1", "1", "nmf", "[]", 200, 1, 1))
    if n == 3:
        buffer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_worker_lost_is_known(tmp_path: Path) -> None:
    path, counters = tmp_path / "exposures.db", tmp_path / "counters"
    done = run_forked(["-c", KILLED, str(path), str(counters)], dict(os.environ), tmp_path, 60)
    assert done.returncode == -signal.SIGKILL
    assert settle_ended(path, counters) == 3
    assert settle_ended(path, counters) == 0
    with ExposureLog.open(path) as log:
        assert [row.n_lost for row in log.rows(1, 99)] == [0, 0, 0, 0, 3]


def test_a_worker_that_lives_is_not_settled(tmp_path: Path) -> None:
    path, counters = tmp_path / "exposures.db", tmp_path / "counters"
    buffer = Exposures(path, counters)
    buffer.add(shown(1))
    assert settle_ended(path, counters) == 0
    buffer.close()
    assert settle_ended(path, counters) == 0
    with ExposureLog.open(path) as log:
        assert len(log.rows(1, 9)) == 1
    assert list(counters.iterdir()) == []


def test_the_agent_serves_what_runs_and_ends_what_is_stopped(home, tmp_path: Path, models) -> None:
    made = Workers(tmp_path / "live", poll_seconds=0.05)
    store = Store(home.env["MLFLOW_TRACKING_URI"], made)
    for model in models:
        store.register(model)
    store.promote("1")
    assert (store.look(), store.version) == ("", "1")
    experiments.start(TEST)
    assert store.look() == ""
    users = models[0].users.values.tolist()
    versions = [made.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users]
    assert versions == [f"rankline/{TEST.arm(user) + 1}" for user in users]
    # A third version becomes champion: the arms stay, and their copies, too.
    for _ in range(5):
        store.promote(store.register(small_trained("popular")))
        assert store.look() == ""
    assert store.version == "7"
    assert versions == [made.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users]
    # An agent that starts anew finds an arm's copy damaged, and fetches it.
    digest = made.folder.current().experiment["arms"][1]["digest"]
    (made.folder.model_folder(digest) / "metadata.json").write_bytes(b"{}")
    store.agent = Agent(store.agent._config, threading.Event())
    assert store.look() == ""
    assert (made.folder.model_folder(digest) / "metadata.json").read_bytes() != b"{}"
    # Its name is damaged in the registry: what is served stays.
    store.client.set_registered_model_tag("rankline", "rankline.experiment.y", "{}")
    assert "can't be read" in store.look()
    assert made.get(f"{LISTS}/{users[0]}").headers["x-model-version"] == versions[0]
    store.client.delete_registered_model_tag("rankline", "rankline.experiment.y")
    experiments.stop(replace(TEST, state="stopped", stopped=1))
    assert store.look() == ""
    assert {made.get(f"{LISTS}/{user}").headers["x-model-version"] for user in users} == {"rankline/7"}
    made.close()


def test_an_experiment_that_can_not_be_served_leaves_the_champion(home, tmp_path: Path, models) -> None:
    made = Workers(tmp_path / "live", poll_seconds=0.05)
    store = Store(home.env["MLFLOW_TRACKING_URI"], made)
    store.register(models[0])
    store.register(models[1], leave_out="scores.npy")
    store.promote("1")
    assert store.look() == ""
    experiments.start(TEST)
    assert "the experiment x can't be served" in store.look()
    assert store.version == "1"
    store.promote(store.register(models[0]))
    assert "the experiment x can't be served" in store.look()
    assert store.version == "3", "the champion is followed all the same"
    experiments.stop(replace(TEST, state="stopped", stopped=1))
    assert store.look() == ""
    made.close()
