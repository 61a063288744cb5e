"""What a nightly job is asked for, and what became of it, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from pipeline.errors import DivergedError, EvaluationError, InputError, RanklineError
from pipeline.monitoring.alerts import Alert, NotifyResult
from pipeline.options import (
    DriftLimits,
    DriftOptions,
    NightlyOptions,
    NotifyOptions,
    PromotionLimits,
    ReadOptions,
    RetainOptions,
    ScoreOptions,
    TrainOptions,
)
from pipeline.runtime.files import advice_for, reason_of
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings

__all__ = ["STEPS", "NightlyRequest", "NightlyResult", "State", "StepResult", "failed"]

STEPS = ("resume", "data gate", "train", "gate", "promote", "score", "retention", "drift")
State = Literal["done", "skipped", "stopped", "failed"]
# What ends the job with which status, where several happened: try again, a fault, a wrong option, look at it.
_FIRST = (4, 1, 2, 3)


@dataclass(frozen=True)
class NightlyRequest:
    """What a night is to do.

    Attributes
    ----------
    now : the time that the night goes by, UTC: ages of data, of trainings and of versions are counted from it
    train, read : what to train, and on what
    gate : limits of the promotion gate
    score : what to publish; its `model` is the champion, whatever stands there
    nightly, retain : when to train, and what stays
    experiment : of the runs in MLflow
    drift, drift_limits : what drift is measured on, and its limits
    telling : who is told of alerts
    """

    settings: Settings
    reporter: Reporter
    now: datetime
    train: TrainOptions = field(default_factory=TrainOptions)
    read: ReadOptions = field(default_factory=ReadOptions)
    gate: PromotionLimits = field(default_factory=PromotionLimits)
    score: ScoreOptions = field(default_factory=ScoreOptions)
    nightly: NightlyOptions = field(default_factory=NightlyOptions)
    retain: RetainOptions = field(default_factory=RetainOptions)
    experiment: str = "rankline"
    drift: DriftOptions = field(default_factory=DriftOptions)
    drift_limits: DriftLimits = field(default_factory=DriftLimits)
    telling: NotifyOptions = field(default_factory=NotifyOptions)

    @property
    def asked(self) -> tuple[Any, ...]:
        """What two requests of the same night have in common."""
        options = (self.train, self.read, self.gate, self.score, self.nightly, self.retain)
        return (self.settings.names, self.experiment, *options)


@dataclass(frozen=True)
class StepResult:
    """How a step ended.

    Attributes
    ----------
    state : ``done``; ``skipped``, as it was not needed or could not be; ``stopped``, by a gate or a check that did its
        work; ``failed``, by a fault
    reason : a sentence
    status : 0, or the exit status that it asks for
    facts : JSON-able: ``version``, ``how``, ``n_rows``, …
    """

    name: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    status: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON, which `of` reads."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> StepResult:
        """The step of an object of JSON."""
        known = {"name", "state", "reason", "seconds", "status", "facts"}
        return cls(**{name: one for name, one in value.items() if name in known})


@dataclass(frozen=True)
class NightlyResult:
    """What became of a night.

    Attributes
    ----------
    night : the time that it went by
    model : the registered model
    continued : whether a night that was cut short was gone on with
    steps : one entry a step, in the order of `STEPS`
    alerts : what somebody should be told
    told : who was told, and who could not be
    """

    night: datetime
    model: str
    continued: bool
    steps: tuple[StepResult, ...]
    alerts: tuple[Alert, ...] = ()
    told: NotifyResult = field(default_factory=NotifyResult)

    def step(self, name: str) -> StepResult | None:
        """How a step ended, by its name."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def exit_status(self) -> int:
        """0: all is well; 3: something stopped, look at it; 4: a server can't be used, try again; 1, 2: a fault."""
        statuses = {step.status for step in self.steps}
        return next((status for status in _FIRST if status in statuses), max(statuses, default=0))

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        trained, scored = self.step("train"), self.step("score")
        return {
            "night": self.night.isoformat(),
            "model": self.model,
            "exit_status": self.exit_status,
            "continued": self.continued,
            "how": None if trained is None else trained.facts.get("how"),
            "version": None if trained is None else trained.facts.get("version"),
            "published": None if scored is None else scored.facts.get("model"),
            "steps": [step.as_json() for step in self.steps],
            "alerts": [alert.as_json for alert in self.alerts],
            "told": self.told.as_json,
        }


def failed(error: Exception) -> tuple[State, int, str]:
    """State, exit status and sentence of a step that raised the error.

    A scheduler may act on the status: 4 is a server that can't be used, which another try may find back; 3 is what a
    gate or a check stopped, or data and options that no try makes fit.
    """
    if isinstance(error, DivergedError | EvaluationError):
        return "stopped", 3, str(error)
    if isinstance(error, InputError):
        return "stopped", error.exit_status, str(error)
    if isinstance(error, RanklineError):
        return "failed", error.exit_status, str(error)
    if isinstance(error, MemoryError):
        return "stopped", 3, "there is not enough memory for it: rankline estimate says what fits"
    if isinstance(error, OSError):
        return "failed", 4, f"{reason_of(error)}; {advice_for(error)}"
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return "failed", 1, f"{text} (a fault of Rankline: --debug shows where)"
