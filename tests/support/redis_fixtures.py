"""The fixture of a Redis. Tests that ask for it are skipped where redis-server is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from support.redis_server import RedisServer


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    made = RedisServer()
    yield made
    made.stop()
