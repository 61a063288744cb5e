"""What goes on when a part fails, and says so: the log of new interactions, the warehouse, too many requests."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from support.processes import free_port
from support.served import Workers, listed, put_copy, small_trained

from pipeline.data.sources.warehouse import init
from pipeline.interaction_log import InteractionLog
from pipeline.publishing.rules import push_rules
from pipeline.ranking.rules import Rule, Rules
from pipeline.serving import interactions
from pipeline.serving.agent import Agent
from pipeline.serving.keys import KeyFile
from pipeline.serving.problems import Problem
from pipeline.serving.rate_limit import RateLimit
from pipeline.serving.server_warehouse import ServerWarehouse
from pipeline.settings import Settings
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]
LIST = "/api/v1/recommendations/100"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", n=0, rate_limit=5, workers=1)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, small_trained("popular")))
    made.runner.run(made._start())
    yield made
    made.close()


def test_with_a_broken_log_lists_are_the_models_alone_and_nothing_is_acknowledged(workers: Workers) -> None:
    before = workers.get(LIST)
    path = workers.folder.interactions_path
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE interactions")
    answer = workers.get(LIST)
    assert listed(answer) == listed(before)
    assert "can't be read" in answer.json()["degraded"]
    assert "degraded" not in before.json()
    kept = workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000})
    assert (kept.status_code, kept.json()["code"]) == (503, "LOG_UNAVAILABLE")
    health = workers.get("/api/v1/health").json()
    assert health["status"] == "degraded"
    assert "interactions.db" in health["interaction_log"]["fault"]


def test_a_full_queue_is_a_503_and_what_waits_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "_QUEUED", 1)
    made = Workers(tmp_path / "live", n=1)

    async def three() -> list[httpx.Response]:
        def send(item: int) -> asyncio.Task[httpx.Response]:
            body = {"user_id": 1, "item_id": item}
            return asyncio.create_task(made.clients[0].post("/api/v1/interactions", json=body))

        queue = made.services[0].writer._queue
        with made.logs[0]._writing:  # the writer's thread has taken one batch, and waits
            sent = [send(1)]
            while not queue.unfinished_tasks or queue.qsize():
                await asyncio.sleep(0.01)
            sent.append(send(2))
            while not queue.qsize():
                await asyncio.sleep(0.01)
            refused = await send(3)
        return [*(await asyncio.gather(*sent)), refused]

    first, second, third = made.runner.run(three())
    assert (first.status_code, second.status_code) == (201, 201)
    assert (third.status_code, third.json()["code"], third.headers["retry-after"]) == (503, "TOO_BUSY", "1")
    assert [row.item_id for row in made.logs[0].of_user(1)] == [1, 2]
    made.close()


def test_with_a_broken_log_a_forgotten_user_stays_forgotten(workers: Workers) -> None:
    workers.logs[0].forget(100)
    with sqlite3.connect(workers.folder.interactions_path) as database:
        database.execute("DROP TABLE interactions")
        database.execute("DROP TABLE forgotten")
    assert workers.get(LIST).json()["source"] == "popular"
    assert workers.get("/api/v1/explain/100/1000").json()["source"] == "popular"
    assert workers.get("/api/v1/users/100/similar").status_code == 404
    near = {entry["user_id"] for entry in workers.get("/api/v1/users/101/similar?k=100").json()["users"]}
    assert near
    assert 100 not in near
    other = workers.get("/api/v1/recommendations/101").json()
    assert (other["user_id"], "degraded" in other) == (101, True)
    workers.services[0].tombstones.path.write_text("")
    assert (
        workers.get(f"{LIST}?k=3").json()["recommendations"]
        == workers.get("/api/v1/recommendations/101?k=3").json()["recommendations"]
    ), "nobody can tell who was forgotten"


def test_a_key_has_so_many_requests_a_second(workers: Workers) -> None:
    head = {"Authorization": f"Bearer {KeyFile(workers.folder.keys_path).add(('read',))}"}
    answers = [workers.get(LIST, headers=head) for _ in range(12)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert answers[-1].status_code == 429
    assert answers[-1].json()["code"] == "TOO_MANY_REQUESTS"
    assert answers[-1].headers["retry-after"] == "1"


def test_requests_come_back_with_time_and_keys_do_not_share_them() -> None:
    now = [0.0]
    limit = RateLimit(4, workers=2, now=lambda: now[0])
    for _ in range(4):
        limit.take("a")
    with pytest.raises(Problem):
        limit.take("a")
    limit.take("b")
    now[0] = 0.5
    limit.take("a")
    with pytest.raises(Problem):
        limit.take("a")
    now[0] = 100.0
    for _ in range(4):
        limit.take("a")
    with pytest.raises(Problem):
        limit.take("a")


@pytest.fixture
def visits(workers: Workers, embedded_dsn: str) -> ServerWarehouse:
    return ServerWarehouse(workers.config, Settings(warehouse=SecretStr(embedded_dsn)))


def test_the_agent_ships_and_fetches_rules_and_waits_where_it_cannot(
    workers: Workers, visits: ServerWarehouse, embedded: Warehouse
) -> None:
    list(init(embedded))
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000, "rating": 4})
    push_rules(embedded, [("", Rule("deny", "1001"))], False, print)
    visits.visit()
    with InteractionLog.open(workers.folder.interactions_path) as log:
        assert log.pending()[0] == 0
    assert [rule.item_id for rule in Rules.read(workers.config.rules).rules] == ["1001"]
    workers.look()
    assert 1001 not in dict(listed(workers.get(f"{LIST}?k=100")))


def test_without_mlflow_the_copy_is_served_and_health_says_why(workers: Workers) -> None:
    nowhere = replace(workers.config, tracking_uri=f"sqlite:///{workers.config.live}/missing/mlflow.db")
    agent = Agent(nowhere, threading.Event())
    agent.look()
    assert listed(workers.get(LIST))
    assert workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000, "rating": 4}).status_code == 201
    assert workers.get(LIST).json()["source"] == "fold_in"
    health = workers.get("/api/v1/health").json()
    assert health["status"] == "degraded"
    assert "missing" in health["application"]["fault"]
    assert [part for part, of in health.items() if part != "status" and of["fault"]] == ["application"]


def test_without_the_warehouse_interactions_wait_and_health_says_why(workers: Workers) -> None:
    away = Settings(warehouse=SecretStr(f"clickhouse://127.0.0.1:{free_port()}"), retries=0, connect_timeout=1)
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000, "rating": 4})
    ServerWarehouse(workers.config, away).visit()
    assert workers.get(LIST).json()["source"] == "fold_in"
    health = workers.get("/api/v1/health").json()
    assert health["interaction_log"] == {**health["interaction_log"], "pending": 1, "fault": ""}
    assert "127.0.0.1" in health["warehouse"]["fault"]


def test_after_the_warehouse_is_back_health_says_nothing(
    workers: Workers, visits: ServerWarehouse, embedded: Warehouse
) -> None:
    list(init(embedded))
    workers.folder.warehouse_path.write_text('{"at": 0, "fault": "away"}')
    assert workers.get("/api/v1/health").json()["warehouse"]["fault"] == "away"
    visits.visit()
    assert workers.get("/api/v1/health").json()["warehouse"]["fault"] == ""
