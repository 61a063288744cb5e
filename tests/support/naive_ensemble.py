"""The slow, obvious twin of an ensemble: one user, one member, one item at a time."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["combined", "ndcg", "standard_score"]


def standard_score(scores: list[float], seen: set[int], item: int, top: int = 200) -> float:
    """The item's, of one user's scores of all items by one member."""
    best = sorted((score for i, score in enumerate(scores) if i not in seen), reverse=True)[:top]
    if not best:
        return 0.0
    mean = math.fsum(best) / len(best)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in best) / len(best))
    if max(best) == min(best):
        return 0.0
    return (max(scores[item], min(best)) - mean) / deviation


def combined(ensemble, row: int, top: int = 200) -> list[float]:
    """The user's scores of all items, in float64."""
    n = len(ensemble.items)
    seen = set(ensemble.seen[row].indices.tolist())
    total = [0.0] * n
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        scores = [float(member.predict([row], [i])[0]) for i in range(n)]
        for i in range(n):
            total[i] += weight * standard_score(scores, seen, i, top)
    return total


def ndcg(scores, relevant, n_relevant: int, k: int = 10) -> float:
    """Of the list that falling scores make, ties by place."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    gain = sum(1 / np.log2(place + 2) for place, i in enumerate(order) if relevant[i])
    return gain / sum(1 / np.log2(place + 2) for place in range(min(k, n_relevant)))
