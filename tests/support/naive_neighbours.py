"""Neighbours by cosine, one pair at a time."""

from __future__ import annotations

import math


def _cosine(a, b):
    length = math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / length if length else 0.0


def cosine_rows(rows, one, n):
    """The n rows most like row `one`, as pairs of row and cosine; ties by row."""
    likeness = [(row, _cosine(rows[one], rows[row])) for row in range(len(rows)) if row != one]
    return sorted((pair for pair in likeness if pair[1] > 0), key=lambda pair: (-round(pair[1], 12), pair[0]))[:n]
