"""What the promotion gate asks and answers: its limits, a condition with its sentence, the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.options import PromotionLimits

__all__ = ["UNKNOWN", "ChampionOptions", "Decision", "Gate", "GateCheck", "shares"]


@dataclass(frozen=True)
class Gate(PromotionLimits):
    """What a version has to pass. Raises UsageError for a value that makes no sense.

    segment_users : segments with fewer users are not looked at; nor is a champion with fewer in common
    """

    segment_users: int = 30


@dataclass(frozen=True)
class ChampionOptions:
    """What is known of the champion's options beside the candidate's. Data that is newer has a value of its own.

    Attributes
    ----------
    same : they are the candidate's: on the same data the two are one model
    measured : the candidate's evaluation has their metrics, of a fit to its own training side
    before : it has those of a fit to what the champion knew of that side, too
    days_newer : by how many days the candidate's data is newer than the champion's training; None where unknown
    """

    same: bool = False
    measured: bool = False
    before: bool = False
    days_newer: float | None = None

    @property
    def on_its_holdout(self) -> bool:
        """Whether the champion's options are known on the candidate's holdout, and its data is no older."""
        return (self.same or self.measured) and self.days_newer is not None and self.days_newer >= 0


UNKNOWN = ChampionOptions()  # nothing is known of them


class GateCheck(NamedTuple):
    """One condition: whether it holds, and why; the sentence of one that does not hold says what is wrong by itself."""

    name: str
    passed: bool
    sentence: str

    @property
    def summary(self) -> str:
        """In a line, whichever way it went."""
        return f"{self.name}: {self.sentence}" if self.passed else self.sentence


@dataclass(frozen=True)
class Decision:
    """What the gate found, in the order it looked."""

    checks: tuple[GateCheck, ...]

    @property
    def promote(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """Those that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def reasons(self) -> tuple[str, ...]:
        """A line a check, with how it went."""
        return tuple(f"{'ok' if check.passed else 'NO'} · {check.summary}" for check in self.checks)


def shares(value: float, low: float, high: float) -> str:
    """A share with its interval, in per cent."""
    return f"{value:+.1%} [{low:+.1%}, {high:+.1%}]"
