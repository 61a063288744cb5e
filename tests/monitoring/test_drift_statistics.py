"""PSI and the intervals, against slow twins, textbook values, and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from support import naive_drift
from support.naive_drift import sums_of

from pipeline.monitoring.drift_statistics import hit_interval, mean_interval, psi

counts = st.lists(st.integers(0, 10_000), min_size=10, max_size=10)


@given(counts, counts)
def test_psi_is_that_of_the_formula_and_never_negative(before: list[int], now: list[int]) -> None:
    value = psi(before, now)
    if not sum(before) or not sum(now):
        assert value is None
        return
    assert value is not None
    assert value == pytest.approx(naive_drift.psi(before, now), abs=1e-12)
    assert value >= 0
    assert value == pytest.approx(psi(now, before), abs=1e-12)  # neither side is the first
    assert psi(before, [7 * n for n in before]) == pytest.approx(0, abs=1e-12)  # how many there are is no drift


def test_psi_of_known_shares_and_of_empty_buckets() -> None:
    assert psi([50, 50], [40, 60]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))
    assert psi([500, 500, 0], [50, 50, 0]) == pytest.approx(0)  # empty in both: nothing
    appeared = psi([1000, 0], [90, 10])
    assert appeared is not None
    assert 0.25 < appeared < 0.5


def test_psi_without_drift_is_what_is_said_of_it() -> None:
    rng = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    values = [psi(rng.multinomial(50_000, shares).tolist(), rng.multinomial(1000, shares).tolist()) for _ in range(300)]
    assert np.mean([value for value in values if value is not None]) == pytest.approx(
        9 * (1 / 1000 + 1 / 50_000), rel=0.1
    )


@given(st.integers(0, 400), st.integers(2, 400))
def test_a_share_of_one_list_a_user_has_wilsons_interval(hits: int, n: int) -> None:
    hits = min(hits, n)
    sums = sums_of([(user, float(user < hits)) for user in range(n)])
    found = hit_interval(sums)
    if 0 < hits < n:  # ours divides by n − 1
        assert found.low <= hits / n <= found.high
        wanted = binomtest(hits, n).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1.5 / n)
    else:
        wanted = binomtest(hits, n).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=2, max_size=60))
def test_the_variance_is_that_of_users_as_clusters(values: list[tuple[int, float]]) -> None:
    sums = sums_of(values)
    if sums.users < 2:
        assert math.isinf(sums.variance)
        assert mean_interval(sums)[1:] == (0.0, 1.0)
        return
    mean, variance = naive_drift.mean_and_variance(values)
    assert sums.mean == pytest.approx(mean, abs=1e-12)
    assert sums.variance == pytest.approx(variance, abs=1e-9)
    low, high = mean_interval(sums)[1:]
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_the_intervals_hold_what_they_promise_where_users_have_many_lists() -> None:
    """400 weeks: 60 users of their own hit rates, each with 1 to 7 lists, which are alike."""
    rng = np.random.default_rng(7)
    inside = {"hits": 0, "mean": 0}
    for _ in range(400):
        rate = rng.beta(0.6, 1.4, 60)  # of mean 0.3
        values = [(u, float(rng.random() < rate[u])) for u in range(60) for _ in range(rng.integers(1, 8))]
        sums = sums_of(values)
        for name, interval in (("hits", hit_interval(sums)), ("mean", mean_interval(sums))):
            inside[name] += interval.low <= 0.3 <= interval.high
    assert all(0.91 <= n / 400 <= 0.985 for n in inside.values()), inside
