"""One at a time moves the champion on a tracking server, which has no lock: a claim is a tag of the registered model.

Who wants to move it writes a tag with a name of its own and then reads all of them: alone, the claim is the lock;
else it is taken back, and tried again. Of two that come at once each has written before it reads, so at least one
sees the other. What moves under a claim takes five short requests; a claim that others have watched for `EXPIRY`
seconds is of a process that died, and is cleared away. They go by their own clocks, so nobody's needs to be right.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import LockedError
from pipeline.registry import MODEL_NAME

__all__ = ["Claim", "claimed"]

PREFIX = "champion_claim."
# Seconds: until a claim that stays is a dead process's, and to wait for another's turn.
EXPIRY, PATIENCE = 30.0, 120.0


class Claim:
    """A claim while it is held; `check` right before what must not be done without it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def check(self) -> None:
        """Raises LockedError where it was cleared away: this process stood still for too long."""
        if self._key and self._key not in _claims():
            raise LockedError("The turn to move the champion was lost, nothing was moved: run the command again")


@contextmanager
def claimed(needed: bool = True) -> Iterator[Claim]:
    """Hold the claim; without a registered model there is nothing to claim.

    needed : False where something else keeps others away, as the lock of a store in a file does

    Raises LockedError where others hold it all the while.
    """
    key = _take() if needed and _exists() else ""
    try:
        yield Claim(key)
    finally:
        if key:
            _drop(key)


def _take() -> str:
    watched: dict[str, float] = {}
    give_up = time.monotonic() + PATIENCE
    while True:
        # A name of its own for each try: who waits tells one that stays from one that comes and goes.
        key = PREFIX + secrets.token_hex(8)
        mlflow.MlflowClient().set_registered_model_tag(MODEL_NAME, key, "moving the champion")
        now, others = time.monotonic(), _claims() - {key}
        watched = {one: watched.get(one, now) for one in others}
        dead = {one for one, since in watched.items() if now - since >= EXPIRY}
        for one in dead:
            _drop(one)
        if others <= dead:
            return key
        _drop(key)
        if now >= give_up:
            raise LockedError("Others are moving the champion all the while: run the command again")
        # Two that withdraw for each other must not come back together.
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  no secret: so that two don't keep step


def _claims() -> set[str]:
    tags = mlflow.MlflowClient().get_registered_model(MODEL_NAME).tags
    return {key for key in tags if key.startswith(PREFIX)}


def _drop(key: str) -> None:
    # One that can't be taken back runs out.
    with suppress(MlflowException):
        mlflow.MlflowClient().delete_registered_model_tag(MODEL_NAME, key)


def _exists() -> bool:
    try:
        mlflow.MlflowClient().get_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
