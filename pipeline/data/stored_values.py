"""Scores in the smallest type that holds them exactly: stars and counts take a byte, and no score changes by a bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import distinct

__all__ = ["decoded", "encoded", "square_of"]

_LEVELS = 256
_UNITS = (1.0, 0.5)  # whole scores and half stars, whose codes need no search
_AT_ONCE = 1 << 20
_SUMMED = 1 << 16  # values whose squares are summed at a time


def encoded(scores: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """``(values, levels)`` of (n,) scores: the bits of ``decoded(values, levels)`` are those of `scores`.

    values : (n,) uint8 where there are at most 256 different scores, else float16 where that is exact, else float32
    levels : (256,) float32 beside uint8, the score of each code; else (0,)
    """
    none = np.zeros(0, np.float32)
    if scores.dtype != np.float32:
        raise TypeError(f"Scores must be float32, got {scores.dtype}")
    for unit in _UNITS:
        codes = np.empty(scores.size, np.uint8)
        if all(_in_units(scores[part], unit, codes[part]) for part in _parts(scores.size)):
            return codes, np.arange(_LEVELS, dtype=np.float32) * np.float32(unit)
    levels = _distinct(scores)
    if levels is not None:
        codes = np.empty(scores.size, np.uint8)
        for part in _parts(scores.size):
            codes[part] = np.searchsorted(levels, scores[part].view(np.uint32))
        table = np.zeros(_LEVELS, np.float32)
        table[: levels.size] = levels.view(np.float32)
        return codes, table
    half = np.empty(scores.size, np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _parts(scores.size):
            half[part] = scores[part]
            if not _same_bits(half[part].astype(np.float32), scores[part]):
                return scores, none
    return half, none


def decoded(
    values: NDArray[Any], levels: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The scores, (n,) float32, written to `out` where it is given; float32 values are returned themselves."""
    if out is None:
        if values.dtype == np.float32:
            return values
        out = np.empty(values.size, np.float32)
    if values.dtype != np.uint8:
        out[:] = values
    elif np.array_equal(levels, np.arange(_LEVELS, dtype=np.float32) * levels[1]):
        np.multiply(values, levels[1], out=out, dtype=np.float32)  # the products are the levels; a look-up is slower
    else:
        for part in _parts(values.size):
            np.take(levels, values[part], out=out[part], mode="clip")  # "clip" writes to `out` without a copy
    return out


def _parts(size: int) -> list[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, size, _AT_ONCE)]


def _in_units(scores: NDArray[np.float32], unit: float, codes: NDArray[np.uint8]) -> bool:
    """Whether the scores are codes times `unit`, to the bit (−0 is another score than 0)."""
    with np.errstate(invalid="ignore"):
        if not (scores.size == 0 or (scores.min() >= 0 and scores.max() < _LEVELS * unit)):
            return False
        np.multiply(scores, np.float32(1 / unit), out=codes, casting="unsafe")
    return _same_bits(codes * np.float32(unit), scores)


def _same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(a.view(np.uint32), b.view(np.uint32)))


def _distinct(scores: NDArray[np.float32]) -> NDArray[np.uint32] | None:
    """The different bit patterns, ascending; None where there are more than 256."""
    levels = np.zeros(0, np.uint32)
    for part in _parts(scores.size):
        bits = scores[part].view(np.uint32)
        if levels.size:
            place = np.minimum(np.searchsorted(levels, bits), levels.size - 1)
            bits = bits[levels[place] != bits]
        levels = distinct(levels, bits)
        if levels.size > _LEVELS:
            return None
    return levels


def square_of(scores: NDArray[Any]) -> tuple[float, float]:
    """Σ x² and Σ x in float64, 65,536 cells at a time, these sums added in order."""
    square = total = 0.0
    for start in range(0, scores.size, _SUMMED):
        some = scores[start : start + _SUMMED].astype(np.float64)
        square += float(np.einsum("i,i", some, some))
        total += float(some.sum())
    return square, total
