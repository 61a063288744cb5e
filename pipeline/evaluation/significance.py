"""Whether one model is better than another: paired differences, user by user, with intervals.

Intervals are percentile bootstraps (Efron 1979): users are resampled with replacement, and the interval spans the
means (or ratios of means) of the resamples. The same seed gives the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pipeline.errors import InputError, UsageError
from pipeline.evaluation.metrics import SEGMENTS

__all__ = [
    "Comparison",
    "Interval",
    "Lift",
    "Verdict",
    "bootstrap_mean",
    "compare",
    "compare_segments",
    "jaccard_at_k",
    "lift_over_popular",
    "verdict_of",
]

RESAMPLES = 2000
_EXACT = 50  # so few differences that are not 0 are tested exactly
_CELLS = 1 << 22  # drawn at once: 32 MB of positions

Verdict = Literal["yes", "no", "unclear"]
Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and the percentile interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models on the same users.

    Attributes
    ----------
    n_users : number of users who have the metric in both
    mean_a, mean_b : of those users
    difference : mean of b − a, with its interval
    p_value : of Wilcoxon's signed-rank test, two-sided, without users who have no difference; 1.0 if nobody differs
    gain, lose, same : shares of users for whom b is better, worse, the same; they add up to 1
    """

    n_users: int
    mean_a: float
    mean_b: float
    difference: Interval
    p_value: float
    gain: float
    lose: float
    same: float

    @property
    def b_is_better(self) -> Verdict:
        """By the interval, see `verdict_of`."""
        return verdict_of(self.difference)


@dataclass(frozen=True)
class Lift:
    """How much better a model is than most popular.

    Attributes
    ----------
    lift : mean(candidate) / mean(popular) − 1 with its interval, 0.25 for 25 % better; None if most
        popular has a mean of 0
    comparison : a is most popular, b the candidate
    better_than_popular : by the interval of the difference
    """

    lift: Interval | None
    comparison: Comparison
    better_than_popular: Verdict


def verdict_of(difference: Interval) -> Verdict:
    """``yes``: the whole interval is above 0; ``no``: none of it is; else ``unclear``."""
    if difference.low > 0:
        return "yes"
    return "no" if difference.high <= 0 else "unclear"


def bootstrap_mean(values: Values, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 42) -> Interval:
    """Mean of the values that are not NaN, with its interval. Raises InputError if there are none."""
    values = values[~np.isnan(values)]
    if not values.size:
        raise InputError("No user has a value to average")
    means = _resampled_means(values[:, None], resamples, seed)[:, 0]
    return Interval(float(values.mean()), *_percentiles(means, level))


def compare(a: Values, b: Values, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 42) -> Comparison:
    """Compare b with a, both (n_users,) for the same users in the same order. Users with a NaN in either are left out.

    Raises InputError if the lengths differ, or if no user has both values.
    """
    a, b = _paired(a, b)
    means = _resampled_means((b - a)[:, None], resamples, seed)[:, 0]
    return _comparison(a, b, means, level)


def compare_segments(
    a: Values,
    b: Values,
    segment: NDArray[np.int8],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 42,
) -> Mapping[str, Comparison]:
    """`compare` within each segment (position in `metrics.SEGMENTS`, (n_users,)) where some user has both."""
    comparisons = {}
    for code, name in enumerate(SEGMENTS):
        of_segment = segment == code
        if bool((of_segment & ~np.isnan(a) & ~np.isnan(b)).any()):
            comparisons[name] = compare(a[of_segment], b[of_segment], resamples=resamples, level=level, seed=seed)
    return comparisons


def lift_over_popular(
    model: Values, popular: Values, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 42
) -> Lift:
    """The lift of a model over most popular; both (n_users,) for the same users in the same order.

    The interval of the lift is that of the ratio of means, from the same resamples as that of the difference. Its end
    is infinite if most popular has a mean of 0 in enough of the resamples.
    """
    popular, model = _paired(popular, model)
    means = _resampled_means(np.column_stack([model, popular, model - popular]), resamples, seed)
    comparison = _comparison(popular, model, means[:, 2], level)
    lift = None
    if popular.mean() > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(means[:, 1] > 0, means[:, 0] / means[:, 1], np.inf) - 1.0
        lift = Interval(float(model.mean() / popular.mean() - 1.0), *_percentiles(ratio, level))
    return Lift(lift, comparison, verdict_of(comparison.difference))


