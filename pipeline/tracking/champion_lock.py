"""The lock for changes of the champion on a tracking server: tags of the registered model, called claims.

A process writes a claim with a unique name and then reads all claims. If its claim is the only one, it holds the
lock; else it deletes the claim and tries again. Each process writes before it reads, so of two that start at once at
least one sees the other. A change under the lock takes five short requests. A claim that a waiting process has seen
for `EXPIRY` seconds, by its own clock, belongs to a process that is dead or stands still, and is deleted. The version
that it was about to make champion is written down first: see `champion_log`.
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
from pipeline.tracking.champion_log import LATE
from pipeline.tracking.registry import CHAMPION, MODEL_NAME

__all__ = ["ChampionLock", "champion_lock"]

PREFIX = "champion_claim."
# Seconds: after which a claim counts as that of a dead process, and to wait for the lock at most.
EXPIRY, PATIENCE = 30.0, 120.0


class ChampionLock:
    """The lock while it is held. Call `check` right before each step that needs it."""

    def __init__(self, model: str, key: str) -> None:
        self._model, self._key = model, key

    def check(self) -> None:
        """Raises LockedError where it was cleared away: this process stood still for too long."""
        if self._key and self._key not in _claims(self._model):
            raise LockedError("The turn to move the champion was lost, nothing was moved: run the command again")


@contextmanager
def champion_lock(needed: bool = True, model: str = MODEL_NAME, version: str = "") -> Iterator[ChampionLock]:
    """Hold the claim on a registered model; where that is not there, there is nothing to claim.

    needed : False where something else keeps others away, as the lock of a store in a file does
    version : the version that is to be made champion under the lock

    Raises LockedError where others hold it all the while.
    """
    key = _take(model, version) if needed and _exists(model) else ""
    try:
        yield ChampionLock(model, key)
    finally:
        if key:
            _drop(model, key)


def _take(model: str, version: str) -> str:
    watched: dict[str, float] = {}
    give_up = time.monotonic() + PATIENCE
    while True:
        # A new name for each try, so that others can tell one lasting claim from several short ones.
        key = PREFIX + secrets.token_hex(8)
        mlflow.MlflowClient().set_registered_model_tag(model, key, version)
        now, others = time.monotonic(), _claims(model) - {key}
        watched = {claim: watched.get(claim, now) for claim in others}
        dead = {claim for claim, since in watched.items() if now - since >= EXPIRY}
        for claim in dead:
            _take_over(model, claim)
        if others <= dead:
            return key
        _drop(model, key)
        if now >= give_up:
            raise LockedError("Others are moving the champion all the while: run the command again")
        # Wait for a random time, so that two processes do not collide again.
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  not a secret


def _take_over(model: str, claim: str) -> None:
    """Delete a claim; from now on a move of the alias under it is late, unless it was made already."""
    client = mlflow.MlflowClient()
    registered = client.get_registered_model(model)
    version = registered.tags.get(claim, "")
    if version and registered.aliases.get(CHAMPION) != version:
        client.set_registered_model_tag(model, LATE + claim.removeprefix(PREFIX), version)
    _drop(model, claim)


def _claims(model: str) -> set[str]:
    tags = mlflow.MlflowClient().get_registered_model(model).tags
    return {key for key in tags if key.startswith(PREFIX)}


def _drop(model: str, key: str) -> None:
    # One that can't be taken back runs out.
    with suppress(MlflowException):
        mlflow.MlflowClient().delete_registered_model_tag(model, key)


def _exists(model: str) -> bool:
    try:
        mlflow.MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
