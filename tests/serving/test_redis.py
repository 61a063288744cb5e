"""Redis as the second cache: shared by workers, never older than a rating, a swap or a rule, and never needed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from support.processes import free_port
from support.redis_server import RedisServer
from support.served import Workers, listed, put_copy, small_trained

from pipeline.models.saved_model import SavedModel
from pipeline.ranking.rules import Rule, Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.redis_address import RedisAddress
from pipeline.serving.baseline import keep_items

pytest_plugins = ["support.redis_fixtures"]
pytestmark = pytest.mark.slow
LISTS = "/api/v1/recommendations"
PATIENT = 10_000  # ms: a busy machine is no Redis that hangs


@pytest.fixture(scope="module")
def model() -> SavedModel:
    return small_trained()


Make = Callable[..., Workers]


@pytest.fixture
def make(tmp_path: Path, model: SavedModel) -> Iterator[Make]:
    made: list[Workers] = []

    def make(url: str, n: int = 2, password: str = "", **options: object) -> Workers:
        address = RedisAddress.of(url, password)
        workers = Workers(tmp_path / f"live{len(made)}", 0, address, **{"redis_timeout_ms": PATIENT, **options})
        made.append(workers)
        workers.folder.make()
        workers.folder.flip(put_copy(workers.folder, model))
        for _ in range(n):
            workers.runner.run(workers._start())
        return workers

    yield make
    for workers in made:
        workers.close()


def settle(workers: Workers) -> None:
    """Until each worker has stored in Redis what it made."""
    for service in workers.services:
        workers.runner.run(service.shared.stored())


def hits(workers: Workers, worker: int, tier: str) -> float:
    metrics = workers.services[worker].metrics
    return {"process": metrics.process_hit, "redis": metrics.redis_hit, "none": metrics.miss}[tier]._value.get()


def look(workers: Workers) -> None:
    for service in workers.services:
        workers.runner.run(service.shared.look())


def usable(workers: Workers) -> list[bool]:
    return [service.shared.usable for service in workers.services]


def test_a_list_that_one_worker_made_is_the_other_workers_too(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url)
    first = workers.get(f"{LISTS}/100?k=7", 0)
    settle(workers)
    (key,) = redis_server.client().keys()
    assert key.decode().startswith("recommendations:user:100:v1:")
    assert 0 < redis_server.client().ttl(key) <= 3600
    assert redis_server.client().get(key) == first.content
    assert workers.get(f"{LISTS}/100?k=7", 1).content == first.content
    assert workers.get(f"{LISTS}/100?top_k=7", 1).content == first.content  # the same list, asked for in other words
    assert workers.get(f"{LISTS}/100?k=7", 1).content == first.content
    assert [hits(workers, 1, tier) for tier in ("redis", "process", "none")] == [2, 1, 0]
    assert [hits(workers, 0, tier) for tier in ("redis", "process", "none")] == [0, 0, 1]
    health = workers.get("/api/v1/health").json()
    assert health["status"] == "degraded"  # no agent here
    assert health["cache"]["redis"] == f"redis://127.0.0.1:{redis_server.port}/0"
    assert health["cache"]["fault"] == ""


def test_no_list_is_older_than_a_rating_a_rule_a_swap_or_forgetting(
    make: Make, redis_server: RedisServer, model: SavedModel
) -> None:
    workers = make(redis_server.url)

    def lists(query: str = "k=5") -> list[tuple[int, float]]:
        """Both workers', which are the same."""
        both = []
        for worker in (0, 1):
            both.append(listed(workers.get(f"{LISTS}/100?{query}", worker)))
            settle(workers)
        assert both[0] == both[1]
        return both[0]

    before = lists()
    best = before[0][0]
    assert lists("k=3") == before[:3]
    everything = Scorer(model).recommend(100, 5, exclude_seen=False)
    assert lists("k=5&exclude_seen=no") == list(zip(everything[0].tolist(), everything[1].tolist(), strict=True))
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": best, "rating": 1})
    rated = lists()
    assert best not in dict(rated)
    # The same interactions at the same times are the same list; another time of one may be another merge.
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": best, "rating": 5})
    assert lists() != rated
    now = lists()
    Rules((Rule("deny", str(now[0][0])),)).write(workers.config.rules)
    workers.look()
    assert now[0][0] not in dict(lists())
    workers.config.rules.unlink()
    workers.look()
    assert lists() == now
    workers.folder.flip(put_copy(workers.folder, small_trained("item-knn"), "2"))
    workers.look()
    assert workers.get(f"{LISTS}/100?k=5").json()["source"] == "fold_in"
    assert lists() != now
    workers.logs[0].forget(100)
    assert [workers.get(f"{LISTS}/100?k=5", worker).json()["source"] for worker in (0, 1)] == ["popular", "popular"]


