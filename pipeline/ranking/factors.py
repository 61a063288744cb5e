"""Describe factors: the items that characterise each, their genres, and the factor's share of all predictions.

A single factor has no scale (W·c and H/c have the same product), so all figures come from products:

    part of item i that is factor t's    c_ti = h_ti · Σ_u w_ut      (its share of the predictions for i)
    mass of factor t                     m_t  = Σ_i c_ti             (its share of all predictions)
    users who lean on t                  those with argmax_t w_ut · Σ_i h_ti = t

Sorted by weight alone, every factor would show the same few popular items; sorted by distinctiveness alone, items
with hardly any users. Items are sorted by the product p(i|t)·p(t|i), the item's share of the factor times the
factor's share of the item: the relevance of Sievert & Shirley (2014) with λ = ½.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FactorDescription", "GenreShare", "TopItem", "describe_factors", "genres_of_factors", "name_of"]

_ROWS = 1 << 16  # users or items that are converted to float64 at once
_STANDS_OUT, _NAMED = 1.2, 0.08  # a factor is named by genres with at least 1.2 times their usual share, and 8 %


@dataclass(frozen=True)
class TopItem:
    """Attributes
    ----------
    row : of the item
    of_factor : p(i|t), the item's share of the factor
    of_item : p(t|i), the share of the item's predictions that is the factor's
    """

    row: int
    of_factor: float
    of_item: float


@dataclass(frozen=True)
class FactorDescription:
    """Attributes
    ----------
    number : row of H, from 0
    mass : share of all predictions
    n_users : users for whom it is the factor with the largest share of their predictions
    items : most relevant first; empty for a factor of zeros
    """

    number: int
    mass: float
    n_users: int
    items: tuple[TopItem, ...]


@dataclass(frozen=True)
class GenreShare:
    """A genre's share of a factor's most relevant items, and its mean share over all factors, weighted by mass."""

    name: str
    share: float
    usual: float


def describe_factors(
    user_factors: NDArray[np.float32], item_factors: NDArray[np.float32], n_items: int = 60
) -> tuple[FactorDescription, ...]:
    """The factors with their `n_items` most relevant items, the largest factor first, ties by number.

    user_factors : (n_users, k); item_factors : (k, n_items). Negative values count as 0. Temporary arrays have at
    most 2¹⁶ rows of k values, or one row of all items.
    """
    k = item_factors.shape[0]
    of_users, of_items = np.zeros(k), np.zeros(k)
    for block in _blocks(user_factors.shape[0]):
        of_users += _positive(user_factors[block]).sum(axis=0)
    total = np.empty(item_factors.shape[1])
    for block in _blocks(item_factors.shape[1]):
        part = _positive(item_factors[:, block])
        of_items += part.sum(axis=1)
        total[block] = of_users @ part
    leaning = np.zeros(k, np.int64)
    for block in _blocks(user_factors.shape[0]):
        contributions = _positive(user_factors[block]) * of_items
        leaning += np.bincount(contributions.argmax(axis=1)[contributions.max(axis=1, initial=0.0) > 0], minlength=k)
    mass = of_users * of_items
    everything = mass.sum()
    factors = []
    for t in np.argsort(-mass, kind="stable").tolist():
        items: tuple[TopItem, ...] = ()
        if mass[t] > 0:
            items = _telling(_positive(item_factors[t]), of_items[t], of_users[t], total, n_items)
        factors.append(
            FactorDescription(t, float(mass[t] / everything) if everything > 0 else 0.0, int(leaning[t]), items)
        )
    return tuple(factors)


def _telling(
    weight: NDArray[np.float64], of_items: float, of_users: float, total: NDArray[np.float64], n: int
) -> tuple[TopItem, ...]:
    """The n items of largest p(i|t)·p(t|i) > 0, ties by row."""
    in_item = np.divide(weight * of_users, total, out=np.zeros_like(weight), where=total > 0)
    relevance = weight / of_items * in_item
    least = np.partition(relevance, -n)[-n] if relevance.size > n else 0.0
    rows = np.flatnonzero((relevance >= least) & (relevance > 0))
    rows = rows[np.argsort(-relevance[rows], kind="stable")][:n]
    return tuple(
        TopItem(row, p, q)
        for row, p, q in zip(rows.tolist(), (weight[rows] / of_items).tolist(), in_item[rows].tolist(), strict=True)
    )


def genres_of_factors(
    factors: Sequence[FactorDescription], genres: Mapping[int, Collection[str]]
) -> dict[int, tuple[GenreShare, ...]]:
    """The genres of each factor, by its number, sorted by share · log(share / usual), then by share.

    genres : item row → its genres; the item's weight is divided equally between them. A factor whose items have no
    genres gets an empty tuple.
    """
    shares: dict[int, dict[str, float]] = {}
    for factor in factors:
        weights: dict[str, float] = {}
        for item in factor.items:
            names = genres.get(item.row, ())
            for name in names:
                weights[name] = weights.get(name, 0.0) + item.of_factor * item.of_item / len(names)
        total = sum(weights.values())
        shares[factor.number] = {name: weight / total for name, weight in weights.items()}
    known = sum(factor.mass for factor in factors if shares[factor.number])
    usual: dict[str, float] = {}
    for factor in factors:
        for name, share in shares[factor.number].items():
            usual[name] = usual.get(name, 0.0) + share * factor.mass / known
    return {
        number: tuple(
            GenreShare(name, share, usual[name])
            for name, share in sorted(
                of_factor.items(), key=lambda pair: _standing_out(pair[0], pair[1], usual[pair[0]])
            )
        )
        for number, of_factor in shares.items()
    }


def _standing_out(name: str, share: float, usual: float) -> tuple[float, float, str]:
    """Sort key: genres that stand out most first. Rounding makes shares that equal the usual share tie."""
    return -round(share * math.log(share / usual), 9), -share, name


def name_of(genres: Sequence[GenreShare]) -> str:
    """At most two genres that stand out, else the largest: ``Sci-Fi, Action``; "" without genres."""
    names = [genre.name for genre in genres if genre.share >= max(_NAMED, _STANDS_OUT * genre.usual)][:2]
    if not names and genres:
        return "mostly " + max(genres, key=lambda genre: genre.share).name
    return ", ".join(names)


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _positive(part: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.maximum(part.astype(np.float64), 0.0)
