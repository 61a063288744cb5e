"""Interactions → the sparse user × item matrix: order, duplicates, filters, transform.

Every step takes and returns whole values, and the order of rows in the source decides nothing but
which of two untimed duplicates is the last: the same interactions in any order give the same
matrix, byte for byte.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import BadRowsError, InputError, TooLittleDataError, UsageError
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.spec import Duplicates, Transform

__all__ = [
    "UserItems",
    "aggregate",
    "cell_values",
    "content_digest",
    "days_before",
    "filter_users",
    "in_order",
    "to_matrix",
]

_DAY = 86_400_000  # milliseconds


@dataclass(frozen=True, eq=False)
class UserItems:
    """The matrix V with the ids of its rows and columns.

    Attributes
    ----------
    scores : csr (n_users, n_items) float32, canonical. A stored zero is an interaction whose score
        is zero: it counts as seen.
    users, items : ids of the rows and of the columns
    """

    scores: sparse.csr_matrix
    users: IdMap
    items: IdMap

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.users), len(self.items)):
            raise InputError(f"A {self.scores.shape} matrix with {len(self.users)} user and {len(self.items)} item ids")

    @property
    def sparsity(self) -> float:
        """Share of cells without an interaction, 0–1."""
        cells = self.scores.shape[0] * self.scores.shape[1]
        return 1.0 - self.scores.nnz / cells if cells else 0.0


def _stable_order(codes: NDArray[np.int32], n: int, order: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Positions that sort `codes` (values in [0, n)), ties by `order` or by position: a counting sort.

    It is scipy's compiled CSR → CSC of a matrix with one cell a row; numpy's stable sort compares,
    and takes four times as long on ten million codes.
    """
    m = codes.size
    start = np.arange(m, dtype=np.int32) if order is None else order
    keys = codes if order is None else codes[order]
    one_a_row = sparse.csr_matrix((start, keys, np.arange(m + 1, dtype=np.int32)), shape=(m, n))
    result: NDArray[np.int32] = one_a_row.tocsc().data
    return result


def in_order(x: Interactions) -> Interactions:
    """Sorted by user, item, time, score (without times: by user, item, position)."""
    step_users, step_items = np.diff(x.users), np.diff(x.items)
    if bool(np.all((step_users > 0) | ((step_users == 0) & (step_items > 0)))):
        return x
    del step_users, step_items
    order = _stable_order(x.items, len(x.item_ids))
    order = _stable_order(x.users, len(x.user_ids), order)
    users, items = x.users[order], x.items[order]
    if x.at is not None:
        same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
        if same.any():
            repeated = np.flatnonzero(np.append(same, False) | np.append(False, same))
            run = np.cumsum(~np.append(False, same))[repeated]
            rows = order[repeated]
            order[repeated] = rows[np.lexsort((x.scores[rows], x.at[rows], run))]
    return Interactions(users, items, x.scores[order], x.user_ids, x.item_ids, None if x.at is None else x.at[order])


def aggregate(x: Interactions, duplicates: Duplicates = "last") -> Interactions:
    """One interaction a user and item.

    `x` must be in order (`in_order`). ``last`` is the latest by time, of equal times the larger
    score; without times the last by position. Sums and means are taken in float64.
    """
    if duplicates not in get_args(Duplicates):
        raise UsageError(f"Duplicates are aggregated by one of {get_args(Duplicates)}, got {duplicates!r}")
    if not len(x):
        return x
    first = np.append(True, (x.users[1:] != x.users[:-1]) | (x.items[1:] != x.items[:-1]))
    if first.all():
        return x
    starts = np.flatnonzero(first)
    last = x.take(np.append(starts[1:], len(x)) - 1)
    if duplicates == "last":
        return last
    if duplicates == "max":
        scores = np.maximum.reduceat(x.scores, starts)
    else:
        total = np.add.reduceat(x.scores.astype(np.float64), starts)
        if duplicates == "mean":
            total /= np.diff(np.append(starts, len(x)))
        with np.errstate(over="ignore"):
            scores = total.astype(np.float32)
        if not np.isfinite(scores).all():
            raise BadRowsError("The sum of a user's scores for one item passes the largest float32")
    return replace(last, scores=scores)


