"""Retries with exponential backoff, for calls that are safe to repeat."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from pipeline.errors import BusyError, ConnectionLostError, ServerError, UnreachableError

__all__ = ["AGAIN", "NOTHING_RAN", "SAFE", "RetryPolicy", "retry"]

T = TypeVar("T")
Failures = tuple[type[ServerError], ...]

# The call had no effect: any statement may be sent again.
NOTHING_RAN: Failures = (UnreachableError, BusyError)
# The call may have had its effect: only idempotent calls may be sent again.
SAFE: Failures = (*NOTHING_RAN, ConnectionLostError)

# The end of the message of a failure that was not retried.
AGAIN = "; run the command again"
# Seconds: the first wait and the longest. Each wait is twice the one before, plus a random part of up to FIRST_WAIT.
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
_LOG = logging.getLogger("rankline")


@dataclass(frozen=True)
class RetryPolicy:
    """Attributes
    ----------
    retries : number of tries after the first; 0 means no retry
    seconds : no try begins later than this after the first one
    """

    retries: int = 5
    seconds: float = 60.0


def retry(call: Callable[[], T], what: str, retry_policy: RetryPolicy, failures: Failures = SAFE) -> T:
    """Return the call's result. Retry after each of the `failures`, and log every retry with its cause.

    Raises the last failure; its message says what was tried, how often and for how long. An enclosing
    `retry` does not retry that failure.
    """
    began = time.monotonic()

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        tries = f"{state.attempt_number + 1} of {retry_policy.retries + 1}"
        _LOG.warning(f"{_bare(error)}: {what} is tried again in {wait:.1f} s (try {tries})")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, failures) and not getattr(error, "given_up", False)
        ),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(retry_policy.retries + 1), tenacity.stop_before_delay(retry_policy.seconds)
        ),
        wait=tenacity.wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT),
        before_sleep=say,
        reraise=True,
    )
    try:
        return retrying(call)
    except failures as error:
        tries = int(retrying.statistics["attempt_number"])
        if tries > 1 and not getattr(error, "given_up", False):
            took = f"{tries} times in {time.monotonic() - began:.0f} s"
            given_up = type(error)(
                f"{_bare(error)}; {what} was tried {took}: RANKLINE_RETRIES and RANKLINE_RETRY_SECONDS allow more"
            )
            given_up.__dict__.update({**error.__dict__, "given_up": True})
            raise given_up from None
        raise


def _bare(error: BaseException | None) -> str:
    return str(error).removesuffix(AGAIN)
