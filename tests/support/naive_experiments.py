"""Experiments computed slowly and in plain sight: users one by one, integrals by quadrature, evidence as a product."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm


def naive_arm(salt: str, user: int | str, split: Sequence[int]) -> int:
    """Counts up the buckets."""
    digest = hashlib.sha256((salt + ":" + str(user)).encode()).hexdigest()
    place = int(digest[:16], 16) % 10_000
    for arm, width in enumerate(split):
        if place < width:
            return arm
        place -= width
    raise AssertionError


def naive_mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def naive_ratio(d: float, variance: float, scale: float, theta: float = 0.0) -> float:
    """The mixture of likelihood ratios, integrated over the differences that are mixed."""
    s = math.sqrt(variance)
    below = norm.pdf(d, theta, s)

    def at(x: float) -> float:
        return float(norm.pdf(d, theta + x, s) * norm.pdf(x, 0.0, scale) / below)

    return float(quad(at, -12 * scale, 12 * scale, points=[d - theta], limit=400)[0])


def naive_interval(d: float, variance: float, alpha: float, scale: float) -> tuple[float, float]:
    """Where the ratio reaches 1/alpha on either side."""

    def over(theta: float) -> float:
        return math.log(naive_ratio(d, variance, scale, theta)) + math.log(alpha)

    far = 12 * math.sqrt(variance)
    return float(brentq(over, d - far, d)), float(brentq(over, d, d + far))


def naive_evidence(arms: Sequence[int], shares: tuple[float, float], prior: float = 100.0) -> float:
    """Against the split: each user's arm as the urn foretells it, over the split's own chance of it."""
    urn = [prior * share for share in shares]
    evidence = 1.0
    for arm in arms:
        evidence *= urn[arm] / sum(urn) / shares[arm]
        urn[arm] += 1
    return evidence