def filter_users(
    x: Interactions, min_interactions: int | None = None, max_interactions: int | None = None
) -> Interactions:
    """Without the users who have fewer or more interactions (inclusive bounds; None: no bound)."""
    if min_interactions is None and max_interactions is None:
        return x
    count = np.bincount(x.users, minlength=len(x.user_ids))
    keep = np.ones(count.size, bool)
    if min_interactions is not None:
        keep &= count >= min_interactions
    if max_interactions is not None:
        keep &= count <= max_interactions
    return x if keep.all() else x.take(keep[x.users]).compact()


def days_before(newest: np.datetime64, at: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """How long before `newest` each of these times (n,), in milliseconds, was: (n,) days."""
    return (newest - at).astype(np.int64) / _DAY


def cell_values(
    x: Interactions,
    transform: Transform = "none",
    half_life_days: float | None = None,
    newest: np.datetime64 | None = None,
) -> NDArray[np.float32]:
    """What the matrix holds for each interaction, (n,): the transformed score, times ½^(age / half_life_days).

    ``log1p`` is log(1 + score); ``binary`` 1 for a score > 0 and 0 for 0. Ages are counted from `newest`
    (default: the newest of `x`); what is newer still does not fade. Raises InputError for a half-life without times.
    """
    if transform == "none":
        data = x.scores
    elif transform == "log1p":
        data = np.log1p(x.scores)
    elif transform == "binary":
        data = (x.scores > 0).astype(np.float32)
    else:
        raise UsageError(f"Transform must be one of {get_args(Transform)}, got {transform!r}")
    if half_life_days is None or not len(x):
        return data
    if x.at is None:
        raise InputError(
            "--half-life-days needs times, and these interactions have none: leave it out, or name their column "
            "(--timestamp-column, or `at` in the query)"
        )
    age = days_before(x.at.max() if newest is None else newest, x.at)
    faded: NDArray[np.float32] = (data * 0.5 ** (np.maximum(age, 0) / half_life_days)).astype(np.float32)
    return faded


def to_matrix(
    x: Interactions, transform: Transform = "none", min_data: int = 0, half_life_days: float | None = None
) -> UserItems:
    """The CSR matrix of interactions that are in order and aggregated, with `cell_values` in it.

    A cell that is 0, or has faded to 0, is still seen.
    """
    if len(x) < min_data or not len(x):
        raise TooLittleDataError(
            f"Too little data: {len(x)} interaction(s), and at least {max(min_data, 1)} are needed. "
            "Give more data, or lower --min-data."
        )
    data = cell_values(x, transform, half_life_days)
    indptr = np.zeros(len(x.user_ids) + 1, np.int64)
    np.cumsum(np.bincount(x.users, minlength=len(x.user_ids)), out=indptr[1:])
    # scipy and scikit-learn want one integer type for both index arrays.
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
        indices = x.items
    else:
        indices = x.items.astype(np.int64)
    shape = (len(x.user_ids), len(x.item_ids))
    scores = sparse.csr_matrix((data, indices, indptr), shape=shape, copy=False)
    scores.has_canonical_format = True
    return UserItems(scores, x.user_ids, x.item_ids)


def content_digest(x: Interactions) -> str:
    """sha256 of all interactions (in order): ids, scores and times, whatever the source's order (of timed rows)."""
    digest = hashlib.sha256()
    digest.update(f"{len(x)} {x.user_ids.digest} {x.item_ids.digest} {x.at is not None}".encode())
    for column, dtype in ((x.users, "<i4"), (x.items, "<i4"), (x.scores, "<f4"), (x.at, "<i8")):
        if column is not None:
            digest.update(np.ascontiguousarray(column).view(dtype).data)
    return digest.hexdigest()
