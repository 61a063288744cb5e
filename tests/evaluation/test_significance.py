"""Paired comparisons: by hand, by scipy's own bootstrap, and what the intervals promise."""

from __future__ import annotations

import math
from itertools import compress, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import InputError, UsageError
from pipeline.evaluation import significance
from pipeline.evaluation.significance import (
    Interval,
    bootstrap_mean,
    compare,
    compare_segments,
    jaccard_at_k,
    lift_over_popular,
    verdict_of,
)

NAN = float("nan")


def test_the_interval_is_scipys(rng):
    values = rng.exponential(size=300)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    ours = bootstrap_mean(values, resamples=20_000)
    assert ours.value == values.mean()
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.004)
    narrow = bootstrap_mean(values, resamples=20_000, level=0.5)
    assert ours.low < narrow.low < narrow.value < narrow.high < ours.high


def test_few_distinct_values_give_the_same_interval(rng):
    """Hits are 0 or 1: drawn by their counts, and as if by position."""
    values = (rng.random(500) < 0.3).astype(float)
    quick = bootstrap_mean(values, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert (quick.low, quick.high) == pytest.approx(tuple(theirs), abs=0.004)
    assert bootstrap_mean(np.full(100, 0.25)) == (0.25, 0.25, 0.25)


def test_the_interval_covers_the_truth_as_often_as_it_says(rng):
    covered = 0
    for seed in range(300):
        interval = bootstrap_mean(rng.normal(1.0, 1.0, 80), resamples=400, level=0.9, seed=seed)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.84 < covered / 300 < 0.95


@pytest.mark.parametrize("distinct", [True, False])
def test_the_same_seed_gives_the_same_interval_in_any_block(rng, distinct):
    values = rng.random(200) if distinct else rng.integers(0, 3, 200).astype(float)
    first = bootstrap_mean(values)
    assert first == bootstrap_mean(values)
    assert first != bootstrap_mean(values, seed=43)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "_CELLS", 1000)
        assert bootstrap_mean(values) == first


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN]), min_size=1, max_size=30), st.integers(0, 99))
def test_gains_and_means_by_hand(values, seed):
    a = np.array(values)
    b = np.random.default_rng(seed).permutation(a)
    both = [(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x == x and y == y]
    if not both:
        with pytest.raises(InputError, match="No user has a value of both"):
            compare(a, b)
        return
    comparison = compare(a, b, resamples=50)
    n = len(both)
    assert comparison.n_users == n
    assert comparison.mean_a == pytest.approx(sum(x for x, _ in both) / n)
    assert comparison.mean_b == pytest.approx(sum(y for _, y in both) / n)
    assert comparison.difference.value == pytest.approx(sum(y - x for x, y in both) / n)
    assert (comparison.gain, comparison.lose, comparison.same) == pytest.approx(
        tuple(
            sum(test(x, y) for x, y in both) / n
            for test in (lambda x, y: y > x, lambda x, y: y < x, lambda x, y: x == y)
        )
    )
    assert comparison.difference.low <= comparison.difference.high
    assert 0 <= comparison.p_value <= 1


def test_wilcoxon_is_scipys(rng):
    a, b = rng.random(200), rng.random(200) + 0.1
    a[:50] = b[:50]
    assert compare(a, b).p_value == stats.wilcoxon(b[50:] - a[50:]).pvalue
    assert compare(a, a).p_value == 1.0


@pytest.mark.parametrize("n", [1, 2, 13, 50, 51, 300, 3000])
def test_wilcoxon_is_scipys_with_ties_too(n, rng):
    tied = np.round(rng.normal(0.1, 1, n), 1) + 0.05
    for difference in (rng.normal(0.1, 1, n), *([] if 13 < n <= 50 else [tied])):
        p = compare(np.zeros(n), difference).p_value
        assert p == pytest.approx(stats.wilcoxon(difference, zero_method="wilcox").pvalue, rel=1e-12)
    # Zeros say nothing, however many there are.
    assert compare(np.zeros(2 * n), np.append(difference, np.zeros(n))).p_value == p


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=10))
def test_few_differences_are_tested_by_all_their_signs(values):
    """The twin takes every sign of every rank."""
    different = [abs(value) for value in values if value]
    ranks = [sum(b < a for b in different) + (sum(b == a for b in different) + 1) / 2 for a in different]
    here = sum(rank for rank, value in zip(ranks, filter(None, values), strict=True) if value > 0)
    sums = [sum(compress(ranks, signs)) for signs in product((0, 1), repeat=len(ranks))]
    out = min(sum(one <= here for one in sums), sum(one >= here for one in sums))
    expected = min(1.0, 2 * out / len(sums))
    assert compare(np.zeros(len(values)), np.array(values, float)).p_value == pytest.approx(expected, rel=1e-12)


