"""`rankline serve` as a user starts it: real processes on loopback, one service for all tests of this file."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator

import pytest
from support.redis_server import RedisServer
from support.service import Served

from pipeline.errors import LockedError
from pipeline.options import ServeOptions
from pipeline.serving.keys import KeyFile
from pipeline.serving.service import ServiceConfig
from pipeline.serving.supervisor import serve

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow
LIST = "/api/v1/recommendations/100?k=5"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer | None]:
    """A Redis for the service; None where redis-server is not installed."""
    made = None if shutil.which("redis-server") is None else RedisServer()
    yield made
    if made is not None:
        made.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer | None) -> Iterator[Served]:
    # A busy machine is no Redis that hangs.
    env = {} if redis is None else {"REDIS_URL": redis.url, "RANKLINE_REDIS_TIMEOUT_MS": "10000"}
    made = Served(tmp_path_factory.mktemp("home"), env)
    yield made
    made.close()


@pytest.mark.takes(20)
def test_two_workers_answer_as_one_and_count_as_one(served: Served) -> None:
    assert len(served.workers()) == 2
    for n in range(40):
        status, _, head = served.ask("/api/v1/interactions", "POST", {"user_id": 100 + n % 7, "item_id": 1000 + n})
        assert (status, head.get("server")) == (201, None)
        status, body, _ = served.ask(f"/api/v1/recommendations/{100 + n % 7}")
        assert status == 200
        assert json.loads(body)["source"] == "fold_in"
        assert 1000 + n not in [row["item_id"] for row in json.loads(body)["recommendations"]]
    # A request is counted after its answer is sent.
    until = time.monotonic() + 10
    while _seen(served) != (40, 40, 40, 40) and time.monotonic() < until:
        time.sleep(0.05)
    assert _seen(served) == (40, 40, 40, 40)
    assert served.counted("rankline_active_models") == 2  # the most of a worker, not their sum
    assert json.loads(served.ask("/api/v1/films/recommendations/120")[1])["source"] == "popular"  # of that model
    assert served.counted("rankline_fallback_total", 'source="popular"') == 0
    assert json.loads(served.ask("/api/v1/films/recommendations/99999")[1])["source"] == "popular"
    assert served.counted("rankline_fallback_total", 'source="popular"') > 0
    _check_rate(served)
    lines = [json.loads(line) for line in served.errors.read_text().splitlines() if '"request"' in line]
    assert {"timestamp", "level", "service", "message", "metadata"} == set(lines[-1])
    assert not any("1001" in json.dumps(line["metadata"]["route"]) for line in lines)


def _check_rate(served: Served) -> None:
    hits, misses = served.counted("rankline_cache_hits_total"), served.counted("rankline_cache_misses_total")
    assert served.counted("rankline_cache_hit_rate") == pytest.approx(hits / (hits + misses))
    popular = served.counted("rankline_fallback_total", 'source="popular"')
    assert served.counted("rankline_user_coverage") == pytest.approx(1 - popular / (hits + misses))


def test_what_one_worker_made_the_other_has_from_redis(served: Served, redis: RedisServer | None) -> None:
    if redis is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    path, (first, second) = "/api/v1/recommendations/100?k=9", sorted(served.workers())
    redis.client().flushall()
    lists, before = [], served.counted("rankline_cache_hits_total")
    for stopped in (first, second):  # so that the other one answers
        os.kill(stopped, signal.SIGSTOP)
        try:
            lists += [served.ask(path)[1] for _ in range(3)]
            until = time.monotonic() + 60
            # It is sent there a moment later; the agent may write the model's metadata before.
            while not redis.client().keys("recommendations:user:100:*") and time.monotonic() < until:
                time.sleep(0.02)
        finally:
            os.kill(stopped, signal.SIGCONT)
    assert len(set(lists)) == 1
    assert served.counted("rankline_cache_hits_total", 'tier="redis"') == 1
    assert served.counted("rankline_cache_hits_total") == before + 5
    _check_rate(served)


def _seen(served: Served) -> tuple[float, ...]:
    """Ratings, lists, what the cache was asked for, and interactions, of all workers."""
    cache = served.counted("rankline_cache_hits_total") + served.counted("rankline_cache_misses_total")
    lists = served.counted("rankline_requests_total", "recommendations/")
    ratings = served.counted("rankline_requests_total", "interactions")
    return ratings, lists, cache, served.counted("rankline_interactions_total")


def test_metrics_have_a_port_of_their_own(served: Served) -> None:
    status, body, _ = served.ask("/metrics", port=served.metrics_port)
    assert (status, b"rankline_active_models" in body) == (200, True)
    assert [served.ask(path, port=served.metrics_port)[0] for path in ("/ping", LIST)] == [404, 404]
    assert f"http://127.0.0.1:{served.metrics_port}/metrics" in served.errors.read_text()


def test_a_key_that_is_revoked_is_refused_by_all_workers_at_the_next_request(served: Served) -> None:
    keys = KeyFile(served.errors.parent / "live" / "keys.json")
    key = keys.add(("read", "metrics"), "shop")
    try:
        assert {served.ask(LIST, key=key)[0] for _ in range(20)} == {200}  # each on a connection of its own
        assert {served.ask(LIST)[0] for _ in range(20)} == {401}
        keys.revoke("shop")
        assert {served.ask(LIST, key=key)[0] for _ in range(20)} == {401}
        assert key[8:40] not in served.errors.read_text()
    finally:
        keys.path.unlink()
    assert served.ask(LIST)[0] == 200


def test_a_killed_worker_is_replaced_and_what_was_kept_stays(served: Served) -> None:
    served.ask("/api/v1/interactions", "POST", {"user_id": 500, "item_id": 1001, "rating": 5})
    killed = min(served.workers())
    os.kill(killed, signal.SIGKILL)
    answers = [served.ask("/api/v1/recommendations/500") for _ in range(30)]
    assert [status for status, _, _ in answers].count(200) >= 29
    assert json.loads(answers[-1][1])["source"] == "fold_in"
    until = time.monotonic() + 120
    while killed in served.workers() or len(served.workers()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert served.counted("rankline_interactions_total") >= 1  # its counters are still there


def test_a_second_service_in_the_folder_is_refused(served: Served) -> None:
    config = ServiceConfig(ServeOptions(port=0), served.errors.parent / "live", "rankline", "sqlite:///none")
    with pytest.raises(LockedError, match=r"another `rankline serve` uses this folder"):
        serve(config, print)


def test_sigterm_drains_and_ends_well(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("GET", LIST)
    connection.getresponse().read()
    ready = f"http://127.0.0.1:{served.port} answers by rankline/1"
    until = time.monotonic() + 30
    while ready not in served.errors.read_text() and time.monotonic() < until:  # the supervisor looks now and then
        time.sleep(0.05)
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    connection.request("GET", LIST)  # on a connection that was kept alive
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("connection")) == (200, "close")
    status, body, _ = served.ask("/api/v1/ready")
    assert (status, json.loads(body)["code"]) == (503, "DRAINING")
    assert served.process.wait(30) == 0
    assert not served.workers()
    said = served.errors.read_text()
    assert said.count(ready) == 1  # though a worker may have been replaced
    assert "Traceback" not in said
