"""A token bucket for each key: so many requests a second, twice as many at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pipeline.serving.problems import Code, Problem

__all__ = ["RateLimit"]

_MOST_KEYS = 10_000


class RateLimit:
    """Counts the requests of one worker.

    Parameters
    ----------
    per_second : requests of a key; 0 for no limit. Each of `workers` allows its part
    now : seconds of a clock that never goes back
    """

    def __init__(self, per_second: float, workers: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = per_second / workers, now
        self._most = max(1.0, 2 * self._rate)
        self._left: dict[str, tuple[float, float]] = {}  # key → tokens, and when they were counted

    def take(self, key: str) -> None:
        """Count a request. Raises Problem where the key has used up its requests."""
        if not self._rate:
            return
        now = self._now()
        tokens, then = self._left.get(key, (self._most, now))
        tokens = min(self._most, tokens + (now - then) * self._rate)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / self._rate)
            raise Problem(
                Code.TOO_MANY_REQUESTS,
                f"The key has used up its requests; try again in {wait} s",
                {"Retry-After": str(wait)},
            )
        if len(self._left) >= _MOST_KEYS:
            self._left.clear()
        self._left[key] = tokens - 1, now
