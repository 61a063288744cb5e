"""`SharedCache`: a worker's access to Redis: bounded in time, given up after failures, tried again beside requests.

What Redis holds is a copy of what the worker can make itself, so no failure of Redis is one of a request. After
`_FAILURES` calls in a row that failed, no request asks Redis until a ping of `watch` was answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from pipeline.runtime.redis_address import RedisAddress

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["LIST_SECONDS", "MOST_BYTES", "SharedCache"]

_LOG = logging.getLogger("rankline")
MOST_BYTES = 256 << 10  # of a value; a larger one is no list of ours
LIST_SECONDS = 3600  # for which Redis keeps a list
_FAILURES = 3
_LOOK_SECONDS = 1.0
_CONNECTIONS = 32
_GATHER_SECONDS = 0.02  # values are sent together, as a write each would cost a request as much as the list
_TOGETHER, _WAITING = 256, 2048
_STORE_SECONDS = 0.5  # to send values, which nobody waits for

T = TypeVar("T")


class SharedCache:
    """Attributes
    ----------
    address : where Redis is
    usable : whether requests may ask it
    fault : why they may not, or why nothing is stored; "" where all is well, and before the first look
    calls : how often a request has asked
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self.address, self._timeout = address, timeout
        self.usable, self.fault, self.calls = False, "", 0
        self._failures, self._said = 0, ""
        self._client: Redis | None = None
        self._values: dict[str, bytes] = {}
        self._storing: asyncio.Task[None] | None = None
        self._flights: dict[str, asyncio.Future[None]] = {}

    # ---- for requests -----------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None where there is none, where it is too large, and where Redis fails."""
        self.calls += 1
        # A range of it: a value of another's making may be of any size.
        found = await self._bounded(lambda client: client.getrange(key, 0, MOST_BYTES), self._timeout)
        if not isinstance(found, bytes) or not 0 < len(found) <= MOST_BYTES:
            return None
        return found

    def put(self, key: str, value: bytes) -> None:
        """Have a value stored soon; nobody waits for it, and it is left out where too many wait."""
        if not self.usable or len(value) > MOST_BYTES or len(self._values) >= _WAITING:
            return
        self._values[key] = value
        if self._storing is None or self._storing.done():
            self._storing = asyncio.get_running_loop().create_task(self._store())

    async def once(self, key: str, make: Callable[[], Awaitable[T]], again: Callable[[], T | None]) -> T:
        """`make()`, where no other request is at it for this key; else what `again` finds when that one is done.

        `again` returns None where it finds nothing; then this request makes it, too.
        """
        flying = self._flights.get(key)
        if flying is not None:
            await asyncio.wait([flying])
            found = again()
            return await make() if found is None else found
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            return await make()
        finally:
            del self._flights[key]
            flight.set_result(None)

    # ---- failures ---------------------------------------------------------------------------

    async def _bounded(self, call: Callable[[Redis], Awaitable[object]], seconds: float) -> object:
        """The answer of a call; None where it fails or takes longer. Counts failures."""
        from redis.exceptions import NoPermissionError, ResponseError

        if self._client is None:
            self._client = self._connect()
        try:
            async with asyncio.timeout(seconds):
                answer = await call(self._client)
        except ResponseError as error:
            if isinstance(error, NoPermissionError):
                await self._failed(error)
            return None  # else it is about this key alone, such as one of another type
        except Exception as error:  # noqa: BLE001  # whatever Redis, or what is taken for it, does: the request goes on
            await self._failed(error)
            return None
        self._failures = 0
        return answer

    async def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self.usable and self._failures < _FAILURES:
            return
        self.usable = False
        self._values.clear()
        self._say(f"Redis at {self.address.shown} can't be used ({_reason(error)})")
        if self._client is not None:  # connections of before may be dead, or have old answers to come
            with suppress(Exception):
                await self._client.connection_pool.disconnect(inuse_connections=False)

    def _say(self, fault: str) -> None:
        """Once for each fault; an end of it as well."""
        self.fault = fault
        if fault and fault != self._said:
            _LOG.warning(f"{fault}; lists are made without it")
        elif self._said and not fault:
            _LOG.info(f"Redis at {self.address.shown} is used again")
        self._said = fault

    def _connect(self) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        address = self.address
        pool = BlockingConnectionPool.from_url(
            address.url,
            db=address.db,
            username=address.username or None,
            password=address.password or None,
            max_connections=_CONNECTIONS,
            timeout=self._timeout,
            socket_timeout=max(self._timeout, _STORE_SECONDS),
            socket_connect_timeout=max(self._timeout, 0.05),
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        return Redis.from_pool(pool)

    # ---- beside requests --------------------------------------------------------------------

    async def watch(self) -> None:
        """Ping Redis every second, for ever: it opens the way for requests, and closes it where Redis is gone."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """One ping."""
        seconds = self._timeout if self.usable else max(self._timeout, _STORE_SECONDS)
        answer = await self._bounded(lambda client: client.ping(), seconds)
        if answer is True and not self.usable:
            self.usable = True
            self._say("")

    async def _store(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        while self._values and self.usable:
            some = list(self._values.items())[:_TOGETHER]
            for key, _ in some:
                del self._values[key]
            refused = await self._bounded(lambda client, some=some: _set_all(client, some), _STORE_SECONDS)  # type: ignore[misc]  # mypy infers no lambda with a default
            if isinstance(refused, str) and self.usable:
                self._say(f"Redis at {self.address.shown} stores nothing ({refused})" if refused else "")

    async def stored(self) -> None:
        """Wait until what was put is sent."""
        if self._storing is not None:
            await asyncio.wait([self._storing])

    async def close(self) -> None:
        """Close the connections."""
        if self._storing is not None:
            self._storing.cancel()
        if self._client is not None:
            with suppress(Exception):
                async with asyncio.timeout(_STORE_SECONDS):
                    await self._client.aclose()


async def _set_all(client: Redis, values: list[tuple[str, bytes]]) -> str:
    """Store the values; the first refusal, "" for none."""
    pipe = client.pipeline(transaction=False)
    for key, value in values:
        pipe.set(key, value, ex=LIST_SECONDS)
    answers = await pipe.execute(raise_on_error=False)
    return next((_reason(answer) for answer in answers if isinstance(answer, Exception)), "")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return " ".join(str(error).split())[:200] or type(error).__name__
