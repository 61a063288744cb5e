"""What is asked of the agent over HTTP: who may, what is refused, and what is in the table then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.served import Workers, put_copy, small_trained
from support.version_snapshots import put_snapshot, version

from pipeline.serving.job_table import Job, JobTable
from pipeline.serving.keys import KeyFile
from pipeline.serving.live_folder import write_json
from pipeline.serving.routes import models as routes

LIST = "/api/v1/recommendations/100"


class Admin:
    """Two workers, and a key of each scope."""

    def __init__(self, live: Path) -> None:
        self.workers = Workers(live, n=0)
        self.workers.folder.make()
        self.workers.folder.flip(put_copy(self.workers.folder, small_trained("popular"), "2"))
        for _ in range(2):
            self.workers.runner.run(self.workers._start())
        keys = KeyFile(self.workers.folder.keys_path)
        self.keys = {scope: keys.add((scope,), scope) for scope in ("read", "write", "admin")}
        self.table = JobTable(self.workers.folder.jobs_path)

    def ask(self, method: str, path: str, body: Any = None, scope: str = "admin", worker: int = 0) -> httpx.Response:
        more = {} if body is None else {"json": body}
        head = {"Authorization": f"Bearer {self.keys[scope]}"}
        return self.workers.ask(method, path, worker, headers=head, **more)

    def taken(self, answer: httpx.Response) -> Job:
        """The job of an answer 202."""
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert answer.headers["location"] == f"/api/v1/jobs/{body['job_id']}"
        job = self.table.get(body["job_id"])
        assert (job.kind, job.state) == (body["kind"], body["state"]) == (job.kind, "queued")
        return job


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    made = Admin(tmp_path / "live")
    put_snapshot(
        made.workers, version("4"), version("3", champion=True), version("2"), version("1"), good=("3", "1"), former="1"
    )
    yield made
    made.workers.close()


@pytest.fixture
def agent(admin: Admin) -> Iterator[Callable[[Callable[[Job], None]], None]]:
    """Starts a thread that does something with each job that is due."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def begin(do: Callable[[Job], None]) -> None:
        def run() -> None:
            while not ended.is_set():
                for job in admin.table.due():
                    do(job)
                time.sleep(0.01)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield begin
    ended.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/train"),
        ("POST", "/api/ml/retrain"),
        ("POST", "/api/v1/models/activate/4"),
        ("POST", "/api/v1/models/rollback"),
        ("DELETE", "/api/v1/models/4"),
        ("DELETE", "/api/v1/users/100"),
        ("DELETE", "/api/v1/users?user_id=100"),
    ],
)
def test_admin_needs_a_key_of_that_scope_on_loopback_too(admin: Admin, method: str, path: str) -> None:
    for scope in ("read", "write"):
        assert admin.ask(method, path, scope=scope).status_code == 403
    assert admin.workers.ask(method, path).status_code == 401
    admin.workers.folder.keys_path.unlink()
    refused = admin.workers.ask(method, path)  # without any keys
    assert (refused.status_code, refused.json()["code"]) == (401, "NOT_AUTHENTICATED")
    assert admin.table.due() == []
    assert admin.workers.get(LIST).status_code == 200


# ---- trainings -----------------------------------------------------------------------------------


def test_a_training_is_taken_once_at_a_time(admin: Admin) -> None:
    asked = {"algorithm": "als", "hyperparameters": {"n_components": 8, "biases": False}, "split": {"holdout": 0.1}}
    job = admin.taken(admin.ask("POST", "/api/v1/train", asked))
    assert job.request == {"options": {"algorithm": "als", "n_components": 8, "biases": "no", "holdout": 0.1}}
    assert job.key_id == "admin"
    for path in ("/api/v1/train", "/api/ml/train", "/api/ml/retrain"):
        refused = admin.ask("POST", path, {}, worker=1)
        assert (refused.status_code, refused.json()["code"]) == (409, "JOB_RUNS")
        assert refused.json()["job_id"] == job.job_id
    admin.table.finish(job.job_id)
    other = {"model_type": "NMF", "hyperparameters": {"max_iter": 20, "alpha_H": "same"}, "data_split": "latest"}
    second = admin.taken(admin.ask("POST", "/api/ml/train", other))
    assert second.request["options"] == {"algorithm": "NMF", "max_iter": 20, "alpha_H": "same", "split": "latest"}
    admin.table.finish(second.job_id)
    assert admin.taken(admin.ask("POST", "/api/ml/retrain")).request == {"options": {}}


