"""`score --fill-cache` and `forget` with the Redis of the service, as a user types them."""

from __future__ import annotations

import json

import pytest
from support.processes import Home
from support.redis_server import RedisServer

pytest_plugins = ["support.homes", "support.redis_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.takes(15)]


def test_lists_are_filled_in_and_a_forgotten_users_are_deleted(trained_copy: Home, redis_server: RedisServer) -> None:
    without = trained_copy.rankline("score", "--fill-cache")
    assert without.returncode == 2
    assert "set REDIS_URL" in without.stderr
    client, env = redis_server.client(), {"REDIS_URL": redis_server.url, "RANKLINE_ITEM_FIELDS": "title,genres"}
    done = trained_copy.rankline("score", "--fill-cache", env=env)
    assert done.returncode == 0, done.stderr
    assert f"671 lists of rankline/1 are in redis://127.0.0.1:{redis_server.port}/0" in done.stderr
    assert client.dbsize() == 671
    (key,) = client.keys("recommendations:user:42:v1:*")
    value = json.loads(client.get(key))
    assert (value["user_id"], value["model_version"], len(value["recommendations"])) == (42, "rankline/1", 10)
    assert set(value["recommendations"][0]) == {"rank", "item_id", "title", "genres", "score"}
    gone = trained_copy.rankline("forget", "42", "--yes", env=env)
    assert gone.returncode == 0, gone.stderr
    assert not client.keys("recommendations:user:42:*")
    assert client.dbsize() == 670
    redis_server.stop()
    down = trained_copy.rankline("forget", "43", "--yes", env=env)
    assert down.returncode == 0, down.stderr
    assert "end within an hour" in down.stderr
    refused = trained_copy.rankline("serve", "--redis-url", "redis://:s3cret@cache")
    assert refused.returncode == 2
    assert "REDIS_PASSWORD" in refused.stderr
    assert "s3cret" not in refused.stderr
