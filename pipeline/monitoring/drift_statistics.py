"""The statistics of drift, of counts and sums that the warehouse has made: nothing here grows with users or items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import stdtrit

__all__ = ["BUCKETS", "Interval", "Sums", "hit_interval", "mean_interval", "psi"]

BUCKETS = 10
_Z = 1.959963984540054  # of 95 %
_LEVEL = 0.975


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sums:
    """Of a value that each user has several times, once for each list: a user's sum s of it over c lists.

    Attributes
    ----------
    users, lists, lists_squared : number of users, Σ c and Σ c² over them
    total, squares, products : Σ s, Σ s² and Σ s·c over the users
    """

    users: int
    lists: int
    lists_squared: float
    total: float
    squares: float
    products: float

    @property
    def mean(self) -> float:
        """Σ s / Σ c: the mean over lists."""
        return self.total / self.lists

    @property
    def variance(self) -> float:
        """Of `mean`, with users as clusters; infinite for one user.

        n/(n − 1) · Σ (s − mean·c)² / (Σ c)², the linearised variance of a ratio (Cochran, Sampling Techniques, 1977,
        ch. 6): the lists of one user are alike, and do not count as many.
        """
        if self.users < 2:
            return math.inf
        mean = self.mean
        residuals = self.squares - 2 * mean * self.products + mean * mean * self.lists_squared
        return max(0.0, residuals) * self.users / (self.users - 1) / self.lists**2


def psi(reference: Sequence[int], current: Sequence[int]) -> float | None:
    """Population stability index, Σ (q − p) · ln(q / p) over the buckets' shares p before and q now (≥ 0).

    A share counts as at least that of half a row of the smaller sample, so that a bucket without rows is no infinity,
    and one that is empty in both adds nothing. Without drift some (buckets − 1) · (1/n + 1/m) is to be expected of
    samples of n and m. None where one of them is empty.
    """
    before, now = sum(reference), sum(current)
    if not before or not now:
        return None
    least = 0.5 / min(before, now)
    shares = [(max(p / before, least), max(q / now, least)) for p, q in zip(reference, current, strict=True)]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


def hit_interval(sums: Sums) -> Interval:
    """Wilson's interval (1927) of a share, with as many trials as lists that are independent would have its variance.

    With no hit at all, or nothing but hits, there is no variance to tell: then each user is one trial.
    """
    share, variance = sums.mean, sums.variance
    n = min(share * (1 - share) / variance, float(sums.lists)) if variance > 0 else float(sums.users)
    n = max(n, 1.0)
    z2 = _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(max(0.0, share * (1 - share) / n + z2 / (4 * n * n)))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mean_interval(sums: Sums, least: float = 0.0, most: float = 1.0) -> Interval:
    """Student's interval of a mean over lists, with users as clusters, within what the value can be."""
    if sums.users < 2:
        return Interval(sums.mean, least, most)
    half = float(stdtrit(sums.users - 1, _LEVEL)) * math.sqrt(sums.variance)
    return Interval(sums.mean, max(least, sums.mean - half), min(most, sums.mean + half))
