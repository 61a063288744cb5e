"""What stands in Redis besides the lists that were asked for: embeddings, metadata, lists that were filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from support.redis_server import RedisServer
from support.served import Workers, listed, put_copy, small_trained

from pipeline.errors import RefusedError, UnreachableError, UsageError
from pipeline.interaction_log import InteractionLog
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.shared_cache import published
from pipeline.serving.shared_cache.filling import fill
from pipeline.serving.shared_cache.published import Published, forget_user

pytest_plugins = ["support.redis_fixtures"]
pytestmark = pytest.mark.slow
LISTS = "/api/v1/recommendations"


@pytest.fixture(scope="module")
def model() -> SavedModel:
    return small_trained()


@pytest.fixture
def workers(tmp_path: Path, redis_server: RedisServer, model: SavedModel) -> Iterator[Workers]:
    made = Workers(tmp_path / "live", 0, RedisAddress.of(redis_server.url), redis_timeout_ms=10_000)
    made.folder.make()
    made.folder.flip(put_copy(made.folder, model))
    made.runner.run(made._start())
    yield made
    made.close()


def test_the_agent_writes_embeddings_and_metadata_once_and_again_where_they_are_lost(
    workers: Workers, redis_server: RedisServer, model: SavedModel
) -> None:
    client = redis_server.client()
    with InteractionLog.open(workers.folder.interactions_path) as log:
        log.forget(101)
    agent = Published(workers.folder, RedisAddress.of(redis_server.url))
    agent.look()
    users, items = client.hgetall("embeddings:user:1"), client.hgetall("embeddings:item:1")
    assert set(users) == {str(user).encode() for user in model.users.values.tolist()} - {b"101"}
    assert np.frombuffer(users[b"100"], "<f4").tolist() == model.user_factors[0].tolist()
    assert np.frombuffer(items[b"1003"], "<f4").tolist() == model.item_factors[:, 3].tolist()
    facts = json.loads(client.get("model:rankline:metadata"))
    assert (facts["version"], facts["n_users"], facts["n_components"]) == ("1", len(model.users), 4)
    assert facts["embeddings"] == {"user": "embeddings:user:1", "item": "embeddings:item:1"}
    assert 0 < client.ttl("embeddings:user:1") <= 86_400 < client.ttl("model:rankline:metadata") <= 7 * 86_400
    client.hset("embeddings:user:1", "mark", "x")
    agent.look()
    assert client.hget("embeddings:user:1", "mark") == b"x"  # not written again
    client.expire("embeddings:item:1", 100)
    agent.look()
    assert client.hget("embeddings:user:1", "mark") is None
    workers.folder.flip(put_copy(workers.folder, small_trained("item-knn"), "2"))
    agent.look()
    facts = json.loads(client.get("model:rankline:metadata"))
    assert (facts["version"], facts["embeddings"], facts["n_components"]) == ("2", {}, None)


def test_who_is_forgotten_while_they_are_written_is_not_in_what_appears(
    workers: Workers, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, write = redis_server.client(), published._write_hash

    def meanwhile(client: object, key: str, *more: object) -> None:
        if key.startswith("embeddings:user"):
            workers.logs[0].forget(102)
            forget_user(client, 102)
        write(client, key, *more)

    monkeypatch.setattr(published, "_write_hash", meanwhile)
    Published(workers.folder, RedisAddress.of(redis_server.url)).look()
    assert client.hexists("embeddings:user:1", "103")
    assert not client.hexists("embeddings:user:1", "102")


def test_two_hosts_at_once_leave_a_whole_hash(
    workers: Workers, redis_server: RedisServer, model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_TOGETHER", 10)
    pointer, hset = workers.folder.current(), Redis.hset
    client, left = redis_server.client(), [2]

    def between(self: Redis, *arguments: object, **more: object) -> int:
        left[0] -= 1
        if left[0] == 0:  # in the middle of the first host's writing
            published.publish(redis_server.client(), pointer, model, lambda users: set())
        return hset(self, *arguments, **more)

    monkeypatch.setattr(Redis, "hset", between)
    published.publish(client, pointer, model, lambda users: set())
    assert client.hlen("embeddings:user:1") == len(model.users)
    assert client.hlen("embeddings:item:1") == len(model.items)
    assert not client.keys("*incoming*")


def test_without_redis_the_agent_says_so_once(
    workers: Workers, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Published(workers.folder, RedisAddress.of(redis_server.url))
    redis_server.stop()
    agent.look()
    agent.look()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_embedding_is_the_models_row_and_then_what_was_folded_in(workers: Workers, model: SavedModel) -> None:
    for path in ("/api/v1/users/100/embedding", "/api/v1/users/embedding?user_id=100"):
        answer = workers.get(path).json()
        assert answer["source"] == "nmf"
        assert np.array(answer["embedding"], np.float32).tolist() == model.user_factors[0].tolist()
    unknown = workers.get("/api/v1/users/999/embedding")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "UNKNOWN_USER")
    workers.post("/api/v1/interactions", {"user_id": 999, "item_id": 1003, "rating": 5})
    folded = workers.get("/api/v1/users/999/embedding").json()
    assert folded["source"] == "fold_in"
    expected = Scorer(model).fold_in([1003], [5.0]).tolist()
    assert np.array(folded["embedding"], np.float32).tolist() == pytest.approx(expected)
    workers.logs[0].forget(100)
    assert workers.get("/api/v1/users/100/embedding").status_code == 404
    workers.folder.flip(put_copy(workers.folder, small_trained("item-knn"), "2"))
    workers.look()
    assert workers.get("/api/v1/users/102/embedding").json()["code"] == "NO_EMBEDDINGS"


def test_lists_that_are_filled_in_are_those_that_are_served(
    workers: Workers, redis_server: RedisServer, model: SavedModel
) -> None:
    pointer = workers.folder.current()
    assert pointer is not None
    rules = Rules((Rule("deny", "1003"), Rule("promote", "1005", label="spring")))
    rules.write(workers.config.rules)
    workers.look()
    scorer = Scorer.load(workers.folder.model_folder(pointer.digest)).under(rules)
    address = RedisAddress.of(redis_server.url)
    version = (pointer.name, pointer.version, pointer.run_id)

    def of_101(ids: np.ndarray) -> np.ndarray:
        return ids == 101

    n_lists = fill(address, scorer, version, ("title", "genres"), of_101)
    assert n_lists == redis_server.client().dbsize() == len(model.users) - 1
    filled = [workers.get(f"{LISTS}/{user}").content for user in model.users.values.tolist()]
    service = workers.services[0]
    assert service.metrics.redis_hit._value.get() == n_lists
    workers.runner.run(service.shared.stored())
    redis_server.client().flushall()
    service.model.served().cache.clear()
    assert [workers.get(f"{LISTS}/{user}").content for user in model.users.values.tolist()] == filled


def test_what_can_not_be_filled_in(redis_server: RedisServer, workers: Workers, model: SavedModel) -> None:
    pointer = workers.folder.current()
    assert pointer is not None
    scorer = Scorer.load(workers.folder.model_folder(pointer.digest))
    address, version = RedisAddress.of(redis_server.url), ("rankline", "1", "")

    def nobody(ids: np.ndarray) -> np.ndarray:
        return np.zeros(ids.size, bool)

    for of, named in ((Scorer(model), version), (scorer, ("rankline", "", ""))):
        with pytest.raises(UsageError, match="a version of the registry"):
            fill(address, of, named, (), nobody)
    redis_server.client().config_set("maxmemory", 1)
    with pytest.raises(RefusedError, match="stores nothing"):
        fill(address, scorer, version, (), nobody)
    redis_server.stop()
    with pytest.raises(UnreachableError, match="does not answer"):
        fill(address, scorer, version, (), nobody)


def test_forgetting_deletes_the_lists_and_the_embedding_of_one_user(
    workers: Workers, redis_server: RedisServer
) -> None:
    client = redis_server.client()
    Published(workers.folder, RedisAddress.of(redis_server.url)).look()
    for user in (100, 101):
        assert listed(workers.get(f"{LISTS}/{user}?k=3"))
        assert listed(workers.get(f"{LISTS}/{user}?k=4"))
    workers.runner.run(workers.services[0].shared.stored())
    client.set("recommendations:user:10*:v1:x", "a name with a star in it")
    assert forget_user(client, 100) == 3
    assert not client.keys("recommendations:user:100:*")
    assert len(client.keys("recommendations:user:101:*")) == 2
    assert client.hexists("embeddings:user:1", "101")
    assert forget_user(client, "10*") == 1
    assert len(client.keys("recommendations:user:101:*")) == 2
