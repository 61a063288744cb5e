"""Two hosts and a warehouse that is a server: a user who is routed to the other one finds what they did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.processes import free_port
from support.served import Workers, listed, put_copy, small_trained

from pipeline.data.sources.warehouse import init
from pipeline.interaction_log import InteractionLog
from pipeline.models.saved_model import SavedModel
from pipeline.publishing import suppressed_users
from pipeline.publishing.lock import publish_lock
from pipeline.serving.agent import Agent
from pipeline.serving.live_folder import write_json
from pipeline.serving.server_warehouse import ServerWarehouse
from pipeline.settings import Settings
from pipeline.shipping.ledger import watermark
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]
USER = 100
LIST = f"/api/v1/recommendations/{USER}"
RATED = {"user_id": USER, "rating": 5}


@pytest.fixture(scope="module")
def model() -> SavedModel:
    return small_trained()


class Host:
    """A service with a log of its own, and its agent's visits to the warehouse."""

    def __init__(self, live: Path, dsn: str, model: SavedModel) -> None:
        self.workers = Workers(live, n=0)
        self.folder = self.workers.folder
        self.serve(model, "1")
        for _ in range(2):
            self.workers.runner.run(self.workers._start())
        self.dsn = dsn
        self.visits = ServerWarehouse(self.workers.config, Settings(warehouse=SecretStr(dsn)))

    def serve(self, model: SavedModel, version: str, read: dict[str, int] | None = None) -> None:
        model = replace(model, meta={**model.meta, "data_watermark": read or None})
        pointer = replace(put_copy(self.folder, model, version), watermark=read or {})
        write_json(self.folder.models / f"{pointer.digest}.json", asdict(pointer))
        self.workers.look()
        self.folder.flip(pointer)
        for _ in range(2):  # load, switch
            self.workers.look()

    def rate(self, *items: int) -> None:
        assert self.workers.post("/api/v1/interactions", [{**RATED, "item_id": item} for item in items]).is_success

    def lists(self) -> list[tuple[str, list[tuple[int, float]]]]:
        """Of each worker; twice, the second time from its cache."""
        answers = [self.workers.get(LIST, worker) for worker in (0, 1) for _ in range(2)]
        return [(answer.json()["source"], listed(answer)) for answer in answers]

    @property
    def log(self) -> InteractionLog:
        return self.workers.logs[0]


@pytest.fixture
def hosts(tmp_path: Path, over_http: Warehouse, http_server, model: SavedModel) -> Iterator[tuple[Host, Host]]:
    init(over_http)
    made = Host(tmp_path / "a", http_server.dsn, model), Host(tmp_path / "b", http_server.dsn, model)
    yield made
    for host in made:
        host.workers.close()


def unseen(host: Host, n: int) -> list[int]:
    return [item for item, _ in host.lists()[0][1][:n]]


def test_a_rating_at_one_host_counts_in_the_next_list_of_the_other(
    hosts: tuple[Host, Host], over_http: Warehouse, model: SavedModel
) -> None:
    a, b = hosts
    before = b.lists()
    first, second, third = unseen(b, 3)
    a.rate(first)
    a.visits.visit()
    assert b.lists() == before, "not yet pulled"
    b.visits.visit()
    assert b.lists() == a.lists() != before
    assert {source for source, _ in b.lists()} == {"fold_in"}
    assert all(first not in dict(answer) for _, answer in b.lists())

    b.rate(second)  # its own, and what it pulled, together; and nothing is shipped twice
    b.visits.visit()
    a.visits.visit()
    assert b.lists() == a.lists()
    assert watermark(over_http) == {a.log.log_id: 1, b.log.log_id: 1}
    assert over_http.rows("SELECT count() AS n FROM raw.ratings") == [{"n": 2}]

    # A version that has read the first: of the user, only what came later is new to it.
    read = {a.log.log_id: 1}
    b.serve(model, "2", read)
    a.serve(model, "2", read)
    a.rate(third)
    a.visits.visit()
    b.visits.visit()
    known = b.workers.services[0].reader.known(USER, b.workers.services[0].model.served())
    assert {row.item_id for row in known.new} == {second, third}
    assert b.lists() == a.lists()

    agent = Agent(b.workers.config, threading.Event())
    agent._keep_uncovered()
    assert [row.item_id for row in b.log.pulled_of_user(USER)] == [first, third], "version 1 may be served again"
    (old,) = [copy for copy in b.folder.copies() if not copy.watermark]
    (b.folder.models / f"{old.digest}.json").unlink()
    agent._keep_uncovered()
    assert [row.item_id for row in b.log.pulled_of_user(USER)] == [third]


def test_who_is_forgotten_at_either_host_is_unknown_at_the_other(
    hosts: tuple[Host, Host], over_http: Warehouse
) -> None:
    a, b = hosts
    (first,) = unseen(b, 1)
    a.rate(first)
    a.visits.visit()
    b.visits.visit()
    assert {source for source, _ in b.lists()} == {"fold_in"}
    b.log.forget(USER)  # as the route and the command do
    assert {source for source, _ in b.lists()} == {"popular"}
    b.visits.visit()
    assert b.log.pulled_of_user(USER) == []


def test_who_is_forgotten_elsewhere_is_unknown_here_whatever_is_known_of_them(
    hosts: tuple[Host, Host], over_http: Warehouse, model: SavedModel
) -> None:
    a, _ = hosts
    in_model, other = [int(user) for user in model.users.values if user != USER][:2]
    rated = unseen(a, 1)
    a.rate(*rated)
    a.visits.visit()

    def sources() -> list[str]:
        return [a.workers.get(f"/api/v1/recommendations/{user}").json()["source"] for user in (USER, in_model)]

    assert sources() == ["fold_in", "nmf"]
    with publish_lock(over_http, "forgetting"):
        for user in (USER, in_model):
            suppressed_users.add(over_http, str(user))
    a.visits.visit()
    assert sources() == ["popular", "popular"]
    answer = a.workers.post("/api/v1/interactions", {**RATED, "item_id": rated[0]})
    assert answer.json()["code"] == "FORGOTTEN_USER"
    assert not a.log.is_forgotten(other)


def test_with_the_warehouse_away_lists_stay_and_health_says_why(hosts: tuple[Host, Host]) -> None:
    a, b = hosts
    (first,) = unseen(b, 1)
    a.rate(first)
    a.visits.visit()
    b.visits.visit()
    before = b.lists()
    away = Settings(warehouse=SecretStr(f"clickhouse://127.0.0.1:{free_port()}"), retries=0, connect_timeout=1)
    ServerWarehouse(b.workers.config, away).visit()
    assert b.lists() == before
    assert "127.0.0.1" in b.workers.get("/api/v1/health").json()["warehouse"]["fault"]
    b.visits.visit()
    assert b.workers.get("/api/v1/health").json()["warehouse"]["fault"] == ""
