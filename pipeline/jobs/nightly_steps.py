"""The steps of a night: how each ended, what is written down of it, and which of them are left out, and why."""

from __future__ import annotations

import time

from pipeline.jobs.drift import DriftResult
from pipeline.jobs.nightly_result import NightlyRequest, State, StepResult, failed
from pipeline.jobs.nightly_state import NightState

__all__ = ["Night", "Step"]


class Night:
    """The steps of one night.

    Attributes
    ----------
    request : what is asked for
    state : the file that a job which goes on with this night reads
    results : how each step ended, those of a job that was cut short first
    drift : what was measured, once it was
    """

    def __init__(self, request: NightlyRequest, state: NightState) -> None:
        self.request, self.state = request, state
        self.drift: DriftResult | None = None
        # What waits to be uploaded may be tonight's own training: that is looked at again.
        state.drop("resume")
        self.results: list[StepResult] = [StepResult.of(step) for step in state.steps]

    @property
    def model(self) -> str:
        """The registered model."""
        return self.request.settings.names.model

    def result(self, name: str) -> StepResult | None:
        """How the step ended; None where it has not."""
        return next((step for step in self.results if step.name == name), None)

    def server_failed(self) -> StepResult | None:
        """The step that could not use a server, if any: the night ends there, and is gone on with later."""
        return next((step for step in self.results if step.status == 4), None)

    def note(self, step: StepResult) -> None:
        """Take up how a step ended; a server's failure, and what it keeps from running, are not written down."""
        self.results.append(step)
        if self.server_failed():
            self.state.forget(step.name)
        else:
            self.state.end(step.as_json())
        if step.status:
            self.request.reporter.say(f"{step.name}: {step.reason}")

    def again(self, name: str) -> None:
        """The step is done again, although it has ended."""
        self.state.drop(name)
        self.results = [step for step in self.results if step.name != name]

    def skip(self, *names: str) -> bool:
        """Leave out those of the steps that nothing can be done for; whether any is left to be run."""
        for name in names:
            if not self.result(name) and (why := self.why_skipped(name)):
                Step(self, name).ends("skipped", why)
        return not all(self.result(name) for name in names)

    def why_skipped(self, name: str) -> str:
        """Why the step is not run; "" where it is."""
        if (broken := self.server_failed()) is not None:
            return f"a server can't be used (see {broken.name}): run the command again"
        if name in ("train", "score", "drift") and self._is_not_done("data gate"):
            return "the data did not pass its gate: what is published stays"
        if name in ("gate", "promote") and self._is_not_done("train"):
            return "there is no new version"
        if name == "promote" and self._is_not_done("gate"):
            return "the gate did not let it pass"
        return ""

    def _is_not_done(self, name: str) -> bool:
        step = self.result(name)
        return step is not None and step.state != "done"


class Step:
    """A step under way; `ended` once it has."""

    def __init__(self, night: Night, name: str) -> None:
        self.name, self.ended = name, False
        self._night, self._start = night, time.perf_counter()
        night.request.reporter.progress(name, 0, None)

    def ends(self, state: State, reason: str = "", status: int = 0, **facts: object) -> None:
        """Note how it ended."""
        seconds, self.ended = time.perf_counter() - self._start, True
        self._night.note(StepResult(self.name, state, reason, round(seconds, 3), status, facts))

    def fails(self, error: Exception) -> None:
        """Note the error."""
        state, status, reason = failed(error)
        self.ends(state, reason, status, error=type(error).__name__)