@pytest.mark.parametrize(
    "body",
    [
        {"algorithm": "no-such"},
        {"algorithm": "als", "model_type": "als"},
        {"source": "file"},
        {"hyperparameters": {"input": "/etc/passwd"}},
        {"hyperparameters": {"query": "x.sql"}},
        {"hyperparameters": {"source": "file"}},
        {"hyperparameters": {"threads": 1}},
        {"hyperparameters": {"on_interrupt": "keep"}},
        {"hyperparameters": {"name": "other"}},
        {"hyperparameters": {"n_components": 0}},
        {"hyperparameters": {"n_components": "--input=x"}},
        {"hyperparameters": {"n_components": [8]}},
        {"hyperparameters": {"tol": True}},
        {"hyperparameters": {"members": "ease\u0000als"}},
        {"split": "no-such"},
        {"split": {"holdout": 1}},
        {"split": {"input": "x"}},
        {"split": "latest", "data_split": "latest"},
        {"algorithm": ""},
        [],
    ],
)
def test_what_is_not_of_the_list_is_refused(admin: Admin, body: Any) -> None:
    refused = admin.ask("POST", "/api/v1/train", body)
    assert refused.status_code == 422, refused.text
    assert admin.table.due() == []


# ---- versions ------------------------------------------------------------------------------------


def test_activate(admin: Admin) -> None:
    unknown = admin.ask("POST", "/api/v1/models/activate/9")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_VERSION")
    champion = admin.ask("POST", "/api/ml/models/activate/3")
    assert (champion.status_code, champion.json()["code"]) == (409, "IS_CHAMPION")
    for body in ({"force": True}, {"force": True, "reason": " "}, {"force": "yes", "reason": "x"}, {"margin": 1}):
        assert admin.ask("POST", "/api/v1/models/activate/4", body).status_code == 422
    assert admin.ask("POST", "/api/v1/models/activate/4x").status_code == 422
    job = admin.taken(admin.ask("POST", "/api/v1/models/activate/4"))
    assert job.request == {"version": "4", "force": False, "reason": None}
    for method, path in (("POST", "activate/2"), ("POST", "rollback"), ("DELETE", "4")):
        busy = admin.ask(method, f"/api/v1/models/{path}", worker=1)
        assert (busy.status_code, busy.json()["code"]) == (409, "JOB_RUNS")
    admin.table.finish(job.job_id, "not promoted")
    forced = admin.ask("POST", "/api/ml/models/activate/4", {"force": True, "reason": "new films"})
    assert admin.taken(forced).request == {"version": "4", "force": True, "reason": "new films"}


def test_roll_back(admin: Admin) -> None:
    job = admin.taken(admin.ask("POST", "/api/v1/models/rollback", {"reason": "complaints"}))
    assert job.request == {"reason": "complaints"}
    admin.table.finish(job.job_id)
    put_snapshot(admin.workers, version("3", champion=True), good=("3",))
    none = admin.ask("POST", "/api/v1/models/rollback")
    assert (none.status_code, none.json()["code"]) == (409, "NO_FORMER_CHAMPION")


