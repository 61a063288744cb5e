"""`RedisConnector` of the reference: a cache that says False or None where Redis is not there, and raises nothing.

The service's own cache has other keys: these name no model version, and go stale when a version is replaced.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeVar

import numpy as np

from pipeline.compat.configuration import Constants, Settings

__all__ = ["RedisConnector"]

_LOG = logging.getLogger("rankline")
_SECONDS = 0.5  # for a connection and for an answer
_HEADER = "header"

T = TypeVar("T")


class RedisConnector:
    """At `REDIS_URL`, with `REDIS_PASSWORD` and `REDIS_DB`; ``rediss://`` is TLS.

    Attributes
    ----------
    redis_client : None where no address is set, nothing answers there, or the package redis is not installed
    """

    def __init__(self) -> None:
        self.redis_client: Any = _connected(Settings())

    def set_recommendations(self, user_id: int, recommendations: list[dict[str, Any]], ttl: int = 3600) -> bool:
        """Keep a user's list for `ttl` seconds as JSON; whether that was done."""
        key = Constants.RECOMMENDATIONS_KEY.format(user_id=user_id)
        return self._ask(f"{key} was not kept", lambda client: _set(client, key, _json(recommendations), ttl), False)

    def get_recommendations(self, user_id: int) -> list[dict[str, Any]] | None:
        """A user's list, None where there is none."""
        key = Constants.RECOMMENDATIONS_KEY.format(user_id=user_id)

        def read(client: Any) -> list[dict[str, Any]] | None:
            found = client.get(key)
            value = None if found is None else json.loads(found)
            return value if isinstance(value, list) else None

        return self._ask(f"{key} was not read", read, None)

    def set_embeddings(self, key: str, embeddings: dict[str, Any], ttl: int = 86400) -> bool:
        """Keep arrays, and whatever JSON can hold, for `ttl` seconds; whether that was done.

        They are an ``.npz``; no pickle, which would run what whoever can write to Redis puts there.
        """
        return self._ask(
            f"embeddings:{key} was not kept",
            lambda client: _set(client, f"embeddings:{key}", _packed(embeddings), ttl),
            False,
        )

    def get_embeddings(self, key: str) -> dict[str, Any] | None:
        """What `set_embeddings` kept, None where there is none."""

        def read(client: Any) -> dict[str, Any] | None:
            found = client.get(f"embeddings:{key}")
            return None if found is None else _unpacked(found)

        return self._ask(f"embeddings:{key} was not read", read, None)

    def delete_key(self, key: str) -> bool:
        """Whether there was such a key, and it is gone."""
        return self._ask(f"{key} was not deleted", lambda client: bool(client.delete(key)), False)

    def health_check(self) -> dict[str, Any]:
        """`status` (``healthy``, ``unhealthy`` or ``unavailable``), `connected`, and `latency_ms` where it answers."""
        if self.redis_client is None:
            return {"status": "unavailable", "connected": False}
        begun = time.perf_counter()
        alive = self._ask("Redis does not answer", lambda client: bool(client.ping()), False)
        if not alive:
            return {"status": "unhealthy", "connected": False}
        return {"status": "healthy", "connected": True, "latency_ms": round(1e3 * (time.perf_counter() - begun), 3)}

    def close(self) -> None:
        """End the connection; later calls find no Redis."""
        client, self.redis_client = self.redis_client, None
        if client is not None:
            client.close()

    def _ask(self, failed: str, ask: Callable[[Any], T], otherwise: T) -> T:
        if self.redis_client is None:
            return otherwise
        try:
            return ask(self.redis_client)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller computes instead
            _LOG.warning(f"{failed}: {type(error).__name__}")
            return otherwise


def _connected(settings: Settings) -> Any:
    """A client that has answered, or None."""
    if settings.REDIS_URL is None:
        return None
    try:
        import redis

        given: dict[str, Any] = {"db": settings.REDIS_DB} if settings.REDIS_DB else {}
        if settings.REDIS_PASSWORD is not None:
            given["password"] = settings.REDIS_PASSWORD.get_secret_value()
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, **given
        )
        client.ping()
    except Exception as error:  # noqa: BLE001  # no redis package, a wrong address, nobody there
        # The error may repeat the address, which may hold a password.
        _LOG.warning(f"Redis can't be used, and nothing is cached: {type(error).__name__}")
        return None
    return client


def _set(client: Any, key: str, value: bytes, ttl: int) -> bool:
    return bool(client.set(key, value, ex=ttl))


def _json(value: Any) -> bytes:
    def plain(other: Any) -> Any:
        if isinstance(other, np.generic | np.ndarray):
            return other.tolist()
        raise TypeError(f"{type(other).__name__} can't be kept")

    return json.dumps(value, default=plain, allow_nan=False).encode()


def _packed(embeddings: dict[str, Any]) -> bytes:
    arrays = {name: value for name, value in embeddings.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in embeddings.items() if name not in arrays}
    header = _json({"arrays": list(arrays), "rest": rest, "order": list(embeddings)})
    members: dict[str, Any] = {f"array_{place}": array for place, array in enumerate(arrays.values())}
    file = BytesIO()
    np.savez(file, allow_pickle=False, **{_HEADER: np.frombuffer(header, np.uint8)}, **members)
    return file.getvalue()


def _unpacked(value: bytes) -> dict[str, Any]:
    with np.load(BytesIO(value), allow_pickle=False) as members:
        header = json.loads(members[_HEADER].tobytes())
        known = {name: members[f"array_{place}"] for place, name in enumerate(header["arrays"])} | header["rest"]
    return {name: known[name] for name in header["order"]}
