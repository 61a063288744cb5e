"""`Arms`: the models of an experiment in a worker's memory, and who gets which.

As a `ServedModel`, it never changes: another experiment, another version or other rules make another object, whose
cache of ready answers is empty. A request takes the reference once.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache

from pipeline.errors import ArtifactError, InputError
from pipeline.experiments.definition import ARMS, Experiment
from pipeline.interaction_log.exposures import Exposure
from pipeline.serving.live_folder import Pointer
from pipeline.serving.served_model import ENTRY_BYTES, CachedAnswer, ServedModel, Shown

__all__ = ["Arm", "Arms", "arm_pointers", "definition_in", "exposure", "shown_in", "with_experiment"]


class Arm(NamedTuple):
    """An arm of an experiment: its name, and the model that it serves."""

    name: str
    served: ServedModel


class Arms:
    """Attributes
    ----------
    experiment : what is tested
    arms : in the order of the split
    cache : ready lists of both arms, by path and query
    """

    def __init__(self, experiment: Experiment, models: Sequence[ServedModel], cache_bytes: int) -> None:
        self.experiment = experiment
        self.arms = tuple(Arm(name, served) for name, served in zip(ARMS, models, strict=True))
        self._cache_bytes = cache_bytes
        self.cache: MutableMapping[Hashable, CachedAnswer] = LRUCache(max(1, cache_bytes), getsizeof=_size)

    def of(self, user: int | str) -> Arm:
        """The arm of a user, as the models have ids."""
        return self.arms[self.experiment.arm(user)]

    def store(self, key: Hashable, answer: CachedAnswer) -> None:
        """Keep an answer, if it is not larger than the cache."""
        if _size(answer) <= self._cache_bytes:
            self.cache[key] = answer


def _size(answer: CachedAnswer) -> int:
    shown = 0 if answer.shown is None else len(answer.shown.items)
    return len(answer.body) + shown + ENTRY_BYTES


def shown_in(arm: Arm, listed: Sequence[Mapping[str, Any]]) -> Shown:
    """What an exposure says of a list, as an answer has it."""
    items = [str(row["item_id"]) for row in listed]
    return Shown(arm.name, arm.served.pointer.version, arm.served.served_by, orjson.dumps(items).decode())


def exposure(
    arms: Arms, arm: Arm | Shown, request_id: str, user: int | str, source: str, status: int, begun: int
) -> Exposure:
    """The exposure of an answer that was begun at that `time.perf_counter_ns`; one that failed has no source."""
    if isinstance(arm, Shown):
        name, version, by, items = arm
    else:
        name, version, by, items = arm.name, arm.served.pointer.version, arm.served.served_by, "[]"
    micros = (time.perf_counter_ns() - begun) // 1000
    at, manifest = time.time_ns() // 1_000_000, by.manifest.decode()
    return Exposure(
        arms.experiment.name, name, request_id, str(user), version, source, items, status, micros, at, manifest
    )


# ---- in the pointer of the served version --------------------------------------------------------


def with_experiment(pointer: Pointer, experiment: Experiment, arms: Sequence[Pointer]) -> Pointer:
    """The pointer, with an experiment and the versions of its arms."""
    of_arms = [{**asdict(arm), "experiment": {}} for arm in arms]
    return replace(pointer, experiment={"definition": experiment.text, "arms": of_arms})


def definition_in(pointer: Pointer) -> Experiment | None:
    """The experiment of a pointer; None where there is none. Raises ArtifactError for one that is damaged."""
    if not pointer.experiment:
        return None
    try:
        return Experiment.parse(str(pointer.experiment["definition"]))
    except (KeyError, InputError):
        raise ArtifactError(f"The experiment of {pointer.label} in the service's folder is damaged") from None


def arm_pointers(pointer: Pointer) -> tuple[Pointer, ...]:
    """The versions of its arms; none where there is no experiment. Raises ArtifactError for what is damaged."""
    if not pointer.experiment:
        return ()
    given: Any = pointer.experiment.get("arms")
    if not isinstance(given, list) or len(given) != len(ARMS) or not all(isinstance(one, Mapping) for one in given):
        raise ArtifactError(f"The experiment of {pointer.label} in the service's folder is damaged")
    return tuple(Pointer.of(one, "the experiment in current.json") for one in given)