def test_strangers_leave_nothing_in_redis(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url)
    workers.get(f"{LISTS}/999")
    workers.get(f"{LISTS}/nobody")
    settle(workers)
    assert redis_server.client().dbsize() == 0
    workers.post("/api/v1/interactions", {"user_id": 999, "item_id": 1000, "rating": 5})
    first = workers.get(f"{LISTS}/999", 0)
    settle(workers)
    assert workers.get(f"{LISTS}/999", 1).content == first.content
    assert hits(workers, 1, "redis") == 1


def foreign(body: bytes) -> list[bytes]:
    """What is no list of user 100."""
    right = orjson.loads(body)
    rows = right["recommendations"]
    wrong = [
        {**right, "user_id": 101},
        {**right, "user_id": "100"},
        {**right, "model_version": "rankline/2"},
        {**right, "run_id": "0" * 32},
        {**right, "source": "somebody"},
        {**right, "note": "<script>"},
        {**right, "recommendations": {}},
        {**right, "recommendations": [*rows, {**rows[0], "rank": 6}]},
        {**right, "recommendations": [{**rows[0], "rank": 2}]},
        {**right, "recommendations": [{**rows[0], "item_id": 424242}]},
        {**right, "recommendations": [{**rows[0], "score": "high"}]},
        {**right, "recommendations": [{**rows[0], "link": "https://elsewhere"}]},
        {**right, "recommendations": [rows[0], {**rows[0], "rank": 2}]},
        {**right, "recommendations": [1, 2, 3]},
    ]
    raw = [b"\xff\x00rubbish", b"", b"[]", b"null", b'"x"', b"{}", body[:-1], body + b" " * 300_000, b"[" * 10_000]
    return [*map(orjson.dumps, wrong), *raw]


def test_rubbish_is_not_passed_on(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url)
    right = workers.get(f"{LISTS}/100?k=5", 0).content
    settle(workers)
    (key,) = redis_server.client().keys()
    for value in foreign(right):
        redis_server.client().set(key, value)
        workers.services[1].model.served().cache.clear()
        assert workers.get(f"{LISTS}/100?k=5", 1).content == right
        assert hits(workers, 1, "redis") == 0, value[:200]
        settle(workers)
    redis_server.client().delete(key)
    redis_server.client().lpush(key, "another type")
    workers.services[1].model.served().cache.clear()
    assert workers.get(f"{LISTS}/100?k=5", 1).content == right
    assert hits(workers, 1, "redis") == 0
    assert usable(workers) == [True, True]


