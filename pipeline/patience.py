"""Trying again: with longer and longer waits, and only what is safe to repeat."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from pipeline.errors import BusyError, ConnectionLostError, ServerError, UnreachableError

__all__ = ["AGAIN", "NOTHING_RAN", "SAFE", "Patience", "repeated"]

T = TypeVar("T")
Failures = tuple[type[ServerError], ...]

# After these nothing was done: any statement may be sent again.
NOTHING_RAN: Failures = (UnreachableError, BusyError)
# After these it may have been done: only what is the same done twice.
SAFE: Failures = (*NOTHING_RAN, ConnectionLostError)

# What a message ends with where nothing was tried again yet.
AGAIN = "; run the command again"
# Seconds: the first wait (each is twice the one before, and up to so much longer by chance) and the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
_LOG = logging.getLogger("rankline")


@dataclass(frozen=True)
class Patience:
    """Attributes
    ----------
    retries : tries after the first; 0: none
    seconds : no try begins later than so long after the first
    """

    retries: int = 5
    seconds: float = 60.0


def repeated(call: Callable[[], T], what: str, patience: Patience, failures: Failures = SAFE) -> T:
    """The call's result, tried again after one of the failures; each time said on the log, with the cause.

    Raises the last failure, with what was tried, how often and for how long. Such a failure is not
    tried again by a `repeated` around this one.
    """
    began = time.monotonic()

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        tries = f"{state.attempt_number + 1} of {patience.retries + 1}"
        _LOG.warning(f"{_bare(error)}: {what} is tried again in {wait:.1f} s (try {tries})")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, failures) and not getattr(error, "given_up", False)
        ),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(patience.retries + 1), tenacity.stop_before_delay(patience.seconds)
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
