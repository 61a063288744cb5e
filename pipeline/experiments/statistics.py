"""How two arms differ, with intervals that hold at every look.

An interval of a fixed size is right for one look. Whoever looks every day and stops at the first good one is wrong far
more often than `alpha`. The intervals here hold at all looks together. They are those of the mixture sequential
probability ratio test (mSPRT) with a normal mixture: H. Robbins, "Statistical methods related to the law of the
iterated logarithm", Annals of Mathematical Statistics 41 (1970); for A/B tests R. Johari, P. Koomen, L. Pekelis,
D. Walsh, "Always valid inference: continuous monitoring of A/B tests", Operations Research 70 (2022), equation of the
normal case. For means of values that are not normal they hold asymptotically: I. Waudby-Smith, D. Arbour, R. Sinha,
E. H. Kennedy, A. Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics
52 (2024).

With the estimate d of the difference, its variance V, and a mixture N(0, t²) of differences, the likelihood ratio is

    L = sqrt(V / (V + t²)) · exp(t² (d − θ)² / (2 V (V + t²)))

for the hypothesis that the difference is θ. L is a martingale under it, so by Ville's inequality it reaches 1/alpha
at any time with a chance of at most alpha. The interval is all θ for which L < 1/alpha.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.special import betaln, ndtr, ndtri

__all__ = [
    "ArmSums",
    "Difference",
    "SampleRatio",
    "difference",
    "half_width",
    "power_at",
    "sample_ratio",
    "smallest_effect",
    "users_needed",
    "variance_of",
]

_PRIOR = 100.0  # pseudo-counts of the prior of the sample ratio
_MISMATCH = 0.001  # below this p the sample ratio is wrong (Fabijan et al. 2019 use it)
_MOST_USERS = 1e15


class ArmSums(NamedTuple):
    """What is known of an arm's users: how many, and the sum and the sum of squares of their values."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """Of the values; 0 without users."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Of the values, unbiased; 0 for fewer than two users."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.n * self.mean**2) / (self.n - 1))


class Difference(NamedTuple):
    """The mean of b minus the mean of a.

    Attributes
    ----------
    low, high : the interval that holds at every look
    fixed_low, fixed_high : the interval of one look, for comparison with other tools; no decision rests on it
    p_value : always valid: it may be looked at any number of times
    """

    value: float
    low: float
    high: float
    fixed_low: float
    fixed_high: float
    p_value: float


def difference(a: ArmSums, b: ArmSums, alpha: float, scale: float) -> Difference:
    """The difference of two arms. Without two users in each arm the interval is everything.

    scale : t, the standard deviation of the mixture: the size of differences that are looked for, chosen before
    """
    value, variance = b.mean - a.mean, variance_of(a, b)
    if min(a.n, b.n) < 2:
        return Difference(value, -math.inf, math.inf, -math.inf, math.inf, 1.0)
    wide = half_width(variance, alpha, scale)
    fixed = -float(ndtri(alpha / 2)) * math.sqrt(variance)
    return Difference(value, value - wide, value + wide, value - fixed, value + fixed, _p_value(value, variance, scale))


def variance_of(a: ArmSums, b: ArmSums) -> float:
    """The variance of the difference of two means (Welch); infinite where an arm has no users."""
    return a.variance / a.n + b.variance / b.n if a.n and b.n else math.inf


def half_width(variance: float, alpha: float, scale: float) -> float:
    """Half of the interval that holds at every look."""
    if variance <= 0:
        return 0.0
    if math.isinf(variance):
        return math.inf
    ratio = scale**2 / variance
    return math.sqrt(2 * variance * (1 + 1 / ratio) * (math.log(1 / alpha) + math.log1p(ratio) / 2))


def _p_value(value: float, variance: float, scale: float) -> float:
    if variance <= 0:
        return 1.0 if value == 0 else 0.0
    ratio = scale**2 / variance
    exponent = value**2 / (2 * variance) * ratio / (1 + ratio) - math.log1p(ratio) / 2
    return math.exp(-exponent) if exponent > 0 else 1.0


def power_at(variance: float, effect: float, alpha: float, scale: float) -> float:
    """The chance that a difference of `effect` is outside the interval by now: at this look alone, so at least that."""
    if variance <= 0:
        return 1.0
    if math.isinf(variance):
        return 0.0
    return float(ndtr((effect - half_width(variance, alpha, scale)) / math.sqrt(variance)))


def users_needed(
    spread: tuple[float, float], shares: tuple[float, float], effect: float, alpha: float, power: float, scale: float
) -> int:
    """Users of both arms together with whom `power_at` reaches `power`.

    spread : the variance of a user's value in each arm
    shares : of the users, in each arm
    """
    unit = spread[0] / shares[0] + spread[1] / shares[1]  # the variance of the difference with one user
    low, high = 2.0, 4.0
    if unit <= 0:
        return 2
    while power_at(unit / high, effect, alpha, scale) < power and high < _MOST_USERS:
        low, high = high, 2 * high
    while high - low > max(1.0, low * 1e-6):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(unit / middle, effect, alpha, scale) >= power else (middle, high)
    return math.ceil(high)


def smallest_effect(variance: float, alpha: float, power: float) -> float:
    """The difference that is seen with that power where the difference's variance is this, looked for at that size."""
    low, high = 0.0, math.sqrt(variance)
    while power_at(variance, high, alpha, high) < power:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(variance, middle, alpha, middle) >= power else (middle, high)
    return high


class SampleRatio(NamedTuple):
    """Whether the arms have as many users as they should.

    Attributes
    ----------
    counts, expected : users of each arm
    p_value : always valid
    """

    counts: tuple[int, int]
    expected: tuple[float, float]
    p_value: float

    @property
    def mismatch(self) -> bool:
        """Whether there is surely something wrong: with the assignment, the log, or the join."""
        return self.p_value < _MISMATCH


def sample_ratio(counts: tuple[int, int], shares: tuple[float, float]) -> SampleRatio:
    """Compare the users of the arms with the split.

    A wrong ratio (SRM) says that arms differ by more than their versions: A. Fabijan et al., "Diagnosing sample ratio
    mismatch in online controlled experiments", KDD 2019. The test is the sequential multinomial one of M. Lindon and
    A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022: a Beta prior around the split against
    the split itself. So it may be looked at any number of times.
    """
    n = sum(counts)
    prior = [_PRIOR * share for share in shares]
    evidence = (
        betaln(prior[0] + counts[0], prior[1] + counts[1])
        - betaln(*prior)
        - sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))
    )
    p_value = math.exp(-evidence) if evidence > 0 else 1.0
    return SampleRatio(counts, (n * shares[0], n * shares[1]), p_value)