def test_delete(admin: Admin, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("3", "1", "2"):  # the champion, a champion of before, what is served
        refused = admin.ask("DELETE", f"/api/v1/models/{number}")
        assert (refused.status_code, refused.json()["code"]) == (409, "VERSION_IN_USE")
    assert admin.ask("DELETE", "/api/v1/models/9").status_code == 404
    with monkeypatch.context() as patch:
        patch.setattr(routes, "_WAIT_SECONDS", 0.1)
        late = admin.taken(admin.ask("DELETE", "/api/v1/models/4"))  # no agent does it
    assert late.request == {"version": "4"}
    admin.table.finish(late.job_id)
    reasons = iter((("", True), ("it is champion by now", True), ("MLflow does not answer", False)))

    def do(job: Job) -> None:
        reason, refused = next(reasons)
        admin.table.finish(job.job_id, reason, {"refused": refused})

    agent(do)
    done = admin.ask("DELETE", "/api/v1/models/4")
    assert (done.status_code, done.content) == (204, b"")
    moved = admin.ask("DELETE", "/api/ml/models/4")
    assert (moved.status_code, moved.json()["detail"]) == (409, "it is champion by now")
    away = admin.ask("DELETE", "/api/v1/models/4")
    assert (away.status_code, away.json()["code"]) == (503, "JOBS_UNAVAILABLE")


def test_two_versions_are_compared_once(admin: Admin, agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/api/v1/models/compare?a=3&b=4"
    assert admin.ask("GET", "/api/v1/models/compare?a=3&b=9", scope="read").status_code == 404
    assert admin.ask("GET", "/api/v1/models/compare?a=3", scope="read").status_code == 422
    with monkeypatch.context() as patch:
        patch.setattr(routes, "_WAIT_SECONDS", 0.1)
        for _ in range(2):
            late = admin.ask("GET", path, scope="read")
            assert (late.status_code, late.json()["code"]) == (503, "NOT_KNOWN_YET")
        (waiting,) = admin.table.due()  # the second one has found the job of the first
    made = []

    def do(job: Job) -> None:
        made.append(job)
        found = {"a": 0.1, "b": 0.4, "difference": 0.3, "low": 0.2, "high": 0.4}
        runs = [job.request[name]["run_id"] for name in "ab"]
        value = {"difference": {"recall_at_10": found}, "reason": ""}
        write_json(admin.workers.folder.comparison(*runs), value)
        admin.table.finish(job.job_id)

    agent(do)
    for asked in (path, path.replace("v1", "ml")):
        shown = admin.ask("GET", asked, scope="read").json()
        assert (shown["a"]["version"], shown["b"]["version"], shown["reason"]) == ("3", "4", "")
        assert shown["difference"]["recall_at_10"]["low"] == 0.2
        ndcg = shown["difference"]["ndcg_at_10"]
        assert (ndcg["a"], ndcg["b"], ndcg["low"]) == (0.1, 0.1, None)
    assert [job.job_id for job in made] == [waiting.job_id]


def test_a_comparison_that_fails_says_why(admin: Admin, agent: Any) -> None:
    agent(lambda job: admin.table.finish(job.job_id, "MLflow does not answer"))
    failed = admin.ask("GET", "/api/v1/models/compare?a=3&b=4", scope="read")
    assert (failed.status_code, failed.json()["code"]) == (503, "NOT_KNOWN_YET")
    assert "MLflow does not answer" in failed.json()["detail"]


# ---- forgetting ----------------------------------------------------------------------------------


def test_a_forgotten_user_is_a_stranger_to_all_workers_before_the_answer(admin: Admin) -> None:
    event = {"user_id": 100, "item_id": 1000, "rating": 5}
    assert admin.ask("POST", "/api/v1/interactions", event, "write").status_code == 201
    assert admin.ask("GET", LIST, scope="read").json()["source"] == "fold_in"
    job = admin.taken(admin.ask("DELETE", "/api/v1/users/100"))
    assert job.request == {"user": "100"}
    for worker in (0, 1):
        shown = admin.ask("GET", f"{LIST}?unknown=error", scope="read", worker=worker)
        assert (shown.status_code, shown.json()["code"]) == (404, "UNKNOWN_USER")
    refused = admin.ask("POST", "/api/v1/interactions", event, "write", worker=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "FORGOTTEN_USER")
    near = admin.ask("GET", "/api/v1/users/101/similar?k=100", scope="read").json()["users"]
    assert 100 not in [row["user_id"] for row in near]
    assert admin.table.latest("forget").job_id == job.job_id
    assert admin.ask("DELETE", "/api/v1/users/100").status_code == 202  # again is no error
    by_query = admin.taken(admin.ask("DELETE", "/api/v1/users?user_id=a%2Fb"))
    assert by_query.request == {"user": "a/b"}
    assert admin.ask("DELETE", "/api/v1/users?user_id=").status_code == 422


def test_without_a_log_nobody_is_forgotten_and_nothing_is_acknowledged(admin: Admin) -> None:
    admin.workers.services[0].writer, writer = None, admin.workers.services[0].writer
    refused = admin.ask("DELETE", "/api/v1/users/100")
    assert (refused.status_code, refused.json()["code"]) == (503, "LOG_UNAVAILABLE")
    admin.workers.services[0].writer = writer
    admin.table.path.write_bytes(b"damaged, and no database at all " * 40)
    broken = admin.ask("DELETE", "/api/v1/users/100")
    assert (broken.status_code, broken.json()["code"]) == (503, "JOBS_UNAVAILABLE")
    assert admin.workers.logs[0].is_forgotten(100)  # the tombstone came first