def test_stopped_it_is_done_without_and_said_once_and_used_again(
    make: Make, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    workers = make(redis_server.url, n=1)
    before = workers.get(f"{LISTS}/100").content
    settle(workers)
    redis_server.stop()
    with caplog.at_level(logging.INFO, "rankline"):
        for user in range(101, 111):
            assert workers.get(f"{LISTS}/{user}").status_code == 200
            look(workers)
    assert usable(workers) == [False]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "can't be used" in caplog.text
    health = workers.get("/api/v1/health").json()
    assert health["status"] == "degraded"
    assert f"127.0.0.1:{redis_server.port}" in health["cache"]["fault"]
    asked = workers.services[0].shared.calls
    workers.get(f"{LISTS}/111")
    assert workers.services[0].shared.calls == asked
    redis_server.start()
    with caplog.at_level(logging.INFO, "rankline"):
        look(workers)
    assert usable(workers) == [True]
    assert "is used again" in caplog.text
    assert workers.get("/api/v1/health").json()["cache"]["fault"] == ""
    workers.services[0].model.served().cache.clear()
    assert workers.get(f"{LISTS}/100").content == before
    settle(workers)
    assert redis_server.client().dbsize() == 1


def test_hung_it_costs_a_few_requests_their_time_and_then_none(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url, n=1, redis_timeout_ms=50)
    shared = workers.services[0].shared
    workers.runner.run(shared.look())
    while not shared.usable:  # a busy machine
        workers.runner.run(shared.look())
    redis_server.hang()
    for user in range(100, 130):
        assert workers.get(f"{LISTS}/{user}").status_code == 200
    assert shared.calls <= 3
    assert "does not answer in time" in workers.get("/api/v1/health").json()["cache"]["fault"]
    redis_server.go_on()
    until = 200
    while not shared.usable and until:
        workers.runner.run(shared.look())
        until -= 1
    assert shared.usable
    # An answer that comes late is nobody else's.
    workers.services[0].model.served().cache.clear()
    for user in range(100, 130):
        assert workers.get(f"{LISTS}/{user}").json()["user_id"] == user


def test_a_slow_one_is_waited_for_as_long_as_was_asked(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url)
    first, second = workers.clients
    answer = workers.runner.run(first.get(f"{LISTS}/100")).content
    settle(workers)
    redis_server.client().client_pause(900)  # longer than storing may take
    assert workers.runner.run(second.get(f"{LISTS}/100")).content == answer
    assert hits(workers, 1, "redis") == 1


@pytest.mark.parametrize(("settings", "password", "said"), [
    (("--requirepass", "right-one"), "wrong-one", "invalid"),
    (("--requirepass", "right-one"), "", "uthentication"),
])  # fmt: skip
def test_a_wrong_password_is_said_without_the_password(
    make: Make, redis_server: RedisServer, settings: tuple[str, ...], password: str, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    guarded = RedisServer(*settings)
    try:
        with caplog.at_level(logging.INFO, "rankline"):
            workers = make(guarded.url, n=1, password=password)
        assert listed(workers.get(f"{LISTS}/100"))
        assert said in workers.get("/api/v1/health").json()["cache"]["fault"]
        assert len(caplog.records) == 1
        assert "-one" not in caplog.text + repr(workers.config)
        right = make(guarded.url, n=1, password="right-one")
        assert usable(right) == [True]
    finally:
        guarded.stop()


def test_what_is_not_redis_is_done_without(make: Make) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    workers = make("redis://127.0.0.1:1", n=1)
    server = workers.runner.run(asyncio.start_server(talk, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    other = make(f"redis://127.0.0.1:{port}", n=1)
    assert usable(workers) == [False]
    assert usable(other) == [False]
    assert listed(other.get(f"{LISTS}/100"))
    server.close()


def test_a_full_redis_is_said_and_still_read(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url, n=1)
    workers.get(f"{LISTS}/100")
    settle(workers)
    redis_server.client().config_set("maxmemory", 1)
    workers.get(f"{LISTS}/101")
    settle(workers)
    assert "stores nothing" in workers.get("/api/v1/health").json()["cache"]["fault"]
    assert usable(workers) == [True]
    redis_server.client().config_set("maxmemory", 0)
    workers.get(f"{LISTS}/102")
    settle(workers)
    assert workers.get("/api/v1/health").json()["cache"]["fault"] == ""


def test_requests_of_one_moment_ask_redis_and_make_the_list_once(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url, n=1)
    client = workers.clients[0]

    async def at_once() -> list[bytes]:
        answers = await asyncio.gather(*(client.get(f"{LISTS}/100") for _ in range(20)))
        return [answer.content for answer in answers]

    assert len(set(workers.runner.run(at_once()))) == 1
    assert workers.services[0].shared.calls == 1
    assert [hits(workers, 0, tier) for tier in ("none", "process")] == [1, 19]


def test_tls_with_the_certificate_checked(make: Make, redis_server: RedisServer, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *named]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    guarded = RedisServer("--requirepass", "of-tls", *tls, *files)
    try:
        right = make(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}", n=1, password="of-tls")
        assert usable(right) == [True]
        unchecked = make(f"rediss://127.0.0.1:{port}", n=1, password="of-tls")
        assert usable(unchecked) == [False]
        assert "certificate" in unchecked.get("/api/v1/health").json()["cache"]["fault"].lower()
    finally:
        guarded.stop()


def test_what_stands_in_for_a_model_is_not_shared(make: Make, redis_server: RedisServer) -> None:
    workers = make(redis_server.url, n=0)
    pointer = workers.folder.current()
    assert pointer is not None
    keep_items(workers.folder, pointer)
    (workers.folder.model_folder(pointer.digest) / "user_features.npy").write_bytes(b"")
    workers.runner.run(workers._start())
    workers.post("/api/v1/interactions", {"user_id": 100, "item_id": 1000, "rating": 5})
    assert workers.get(f"{LISTS}/100").headers["x-model-version"] == "rankline/baseline"
    settle(workers)
    assert (workers.services[0].shared.calls, redis_server.client().dbsize()) == (0, 0)
