"""The cache of the reference, over a real Redis; and without one, or with one that fails, False and None."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.compat import RedisConnector

pytest.importorskip("redis")
SERVER = shutil.which("redis-server")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDIS_PASSWORD", "REDIS_DB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if SERVER is None:
        pytest.skip("there is no redis-server on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    options = ("--port", str(number), "--bind", "127.0.0.1", "--requirepass", "hush", "--save", "", "--dir", folder)
    server = subprocess.Popen([SERVER, *map(str, options)], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", number)) == 0:
                break
        time.sleep(0.05)
    yield number
    server.kill()
    server.wait()


@pytest.fixture
def connector(port: int, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisConnector]:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}")
    monkeypatch.setenv("REDIS_PASSWORD", "hush")
    monkeypatch.setenv("REDIS_DB", "3")
    made = RedisConnector()
    assert made.redis_client is not None
    yield made
    made.close()


@pytest.mark.slow
def test_lists_and_embeddings_are_kept_under_their_keys_for_their_time(connector: RedisConnector) -> None:
    items = [{"item_id": np.int64(1), "score": np.float32(0.5)}]
    assert connector.set_recommendations(123, items) is True
    assert connector.get_recommendations(user_id=123) == [{"item_id": 1, "score": 0.5}]
    client = connector.redis_client
    assert client.connection_pool.connection_kwargs["db"] == 3
    assert 3590 <= client.ttl("recommendations:user:123") <= 3600
    factors = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert connector.set_embeddings("model_v1_users", {"version": "1", "user_embeddings": factors, "ids": [3, 4]})
    assert 86390 <= client.ttl("embeddings:model_v1_users") <= 86400
    read = connector.get_embeddings("model_v1_users")
    assert list(read) == ["version", "user_embeddings", "ids"]
    assert (read["version"], read["ids"]) == ("1", [3, 4])
    assert read["user_embeddings"].tobytes() == factors.tobytes()
    assert read["user_embeddings"].shape == (2, 3)
    assert connector.get_recommendations(5) is connector.get_embeddings("none") is None
    assert connector.delete_key("recommendations:user:123") is True
    assert connector.delete_key("recommendations:user:123") is False
    health = connector.health_check()
    assert (health["status"], health["connected"]) == ("healthy", True)


@pytest.mark.slow
def test_what_others_wrote_there_is_nothing_and_runs_nothing(connector: RedisConnector) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    client = connector.redis_client
    for value in (pickle.dumps(Bomb()), b"", b"PK\x03\x04", b"[1"):
        client.set("embeddings:x", value)
        client.set("recommendations:user:1", value)
        assert connector.get_embeddings("x") is None
        assert connector.get_recommendations(1) is None
    assert connector.set_embeddings("y", {"a": np.array([object()])}) is False
    assert connector.set_recommendations(1, [{"score": float("nan")}]) is False
    assert connector.set_recommendations(1, [{"score": object()}]) is False


@pytest.mark.slow
def test_a_wrong_password_is_no_redis_and_is_in_no_log(
    port: int, nowhere: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:secretword@127.0.0.1:{port}")
    assert RedisConnector().redis_client is None
    assert caplog.messages
    assert "secretword" not in caplog.text


def without_redis(connector: RedisConnector) -> None:
    assert connector.set_recommendations(1, []) is False
    assert connector.get_recommendations(1) is None
    assert connector.set_embeddings("a", {}) is False
    assert connector.get_embeddings("a") is None
    assert connector.delete_key("a") is False


def test_without_an_address_nothing_is_cached(nowhere: None) -> None:
    connector = RedisConnector()
    assert connector.redis_client is None
    without_redis(connector)
    assert connector.health_check() == {"status": "unavailable", "connected": False}
    connector.close()


def test_with_nobody_there_nothing_is_cached(nowhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{taken.getsockname()[1]}")
        assert RedisConnector().redis_client is None


def test_a_connection_that_breaks_later_is_no_error(nowhere: None) -> None:
    class Broken:
        def __getattr__(self, name):
            def fail(*args, **more):
                raise ConnectionError("gone")

            return fail

    connector = RedisConnector()
    connector.redis_client = Broken()
    without_redis(connector)
    assert connector.health_check() == {"status": "unhealthy", "connected": False}
