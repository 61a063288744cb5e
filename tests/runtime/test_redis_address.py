"""Where Redis is: every spelling of an address, and no secret in what is shown."""

from __future__ import annotations

import pytest

from pipeline.errors import UsageError
from pipeline.runtime.redis_address import RedisAddress


@pytest.mark.parametrize(("text", "url", "db", "shown"), [
    ("redis://cache", "redis://cache:6379", 0, "redis://cache:6379/0"),
    ("redis://cache:6380/3", "redis://cache:6380", 3, "redis://cache:6380/3"),
    ("rediss://cache/1?ssl_ca_certs=/ca.pem", "rediss://cache:6379?ssl_ca_certs=/ca.pem", 1, "rediss://cache:6379/1"),
    ("redis://[::1]:7000", "redis://[::1]:7000", 0, "redis://[::1]:7000/0"),
    ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock", 2, "unix:///run/redis.sock (database 2)"),
])  # fmt: skip
def test_an_address(text: str, url: str, db: int, shown: str) -> None:
    address = RedisAddress.of(text)
    assert (address.url, address.db, address.shown) == (url, db, shown)


def test_the_password_is_kept_apart_and_is_not_shown() -> None:
    address = RedisAddress.of("redis://some%40one:p%2Fw@cache:6379/0")
    assert (address.username, address.password, address.url) == ("some@one", "p/w", "redis://cache:6379")
    assert "p/w" not in repr(address) + address.shown
    assert RedisAddress.of("redis://:in-the-url@cache", "of-the-environment").password == "of-the-environment"


@pytest.mark.parametrize("text", [
    "http://:s3cret@cache", "cache:6379", "redis://", "redis://:s3cret@cache:port", "redis://:s3cret@cache/first",
    "redis://:s3cret@cache?socket_timeout=900", "unix://", "redis://:s3cret@[cache",
])  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        RedisAddress.of(text)
    assert "s3cret" not in str(refused.value)


def test_our_names_count_before_those_of_others_and_options_before_both() -> None:
    theirs = {"REDIS_URL": "redis://theirs/1", "REDIS_PASSWORD": "their-password", "REDIS_DB": "4"}
    ours = {"RANKLINE_REDIS_URL": "redis://ours", "RANKLINE_REDIS_DB": "5"}
    assert RedisAddress.of_environment({}) is None
    assert RedisAddress.of_environment({"REDIS_URL": "", "REDIS_PASSWORD": "alone"}) is None
    found = RedisAddress.of_environment(theirs)
    assert found is not None
    assert (found.shown, found.password) == ("redis://theirs:6379/4", "their-password")
    both = RedisAddress.of_environment({**theirs, **ours})
    assert both is not None
    assert (both.shown, both.password) == ("redis://ours:6379/5", "their-password")
    option = RedisAddress.of_environment({**theirs, **ours}, "redis://option", 6)
    assert option is not None
    assert option.shown == "redis://option:6379/6"
    with pytest.raises(UsageError, match="REDIS_DB must be a number"):
        RedisAddress.of_environment({**theirs, "REDIS_DB": "first"})
