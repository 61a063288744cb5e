"""What the agent does for experiments: fetches the versions of the arms, has them loaded, and has them served.

An experiment that can't be served leaves what is served: the champion, for everybody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.errors import ArtifactError, RanklineError
from pipeline.experiments.definition import Experiment
from pipeline.serving.arms import arm_pointers, definition_in, with_experiment
from pipeline.serving.exposures import settle_ended
from pipeline.serving.live_folder import LiveFolder, Pointer
from pipeline.tracking import experiments, registry

__all__ = ["ExperimentFollower", "digests_of"]

_LOG = logging.getLogger("rankline")
_AGAIN_SECONDS = 30.0  # until the versions of an experiment that failed are tried again


class ExperimentFollower:
    """Follows the experiment of one registered model.

    Parameters
    ----------
    fetched : fetches and verifies a version
    load : has all workers load what a pointer names. Raises ArtifactError if one of them can't
    is_good : whether the copy in a folder can be served
    """

    def __init__(
        self,
        folder: LiveFolder,
        model: str,
        fetched: Callable[[registry.ModelVersion], Pointer],
        load: Callable[[Pointer], bool],
        is_good: Callable[[Path], bool],
    ) -> None:
        self._folder, self._model, self._fetched, self._load = folder, model, fetched, load
        self._is_good, self._checked = is_good, False
        self._refused: tuple[str, float, str] = ("", 0.0, "")

    def follow(self) -> None:
        """Serve the experiment that runs, or none where none does. Raises RanklineError, OSError."""
        self._settle()
        current = self._folder.current()
        if current is None:
            return
        wanted = experiments.running(self._model)
        if wanted == _served(current) and self._are_good(current):
            return
        if wanted is None:
            self._folder.flip(replace(current, experiment={}))
            _LOG.info("no experiment runs: everybody gets the champion")
            return
        text, again, why = self._refused
        if text == wanted.text and time.monotonic() < again:
            raise ArtifactError(why)
        try:
            arms = [self._fetched(registry.resolve(f"{self._model}/{number}")) for number in wanted.versions]
            pointer = with_experiment(current, wanted, arms)
            if not self._load(pointer):
                return
        except (RanklineError, OSError) as error:
            why = f"the experiment {wanted.name} can't be served: {error}"
            self._refused = wanted.text, time.monotonic() + _AGAIN_SECONDS, why
            raise ArtifactError(why) from None
        self._folder.flip(pointer)
        labels = " and ".join(arm.label for arm in arms)
        _LOG.info(f"the experiment {wanted.name} is served: {labels}")

    def _are_good(self, current: Pointer) -> bool:
        """Whether the copies of the arms can be served; looked at once, at the start."""
        if not self._checked:
            self._checked = True
            return all(self._is_good(self._folder.model_folder(digest)) for digest in digests_of(current))
        return True

    def _settle(self) -> None:
        """Count what workers lost that were killed. A log that can't be written is tried again at the next look."""
        with suppress(RanklineError, OSError):
            lost = settle_ended(self._folder.exposures_path, self._folder.exposure_counters)
            if lost:
                _LOG.warning(f"{lost:,} exposure(s) were lost with a worker that ended")


def _served(current: Pointer) -> Experiment | None:
    try:
        return definition_in(current)
    except ArtifactError:
        return None  # it is written anew


def digests_of(pointer: Pointer | None) -> set[str]:
    """The copies that a pointer needs: of its version, and of the arms of its experiment."""
    if pointer is None:
        return set()
    try:
        return {pointer.digest, *(arm.digest for arm in arm_pointers(pointer))}
    except ArtifactError:
        return {pointer.digest}
