"""The random start of factors by id: a row depends on its id and the seed alone, not on which other ids are there.

Each number is a hash of (id, component, seed, side) by the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtri

from pipeline.data.block_reader import Buffers, SideReader
from pipeline.data.blocks import BlockFolder
from pipeline.data.id_map import IdMap
from pipeline.data.mapped import release

__all__ = ["half_normal_rows", "mean_of", "random_factors", "uniform_rows"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_DRAWN = 1 << 20  # numbers drawn at a time, in float64
_LEAF = 1 << 20  # scores added at a time, at least 128
_SIDES = {"users": 1, "items": 2}


def uniform_rows(ids: IdMap, k: int, seed: int, side: Literal["users", "items"]) -> NDArray[np.float32]:
    """(len(ids), k) float32, uniform in [0, 1); `side` keeps a user and an item of the same id apart."""
    out = np.empty((len(ids), k), np.float32)
    with np.errstate(over="ignore"):  # products are meant modulo 2⁶⁴
        key = np.array([seed], np.uint64) * _GOLDEN + np.uint64(_SIDES[side])
        own = _mixed(_numbers(ids) ^ _mixed(key))
        for t in range(k):
            own += _GOLDEN
            out[:, t] = (_mixed(own) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return out


def half_normal_rows(ids: IdMap, k: int, seed: int, side: Literal["users", "items"]) -> NDArray[np.float32]:
    """(len(ids), k) float32, |N(0, 1)| numbers: `uniform_rows` through the inverse of their distribution."""
    rows = uniform_rows(ids, k, seed, side)
    # The lower half, whose probabilities from 2⁻²⁵ to ½ float32 has exactly.
    np.subtract(np.float32(1), rows, out=rows)
    rows *= np.float32(0.5)
    normal: NDArray[np.float32] = np.abs(ndtri(rows, out=rows), out=rows)
    return normal


def _numbers(ids: IdMap) -> NDArray[np.uint64]:
    """A number for each id; of text one that does not depend on the longest id's length."""
    values = ids.values
    if ids.kind == "int":
        return values.astype(np.int64).view(np.uint64)
    letters = np.ascontiguousarray(values).view(np.uint32).reshape(values.size, -1)
    total = np.full(values.size, _GOLDEN)
    for column in letters.T:
        letter = column.astype(np.uint64)
        total = np.where(letter > 0, _mixed(total ^ letter), total)
    return total


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def mean_of(X: Any) -> Any:
    """The mean of all cells of X (m, n), of its type: `X.mean()` to the bit, without the copies that scipy makes.

    X : dense, sparse, or a folder of blocks
    """
    if isinstance(X, BlockFolder):
        buffers = Buffers()
        with SideReader(X, "rows") as reader:
            return _sum(lambda lo, hi: reader.scores(lo, hi, buffers), 0, X.cells, np.float32(1 / math.prod(X.shape)))
    if not sparse.issparse(X):
        return X.mean()
    data = X.data
    return _sum(lambda lo, hi: data[lo:hi], 0, data.size, data.dtype.type(1 / math.prod(X.shape)))


def _sum(scores: Callable[[int, int], NDArray[Any]], lo: int, hi: int, share: Any) -> Any:
    """Σ share·score in the order of numpy's pairwise sum of all of them, which halves an array down to 128 numbers."""
    if hi - lo <= _LEAF:
        some = scores(lo, hi)
        total = np.sum(some * share)
        release(some)
        return total
    half = lo + (hi - lo) // 2 // 8 * 8
    return _sum(scores, lo, half, share) + _sum(scores, half, hi, share)


def random_factors(
    X: Any, k: int, random_state: int | np.random.RandomState | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """W (m, k) and H (k, n): the bits of scikit-learn's ``init="random"``, in the memory of the factors alone.

    |N(0, 1)| numbers times √(mean of X / k).
    """
    from sklearn.utils.validation import check_random_state

    (m, n), rng = X.shape, check_random_state(random_state)
    mean = mean_of(X)
    size = np.sqrt(mean / k)
    H = _drawn(rng, (k, n), size, mean.dtype)
    return _drawn(rng, (m, k), size, mean.dtype), H


def _drawn(rng: np.random.RandomState, shape: tuple[int, int], size: Any, dtype: Any) -> NDArray[Any]:
    out = np.empty(shape, dtype)
    flat = out.reshape(-1)
    for start in range(0, flat.size, _DRAWN):
        part = flat[start : start + _DRAWN]
        part[:] = rng.standard_normal(size=part.size)
    np.abs(np.multiply(out, size, out=out), out=out)
    return out
