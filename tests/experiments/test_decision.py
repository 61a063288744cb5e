"""What follows: first whether the data can be trusted, then harm, then what is better, then whether it is early."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipeline.errors import InputError
from pipeline.experiments.decision import Decision, Evidence, Guardrail, decide
from pipeline.experiments.off_policy import check_propensities
from pipeline.experiments.statistics import Difference, SampleRatio

BETTER = Difference(0.02, 0.01, 0.03, 0.012, 0.028, 0.001)
WORSE = Difference(-0.02, -0.03, -0.01, -0.028, -0.012, 0.001)
UNCLEAR = Difference(0.0, -0.004, 0.004, -0.003, 0.003, 1.0)
FINE = Guardrail("errors", 0.0, 0.0, UNCLEAR, 0.005)
GOOD = Evidence(
    n_outcomes=1000, n_joined=990, n_exposures=50_000, n_lost=10, n_both=0, users=(5_000, 5_000), n_active=900,
    ratio=SampleRatio((5_000, 5_000), (5_000, 5_000), 1.0), difference=BETTER, guardrails=(FINE,), power=0.9,
    wanted_power=0.8, n_needed=9_000, days=14, min_days=7,
)  # fmt: skip


def decided(**changes: object) -> Decision:
    return decide(replace(GOOD, **changes))


def test_what_is_better_is_shipped() -> None:
    made = decided()
    assert (made.action, made.winner, made.too_early) == ("ship", "b", False)
    assert made.reasons == ("b is better: +0.02 [+0.01, +0.03]",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_joined": 899}, "the join rate is 89.9%"),
        ({"n_outcomes": 0, "n_joined": 0}, "no outcome names its answer"),
        ({"n_lost": 3_000}, "3,000 exposures were lost, 5.7% of them"),
        ({"n_both": 2}, "2 users were seen in both arms"),
        ({"ratio": SampleRatio((6_000, 4_000), (5_000, 5_000), 1e-9)}, "sample ratio mismatch: 6,000 and 4,000 users"),
    ],
)
def test_data_that_can_not_be_trusted_decides_nothing(changes: dict[str, object], said: str) -> None:
    for also in ({}, {"difference": WORSE}, {"guardrails": (FINE._replace(difference=BETTER),)}):
        made = decided(**changes, **also)
        assert (made.action, made.winner) == ("hold", "")
        assert said in made.reasons[0]


def test_harm_is_rolled_back_at_once() -> None:
    worse = FINE._replace(b=0.02, difference=BETTER)
    made = decided(guardrails=(FINE, worse), users=(40, 50), days=0.1, difference=UNCLEAR)
    assert (made.action, made.winner) == ("roll back", "a")
    assert made.reasons == ("b has worse errors: 0 → 0.02, +0.02 [+0.01, +0.03], limit +0.005",)
    assert decided(guardrails=(worse._replace(limit=0.01),)).action == "ship", "the interval must be above the limit"
    assert decided(difference=WORSE, days=0.1).action == "roll back"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": (99, 5_000)}, "it is too early: 99 and 5,000 users"),
        ({"n_active": 24}, "it is too early: 24 users with an outcome"),
        ({"days": 3.0}, "it is too early: 3.0 of at least 7 days"),
        ({"difference": UNCLEAR, "power": 0.3}, "it is too early: the power is 30% of 80%"),
        ({"difference": Difference(0, -math.inf, math.inf, 0, 0, 1.0), "power": 0.0}, "it is too early"),
    ],
)
def test_it_says_when_it_is_too_early(changes: dict[str, object], said: str) -> None:
    made = decided(**changes)
    assert (made.action, made.too_early) == ("hold", True)
    assert said in made.reasons[0]


def test_no_difference_with_the_planned_power_ends_it() -> None:
    made = decided(difference=UNCLEAR)
    assert (made.action, made.too_early) == ("hold", False)
    assert "end it, and keep a" in made.reasons[0]


def test_off_policy_estimates_need_propensities() -> None:
    check_propensities(10, 10)
    for n, of_these, why in ((10, 0, "10 of 10 lists have no propensity. A version's lists are certain"),
                             (10, 9, "1 of 10"), (0, 0, "no list was logged")):  # fmt: skip
        with pytest.raises(InputError, match=why):
            check_propensities(n, of_these)