def test_who_is_better(rng):
    a = rng.random(300)
    assert compare(a, a + 0.1 * rng.random(300)).b_is_better == "yes"
    assert compare(a, a - 0.1 * rng.random(300)).b_is_better == "no"
    assert compare(a, a + rng.normal(0, 0.1, 300)).b_is_better == "unclear"
    assert compare(a, a).b_is_better == "no"  # the same is no better
    assert verdict_of(Interval(0.1, 0.0, 0.2)) == "unclear"
    assert verdict_of(Interval(-0.1, -0.2, 0.0)) == "no"


def test_pairs_are_kept_together(rng):
    """Users differ far more than the two models do: only user by user is the gain to be seen."""
    a = rng.exponential(10, 400)
    comparison = compare(a, a + rng.normal(0.05, 0.1, 400))
    assert comparison.difference.low > 0
    assert comparison.difference.high - comparison.difference.low < 0.05


def test_lift_over_popular(rng):
    popular = rng.random(400)
    model = 1.5 * popular + 0.001 * rng.random(400)
    lift = lift_over_popular(model, popular)
    assert lift.better_than_popular == "yes"
    assert lift.lift.value == pytest.approx(model.mean() / popular.mean() - 1)
    assert 0.5 < lift.lift.low <= lift.lift.value <= lift.lift.high < 0.51
    assert (lift.comparison.mean_a, lift.comparison.mean_b) == (popular.mean(), model.mean())
    assert lift_over_popular(popular, model).better_than_popular == "no"
    for same in (popular, np.round(popular, 1)):
        assert lift_over_popular(same, same).lift == (0.0, 0.0, 0.0)
        assert lift_over_popular(same, same).better_than_popular == "no"
    assert lift.comparison == compare(popular, model)
    # Of few values pairs are drawn, not differences: other resamples of the same.
    coarse, other = np.round(popular, 1), np.round(rng.random(400), 1)
    theirs = compare(other, coarse).difference
    assert lift_over_popular(coarse, other).comparison.difference == pytest.approx(theirs, abs=0.005)


def test_a_popular_that_finds_nothing_has_no_lift():
    lift = lift_over_popular(np.array([0.0, 1.0, 1.0]), np.zeros(3))
    assert lift.lift is None
    assert lift.comparison.difference.value == pytest.approx(2 / 3)
    # And nearly nothing: some resamples leave it with none, whose ratio has no bound.
    rare = np.zeros(30)
    rare[0] = 1.0
    assert lift_over_popular(np.ones(30), rare).lift.high == math.inf


def test_by_segment(rng):
    a, segment = rng.random(90), np.repeat([0, 2], 45).astype(np.int8)
    b = a + np.where(segment == 0, 0.2, -0.2)
    by_segment = compare_segments(a, b, segment)
    assert {name: entry.b_is_better for name, entry in by_segment.items()} == {"cold": "yes", "hot": "no"}
    assert by_segment["cold"] == compare(a[:45], b[:45])


def test_overlap_of_lists():
    a = np.array([[1, 2, 3], [1, 2, -1], [-1, -1, -1], [4, 0, 6], [0, -1, -1]])
    b = np.array([[3, 2, 1], [2, 7, 8], [-1, -1, -1], [7, 0, 9], [-1, -1, -1]])
    assert jaccard_at_k(a, b).tolist() == pytest.approx([1.0, 0.25, NAN, 0.2, 0.0], nan_ok=True)
    assert jaccard_at_k(a, b[:, :1]).tolist() == pytest.approx([1 / 3, 0.5, NAN, 0.0, 0.0], nan_ok=True)
    with pytest.raises(InputError, match="Lists of 5 and of 2 users"):
        jaccard_at_k(a, b[:2])


def test_what_makes_no_sense_is_refused():
    first = np.ones(3)
    with pytest.raises(InputError, match="3 and 2 users"):
        compare(first, first[:2])
    with pytest.raises(InputError, match="No user has a value"):
        bootstrap_mean(np.array([NAN]))
    with pytest.raises(UsageError, match="between 0 and 1"):
        bootstrap_mean(first, level=1.0)
    with pytest.raises(UsageError, match="At least 1 resample"):
        bootstrap_mean(first, resamples=0)
