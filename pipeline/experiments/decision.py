"""What follows from an experiment: ship, hold or roll back, with the reasons. Plain values in, a decision out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.experiments.statistics import Difference, SampleRatio

__all__ = ["LEAST_JOINED", "LEAST_OUTCOMES", "LEAST_USERS", "Action", "Decision", "Evidence", "Guardrail", "decide"]

Action = Literal["ship", "hold", "roll back"]

LEAST_USERS = 100  # of each arm: below it a mean is not nearly normal
LEAST_OUTCOMES = 25  # users with an outcome, of both arms together, for the same reason
LEAST_JOINED = 0.9  # of the outcomes that name an answer, those whose answer is known
MOST_LOST = 0.05  # of the exposures


class Guardrail(NamedTuple):
    """Something that b must not make worse.

    Attributes
    ----------
    name : such as ``errors``
    a, b : the means of the arms
    difference : b minus a; above 0 is worse
    limit : b is worse where the whole interval is above it
    """

    name: str
    a: float
    b: float
    difference: Difference
    limit: float

    @property
    def broken(self) -> bool:
        """Whether b is surely worse by more than the limit."""
        return self.difference.low > self.limit


@dataclass(frozen=True)
class Evidence:
    """What was seen.

    Attributes
    ----------
    n_outcomes : interactions that name the answer in which the item was shown
    n_joined : of these, those whose answer is known: its request id, for that user
    n_exposures, n_lost : answers that were logged, and that could not be
    n_both : users who were seen in both arms, which the assignment rules out
    users : of each arm
    n_active : users with an outcome, of both arms
    ratio, difference, guardrails : see there
    power : to see the smallest effect of interest by now
    wanted_power : what was planned
    n_needed : users of both arms with whom it is reached
    days, min_days : since the start, and what was planned at least
    """

    n_outcomes: int
    n_joined: int
    n_exposures: int
    n_lost: int
    n_both: int
    users: tuple[int, int]
    n_active: int
    ratio: SampleRatio
    difference: Difference
    guardrails: tuple[Guardrail, ...]
    power: float
    wanted_power: float
    n_needed: int
    days: float
    min_days: float

    @property
    def join_rate(self) -> float | None:
        """Share of the outcomes whose answer is known; None where no outcome names an answer."""
        return self.n_joined / self.n_outcomes if self.n_outcomes else None

    @property
    def lost_share(self) -> float:
        """Share of the exposures that could not be logged."""
        whole = self.n_exposures + self.n_lost
        return self.n_lost / whole if whole else 0.0

    @property
    def power_reached(self) -> bool:
        """Whether what was planned is reached."""
        return self.power >= self.wanted_power


@dataclass(frozen=True)
class Decision:
    """Attributes
    ----------
    action : what to do
    reasons : why, the first counts
    too_early : whether more data may change it
    winner : ``b`` to ship, ``a`` to roll back, "" to hold
    """

    action: Action
    reasons: tuple[str, ...]
    too_early: bool = False

    @property
    def winner(self) -> str:
        """The arm that is to serve everybody."""
        return {"ship": "b", "roll back": "a", "hold": ""}[self.action]


def decide(seen: Evidence) -> Decision:
    """Decide. First whether the data can be trusted, then whether b does harm, then whether it is better."""
    if faults := _untrusted(seen):
        return Decision("hold", tuple(faults))
    if broken := [rail for rail in seen.guardrails if rail.broken]:
        return Decision("roll back", tuple(_broken(rail) for rail in broken))
    if early := _too_few(seen):
        return Decision("hold", tuple(early), too_early=True)
    if seen.difference.high < 0:
        return Decision("roll back", (f"b is worse: {_interval(seen.difference)}",))
    week = seen.days < seen.min_days
    days = f"{seen.days:.1f} of at least {seen.min_days:g} days have passed: people do other things on other days"
    if seen.difference.low > 0:
        better = f"b is better: {_interval(seen.difference)}"
        return Decision("hold", (f"it is too early: {days}", better), True) if week else Decision("ship", (better,))
    no_difference = f"no difference is seen: {_interval(seen.difference)}"
    if not seen.power_reached:
        more = max(0, seen.n_needed - sum(seen.users))
        far = f"it is too early: the power is {seen.power:.0%} of {seen.wanted_power:.0%}"
        return Decision("hold", (f"{far}, some {more:,} more users are needed", no_difference), True)
    if week:
        return Decision("hold", (f"it is too early: {days}", no_difference), True)
    return Decision("hold", (f"{no_difference}, with the planned power of {seen.power:.0%}: end it, and keep a",))


def _untrusted(seen: Evidence) -> list[str]:
    """Why nothing can be concluded."""
    faults = []
    if seen.join_rate is None and any(seen.users):
        faults.append(
            "no outcome names its answer: send the X-Request-ID of the answer as request_id with the interaction"
        )
    elif seen.join_rate is not None and seen.join_rate < LEAST_JOINED:
        faults.append(
            f"the join rate is {seen.join_rate:.1%}: of {seen.n_outcomes:,} outcomes that name an answer, "
            f"{seen.n_joined:,} name one that was logged for that user (at least {LEAST_JOINED:.0%} must)"
        )
    if seen.lost_share > MOST_LOST:
        faults.append(f"{seen.n_lost:,} exposures were lost, {seen.lost_share:.1%} of them (at most {MOST_LOST:.0%})")
    if seen.n_both:
        faults.append(f"{seen.n_both:,} users were seen in both arms, which the assignment rules out")
    if seen.ratio.mismatch:
        (a, b), (x, y) = seen.ratio.counts, seen.ratio.expected
        faults.append(
            f"sample ratio mismatch: {a:,} and {b:,} users, where {x:,.0f} and {y:,.0f} are expected "
            f"(p {seen.ratio.p_value:.2g}): something but the version differs between the arms"
        )
    return faults


def _too_few(seen: Evidence) -> list[str]:
    early = []
    if min(seen.users) < LEAST_USERS:
        early.append(f"it is too early: {seen.users[0]:,} and {seen.users[1]:,} users, at least {LEAST_USERS} each")
    if seen.n_active < LEAST_OUTCOMES:
        early.append(f"it is too early: {seen.n_active:,} users with an outcome, at least {LEAST_OUTCOMES}")
    return early


def _broken(rail: Guardrail) -> str:
    return (
        f"b has worse {rail.name}: {rail.a:.4g} → {rail.b:.4g}, {_interval(rail.difference)}, limit {rail.limit:+.4g}"
    )


def _interval(difference: Difference) -> str:
    if math.isinf(difference.low):
        return f"{difference.value:+.4g}"
    return f"{difference.value:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
