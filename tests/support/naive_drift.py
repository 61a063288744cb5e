"""Drift by loops over lists of Python: slow, and obvious. The warehouse's statements are held against it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.monitoring.drift_statistics import Sums

Event = tuple[Any, Any, int]  # user, item, milliseconds


def first_times(events: Sequence[Event]) -> list[Event]:
    """Each pair once, with its first time."""
    first: dict[tuple[Any, Any], int] = {}
    for user, item, at in events:
        first[user, item] = min(at, first.get((user, item), at))
    return [(user, item, at) for (user, item), at in first.items()]


def psi(reference: Sequence[int], current: Sequence[int]) -> float:
    """Σ (q − p) ln(q/p); a share is at least that of half a row of the smaller sample."""
    least = 0.5 / min(sum(reference), sum(current))
    total = 0.0
    for before, now in zip(reference, current, strict=True):
        p = before / sum(reference)
        q = now / sum(current)
        p, q = max(p, least), max(q, least)
        total += (q - p) * math.log(q / p)
    return total


def popularity_buckets(
    events: Sequence[Event], halves: Mapping[tuple[Any, Any], int], learned: int, now: int
) -> dict[int, tuple[int, int]]:
    """Bucket → interactions of the counted half and since; `halves` says which half a pair is in."""
    pairs = [event for event in first_times(events) if event[2] <= now]
    cut = Counter(item for user, item, at in pairs if at <= learned and halves[user, item] == 0)
    running, bucket_of = 0, {}
    for item, n in sorted(cut.items(), key=lambda pair: (-pair[1], pair[0])):
        bucket_of[item] = 10 * running // sum(cut.values())
        running += n
    buckets: dict[int, list[int]] = {bucket: [0, 0] for bucket in bucket_of.values()}
    for user, item, at in pairs:
        if item in bucket_of and (at > learned or halves[user, item] == 1):
            buckets[bucket_of[item]][at > learned] += 1
    return {bucket: (reference, current) for bucket, (reference, current) in buckets.items()}


def outcomes(
    events: Sequence[Event], sets: Sequence[tuple[int, Mapping[Any, Sequence[Any]]]], now: int, k: int
) -> tuple[list[tuple[Any, list[float]]], int]:
    """(user, [hit, ndcg, popular hit, popular ndcg]) of each list that was shown to somebody who did something, and the
    number of pairs of an active user and a set, with a list or without.

    sets : (when generated, user → list), the oldest first
    """
    pairs = [event for event in first_times(events) if event[2] <= now]
    starts = [start for start, _ in sets]
    values, n_active = [], 0
    for (start, lists), end in zip(sets, [*starts[1:], now], strict=True):
        end = min(end, now)
        new, had, popular = defaultdict(set), defaultdict(set), Counter()
        for user, item, at in pairs:
            if at <= start:
                had[user].add(item)
                popular[item] += 1
            elif at <= end:
                new[user].add(item)
        by_popularity = sorted(popular, key=lambda item: (-popular[item], item))
        for user, wanted in new.items():
            n_active += 1
            if user not in lists:
                continue
            most_popular = [item for item in by_popularity if item not in had[user]][:k]
            row: list[float] = []
            for shown in (lists[user][:k], most_popular):
                ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
                gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(shown, 1) if item in wanted)
                row += [float(any(item in wanted for item in shown)), gain / ideal]
            values.append((user, row))
    return values, n_active


def mean_and_variance(values: Sequence[tuple[Any, float]]) -> tuple[float, float]:
    """The mean over (user, value), and its variance with users as clusters."""
    mean = sum(value for _, value in values) / len(values)
    left: dict[Any, float] = defaultdict(float)
    for user, value in values:
        left[user] += value - mean
    n = len(left)
    return mean, sum(one * one for one in left.values()) * n / (n - 1) / len(values) ** 2


def sums_of(values: Sequence[tuple[Any, float]]) -> Sums:
    """Of (user, value), as the warehouse makes them."""
    by_user: dict[Any, list[float]] = defaultdict(list)
    for user, value in values:
        by_user[user].append(value)
    s, c = np.array([sum(own) for own in by_user.values()]), np.array([len(own) for own in by_user.values()])
    totals = (float(values.sum()) for values in (c * c, s, s * s, s * c))
    return Sums(len(by_user), int(c.sum()), *totals)
