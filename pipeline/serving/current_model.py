"""`CurrentModel`: the model that a worker answers with, switched at the first request after `current.json` has changed.

A candidate is loaded beside it in a thread, and reported. When the agent flips the pointer, all workers have it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipeline.errors import RanklineError
from pipeline.experiments.definition import Experiment
from pipeline.models.model_files import METADATA
from pipeline.ranking.rules import Rules, now_ms
from pipeline.serving.arms import Arms, arm_pointers, definition_in
from pipeline.serving.baseline import load_baseline
from pipeline.serving.live_folder import LiveFolder, Pointer, WorkerReport
from pipeline.serving.problems import Code, Problem
from pipeline.serving.served_model import Scale, ServedModel, load_served

__all__ = ["CurrentModel"]

_LOG = logging.getLogger("rankline")
_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 30.0  # until a version that could not be loaded is tried again: there may be memory for it then

_Stamp = tuple[int, int, int] | None
T = TypeVar("T")


class CurrentModel:
    """The models in a worker's memory.

    Parameters
    ----------
    fields : of items in answers
    cache_bytes : of each model's cache
    rules_path : the snapshot of the rules about items; None for no rules
    loaded : told the number of models in memory whenever it has changed
    scale : the smallest and the largest rating

    Attributes
    ----------
    arms : of the experiment, to which users are assigned; None where there is none. Read it after `served`
    """

    def __init__(
        self,
        live: LiveFolder,
        fields: tuple[str, ...],
        cache_bytes: int,
        rules_path: Path | None = None,
        loaded: Callable[[int], None] = lambda _: None,
        scale: Scale | None = None,
    ) -> None:
        self._scale = scale
        self._live, self._fields, self._cache_bytes = live, fields, cache_bytes
        self._rules_path, self._say_loaded = rules_path, loaded
        self._loaded: dict[str, ServedModel] = {}
        self._failed: dict[str, str] = {}
        self._failed_at = 0.0
        self._reported: WorkerReport | None = None
        self._proposal = ""
        self._served: ServedModel | None = None
        self.arms: Arms | None = None
        self._pointer_stamp: _Stamp = None
        self._rules_stamp: _Stamp = None
        self._rules: Rules | None = None
        self._rules_until = 0.0
        self._baseline_stamp: _Stamp = None
        self.fault = self.rules_fault = self.report_fault = self.arms_fault = ""

    def served(self) -> ServedModel:
        """The model to answer with. Raises Problem where there is none yet."""
        stamp = _stamp(self._live.current_path)
        if stamp != self._pointer_stamp:
            self._switch(stamp)
        if self._served is None:
            why = f": {self.fault}" if self.fault else ""
            raise Problem(Code.NO_MODEL, f"There is no model to answer with{why}")
        return self._served

    def _switch(self, stamp: _Stamp) -> None:
        """Answer with the version of the pointer, if it is in memory already."""
        pointer = self._read(self._live.current)
        if pointer is None:
            self._pointer_stamp = stamp
            return
        loaded = self._loaded.get(pointer.digest)
        waited_for = {arm.digest for arm in self._arms(pointer)} - self._loaded.keys() - self._failed.keys()
        if loaded is not None and not waited_for:
            if loaded.pointer != pointer:
                # Its files may be those of another version than when it was loaded. Another label makes another object,
                # as the ready answers of this one have the label of before in them.
                loaded = self._loaded[pointer.digest] = loaded.named(pointer)
            self._served = self._under_rules(loaded)
            self.arms = self._of_arms(pointer)
            self._pointer_stamp = stamp

    def served_for(self, user: int | str) -> ServedModel:
        """The model to answer this user with: of their arm, where there is an experiment. Raises Problem."""
        served = self.served()
        return served if self.arms is None else self.arms.of(served.user(user)).served

    # ---- experiments ------------------------------------------------------------------------

    def _arms(self, pointer: Pointer) -> tuple[Pointer, ...]:
        try:
            return arm_pointers(pointer)
        except RanklineError as error:
            self.arms_fault = str(error)
            return ()

    def _of_arms(self, pointer: Pointer) -> Arms | None:
        """The arms of the pointer, under the rules; None, and a fault, where one of them could not be loaded."""
        try:
            experiment, arms = definition_in(pointer), arm_pointers(pointer)
        except RanklineError as error:
            self.arms_fault = str(error)
            return None
        self.arms_fault = ""
        if experiment is None:
            return None
        for arm in arms:
            if arm.digest not in self._loaded:
                self.arms_fault = (
                    f"the experiment {experiment.name} is not served: {self._failed.get(arm.digest, arm.label)}"
                )
                return None
        return self._arms_under_rules(arms, experiment)

    def _arms_under_rules(self, arms: Sequence[Pointer], experiment: Experiment) -> Arms:
        # Each under its own label: both may be of the same files.
        models = [self._under_rules(self._loaded[arm.digest].named(arm)) for arm in arms]
        return Arms(experiment, models, self._cache_bytes)

    # ---- loading ----------------------------------------------------------------------------

    async def watch(self) -> None:
        """Load what the pointers name, and follow the rules, for ever."""
        failed = ""
        while True:
            try:
                await self.look()
                failed = ""
            except Exception as error:  # noqa: BLE001  # else nobody would load the next version
                if failed != (failed := f"{type(error).__name__}: {error}"):
                    _LOG.exception("a look at the folder of the service failed")
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Load the current version and the candidate if they are not in memory; drop those that no pointer names."""
        # The candidate first: a flip between the two reads takes the candidate away and makes it the current version.
        proposal, current = self._read(self._live.candidate), self._read(self._live.current)
        wanted = [None if proposal is None else proposal.pointer, current]
        named = [pointer for pointer in wanted if pointer is not None]
        named = [arm for pointer in named for arm in self._arms(pointer)] + named
        pointers = {pointer.digest: pointer for pointer in named}
        is_new = proposal is not None and proposal.id != self._proposal  # whoever proposes again has a reason
        if self._failed and (is_new or time.monotonic() > self._failed_at + _AGAIN_SECONDS):
            self._failed = {}
        for digest, pointer in pointers.items():
            if digest not in self._loaded and digest not in self._failed:
                await self._load(pointer)
                if self.arms_fault and digest in self._loaded:  # an arm that could not be loaded before
                    self._pointer_stamp = None
        keep = {*pointers, *([self._served.pointer.digest] if self._served is not None else [])}
        keep |= {arm.served.pointer.digest for arm in self.arms.arms} if self.arms is not None else set()
        self._loaded = {digest: model for digest, model in self._loaded.items() if digest in keep}
        self._failed = {digest: why for digest, why in self._failed.items() if digest in pointers}
        self._proposal = self._proposal if proposal is None else proposal.id
        self._follow_rules()
        with suppress(Problem):
            self.served()
        if self._served is None:
            await self._fall_back()
        self._report()

    async def _fall_back(self) -> None:
        """Without a model, answer with what is popular, if its items were kept; until a model is there."""
        stamp = _stamp(self._live.baseline / METADATA)
        if stamp is None or stamp == self._baseline_stamp:
            return
        self._baseline_stamp = stamp
        try:
            loaded = await asyncio.to_thread(
                load_baseline, self._live, self._live.name, self._fields, self._cache_bytes, self._scale
            )
        except (RanklineError, OSError) as error:
            _LOG.warning(f"there is no model, and what is popular can't be read either: {error}")
            return
        _LOG.warning("there is no model to answer with: what is popular is served")
        self._loaded[loaded.pointer.digest] = loaded
        self._served = self._under_rules(loaded)

    async def _load(self, pointer: Pointer) -> None:
        folder = self._live.model_folder(pointer.digest)
        try:
            loaded = await asyncio.to_thread(load_served, folder, pointer, self._fields, self._cache_bytes, self._scale)
        except (RanklineError, OSError, MemoryError) as error:
            self._failed[pointer.digest] = self.fault = str(error) or type(error).__name__
            self._failed_at = time.monotonic()
        else:
            self._loaded[pointer.digest] = loaded
            self.fault = ""

    def _report(self) -> None:
        serving = "" if self._served is None else self._served.pointer.label
        report = WorkerReport(tuple(sorted(self._loaded)), dict(self._failed), serving, self._proposal)
        if report != self._reported:
            self._say_loaded(len(self._loaded))
            try:
                self._live.report(report)
            except OSError as error:  # a full disk: the agent hears of it at a later look
                self.report_fault = f"what is loaded can't be reported ({error.strerror})"
            else:
                self._reported, self.report_fault = report, ""

    def _read(self, read: Callable[[], T | None]) -> T | None:
        try:
            return read()
        except RanklineError as error:
            self.fault = str(error)
            return None

    # ---- rules ------------------------------------------------------------------------------

    def _follow_rules(self) -> None:
        """Make the served model anew where the rules have changed, or one has begun or ended."""
        if self._rules_path is None:
            return
        stamp = _stamp(self._rules_path)
        changed = stamp != self._rules_stamp
        if changed:
            try:
                self._rules = None if stamp is None else Rules.read(self._rules_path)
                self.rules_fault = ""
            except RanklineError as error:
                # The rules of before still hold.
                self.rules_fault = str(error)
            self._rules_stamp = stamp
        if self._served is not None and (changed or now_ms() >= self._rules_until):
            self._served = self._under_rules(self._loaded[self._served.pointer.digest])
            if self.arms is not None:
                self.arms = self._arms_under_rules([arm.served.pointer for arm in self.arms.arms], self.arms.experiment)

    def _under_rules(self, loaded: ServedModel) -> ServedModel:
        """The model under the rules of now, which hold until one of them begins or ends."""
        now = now_ms()
        self._rules_until = float("inf")
        if self._rules is None:
            return loaded
        times = [at for rule in self._rules.rules for at in (rule.valid_from, rule.valid_until) if at is not None]
        self._rules_until = min((at for at in times if at > now), default=float("inf"))
        try:
            return loaded.under(self._rules)
        except RanklineError as error:
            self.rules_fault = str(error)
            return loaded


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116  # a request does this: twice as fast as Path.stat
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