def jaccard_at_k(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """|A ∩ B| / |A ∪ B| of two lists of each user, (n_users,).

    a, b : (n_users, k) item rows of one catalogue, distinct in a row, -1 where a list is shorter. NaN where
    both are empty.
    """
    if a.shape[0] != b.shape[0]:
        raise InputError(f"Lists of {a.shape[0]} and of {b.shape[0]} users can't be compared")
    # A sorted row of both holds each common item twice.
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)
    common = np.count_nonzero((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0), axis=1)
    union = np.count_nonzero(both >= 0, axis=1) - common
    return np.where(union > 0, common / np.maximum(union, 1), np.nan)


def _paired(a: Values, b: Values) -> tuple[Values, Values]:
    if a.shape != b.shape:
        raise InputError(f"{a.size} and {b.size} users: the values must be of the same users")
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        raise InputError("No user has a value of both")
    return a[both], b[both]


def _comparison(a: Values, b: Values, means: Values, level: float) -> Comparison:
    """Of paired values, with the resampled means of b − a."""
    difference = b - a
    return Comparison(
        n_users=int(a.size),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=Interval(float(difference.mean()), *_percentiles(means, level)),
        p_value=_wilcoxon(difference),
        gain=float(np.mean(difference > 0)),
        lose=float(np.mean(difference < 0)),
        same=float(np.mean(difference == 0)),
    )


def _resampled_means(values: Values, resamples: int, seed: int) -> Values:
    """Means of `resamples` draws of n rows with replacement, (resamples, n_columns).

    values : (n, 1), or (n, 3) whose third column is the first minus the second: a mean of zeros is 0 then,
        and not what is left of two rounded sums
    """
    if resamples < 1:
        raise UsageError(f"At least 1 resample is needed, got {resamples}")
    n = values.shape[0]
    # A pair becomes one complex number, since `np.unique` of rows takes far longer.
    pair = values[:, 0] if values.shape[1] == 1 else values[:, 0] + 1j * values[:, 1]
    different, count = np.unique(pair, return_counts=True)
    rng = np.random.default_rng(seed)
    if different.size * 8 < n:
        distinct = np.column_stack([different.real, different.imag, different.real - different.imag][: values.shape[1]])
        # Draw how often each distinct row occurs: the same distribution with far fewer numbers.
        means, step = np.empty((resamples, values.shape[1])), max(1, _CELLS // different.size)
        for start in range(0, resamples, step):
            times = rng.multinomial(n, count / n, size=min(step, resamples - start))
            means[start : start + step] = times @ distinct / n
        return means
    means, step = np.empty((resamples, values.shape[1])), max(1, _CELLS // n)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, n, (min(step, resamples - start), n), dtype=np.int32)
        for column in range(values.shape[1]):
            means[start : start + step, column] = values[:, column][drawn].mean(axis=1)
    return means


def _percentiles(means: Values, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UsageError(f"The level of an interval must be between 0 and 1, got {level}")
    # Don't interpolate, since a value may be infinite.
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def _wilcoxon(difference: Values) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test without the zeros: exact for few, else an approximation."""
    different = difference[difference != 0]
    if not different.size:
        return 1.0
    _, place, ties = np.unique(np.abs(different), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    if different.size <= _EXACT:
        return _exact(ranks, different > 0)
    # The normal approximation, corrected for ties.
    n = float(different.size)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum())
    spread = math.sqrt((n * (n + 1) * (2 * n + 1) - tied / 2) / 24)
    z = (float(ranks[different > 0].sum()) - n * (n + 1) / 4) / spread
    return 2 * float(ndtr(-abs(z)))


def _exact(ranks: Values, positive: NDArray[np.bool_]) -> float:
    """Twice the smaller share of all 2ⁿ signs of the ranks whose sum of the positive ones is as far out as this one.

    scipy.stats does so for few ranks; with ties and more than 13 of them it approximates.
    """
    doubled = np.rint(2 * ranks).astype(np.intp)  # those of ties are halves
    ways = np.zeros(int(doubled.sum()) + 1)  # by the sum; whole numbers of at most 2⁵⁰, which float64 holds
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[: ways.size - rank].copy()
    here = int(doubled[positive].sum())
    out = min(ways[: here + 1].sum(), ways[here:].sum())
    return min(1.0, 2 * float(out) / 2.0**ranks.size)
