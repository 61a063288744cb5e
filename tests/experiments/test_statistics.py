"""Intervals that hold at every look: against slow twins, and simulated with an effect and with none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from support.examples import examples
from support.naive_experiments import naive_evidence, naive_interval, naive_mean_and_variance, naive_ratio

from pipeline.experiments.statistics import (
    ArmSums,
    difference,
    half_width,
    power_at,
    sample_ratio,
    users_needed,
    variance_of,
)

ALPHA = 0.05
VALUES = st.lists(st.floats(0, 5, allow_subnormal=False), min_size=2, max_size=30)


def sums(values: list[float]) -> ArmSums:
    return ArmSums(len(values), math.fsum(values), math.fsum(value * value for value in values))


@settings(max_examples=examples(60))
@given(VALUES, VALUES, st.floats(0.01, 2))
def test_the_difference_is_the_twins(a: list[float], b: list[float], scale: float) -> None:
    (mean_a, var_a), (mean_b, var_b) = naive_mean_and_variance(a), naive_mean_and_variance(b)
    variance = var_a / len(a) + var_b / len(b)
    found = difference(sums(a), sums(b), ALPHA, scale)
    assert found.value == pytest.approx(mean_b - mean_a, abs=1e-9)
    assert variance_of(sums(a), sums(b)) == pytest.approx(variance, rel=1e-6, abs=1e-9)
    assert found.fixed_high - found.value == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-4, abs=1e-4)
    assert found.low <= found.fixed_low <= found.fixed_high <= found.high


@pytest.mark.parametrize(("d", "variance", "scale"), [(0.3, 0.01, 0.1), (-0.02, 1e-4, 0.01), (1.0, 0.2, 0.5)])
def test_the_interval_and_p_are_those_of_the_integral(d: float, variance: float, scale: float) -> None:
    low, high = naive_interval(d, variance, ALPHA, scale)
    assert half_width(variance, ALPHA, scale) == pytest.approx((high - low) / 2, rel=1e-6)
    n = 10_000
    spread = variance * n / 2  # of each of two arms
    a = ArmSums(n, 0.0, spread * (n - 1))
    b = ArmSums(n, d * n, spread * (n - 1) + n * d * d)
    found = difference(a, b, ALPHA, scale)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-4)
    assert found.p_value == pytest.approx(min(1.0, 1 / naive_ratio(d, variance, scale)), rel=1e-3)


def test_what_says_nothing_excludes_nothing() -> None:
    assert difference(ArmSums(0, 0, 0), ArmSums(5, 3, 3), ALPHA, 0.1).low == -math.inf
    same = difference(ArmSums(50, 0, 0), ArmSums(50, 0, 0), ALPHA, 0.1)
    assert (same.low, same.high, same.p_value) == (0.0, 0.0, 1.0)


def looks(rng: np.random.Generator, rates: tuple[float, float], n_runs: int, n_looks: int, step: int):
    """Users of each arm with an outcome, (runs, looks, 2), and how many users an arm has, (looks,)."""
    each = np.stack([rng.binomial(step, rate, (n_runs, n_looks)) for rate in rates], axis=-1)
    return np.cumsum(each, axis=1), step * np.arange(1, n_looks + 1)


def ever_excludes_0(counts, users, scale: float, *, fixed: bool = False) -> np.ndarray:
    """(runs,) whether one of a run's looks finds a difference."""
    found = np.zeros(len(counts), bool)
    for run, of_run in enumerate(counts.tolist()):
        for (a, b), n in zip(of_run, users.tolist(), strict=True):
            seen = difference(ArmSums(n, a, a), ArmSums(n, b, b), ALPHA, scale)
            low, high = (seen.fixed_low, seen.fixed_high) if fixed else (seen.low, seen.high)
            if low > 0 or high < 0:
                found[run] = True
                break
    return found


def test_arms_that_do_not_differ_are_seldom_said_to_however_often_one_looks(rng: np.random.Generator) -> None:
    counts, users = looks(rng, (0.1, 0.1), 400, 28, 250)
    assert ever_excludes_0(counts, users, 0.02).sum() <= 35
    assert ever_excludes_0(counts, users, 0.02, fixed=True).sum() > 80, "which is why one look's interval is not enough"


def test_an_effect_is_found_with_the_planned_power(rng: np.random.Generator) -> None:
    effect, base = 0.02, 0.1
    spread = base * (1 - base), (base + effect) * (1 - base - effect)
    n = users_needed(spread, (0.5, 0.5), effect, ALPHA, 0.8, effect)
    assert power_at((spread[0] + spread[1]) * 2 / n, effect, ALPHA, effect) == pytest.approx(0.8, abs=1e-3)
    fixed = 2 * (spread[0] + spread[1]) * ((norm.isf(ALPHA / 2) + norm.isf(0.2)) / effect) ** 2
    assert fixed < n < 2.5 * fixed, "what it costs to be allowed to look every day"
    counts, users = looks(rng, (base, base + effect), 200, 20, math.ceil(n / 2 / 20))
    found = ever_excludes_0(counts, users, effect)
    assert found.mean() >= 0.75
    ends = [difference(ArmSums(users[-1], a, a), ArmSums(users[-1], b, b), ALPHA, effect) for a, b in counts[:, -1]]
    assert np.mean([seen.low <= effect <= seen.high for seen in ends]) >= 0.95


def test_more_users_are_needed_for_less_and_for_an_uneven_split() -> None:
    even = users_needed((0.09, 0.09), (0.5, 0.5), 0.02, ALPHA, 0.8, 0.02)
    assert users_needed((0.09, 0.09), (0.9, 0.1), 0.02, ALPHA, 0.8, 0.02) > 2 * even
    assert users_needed((0.09, 0.09), (0.5, 0.5), 0.01, ALPHA, 0.8, 0.01) == pytest.approx(4 * even, rel=0.01)
    assert users_needed((0.0, 0.0), (0.5, 0.5), 0.01, ALPHA, 0.8, 0.01) == 2


@settings(max_examples=examples(30))
@given(st.lists(st.integers(0, 1), max_size=200), st.floats(0.05, 0.95))
def test_the_sample_ratio_is_the_twins(arms: list[int], share: float) -> None:
    shares = (1 - share, share)
    found = sample_ratio((arms.count(0), arms.count(1)), shares)
    assert found.p_value == pytest.approx(min(1.0, 1 / naive_evidence(arms, shares)), rel=1e-6)


def test_a_wrong_ratio_is_seen_and_a_right_one_is_hardly_ever_said_to_be(rng: np.random.Generator) -> None:
    assert sample_ratio((50_000, 48_500), (0.5, 0.5)).mismatch
    assert not sample_ratio((10_050, 9_950), (0.5, 0.5)).mismatch
    right = np.cumsum(rng.binomial(500, 0.1, (400, 30)), axis=1)
    said = sum(
        any(sample_ratio((500 * (look + 1) - int(b), int(b)), (0.9, 0.1)).mismatch for look, b in enumerate(of_run))
        for of_run in right
    )
    assert said <= 3, "of 400 runs, at any of 30 looks; 0.4 are expected"
