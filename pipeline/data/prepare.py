"""`prepare_interactions` sorts interactions by user and item, merges duplicates and filters users.

Training, tuning, evaluation and every split start from the resulting `PreparedInteractions`, so nothing sorts or
aggregates them again. The same interactions in any order give the same result, byte for byte; only without
times does the order decide which of two duplicates is the last.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.interactions import Interactions
from pipeline.errors import BadRowsError, InputError, TooLittleDataError, UsageError

if TYPE_CHECKING:
    from pipeline.options import Duplicates

__all__ = [
    "Preparation",
    "PreparedInteractions",
    "aggregate",
    "content_digest",
    "filter_users",
    "pairs_ascend",
    "prepare_interactions",
    "require_enough",
    "sort_interactions",
]

DUPLICATES = ("last", "sum", "max", "mean")
_ROWS_AT_ONCE = 1 << 20  # rows compared at a time, so that the check needs a few megabytes for any size


@dataclass(frozen=True, eq=False)
class PreparedInteractions(Interactions):
    """Interactions sorted by user and item, one interaction per pair; checked when made.

    Raises
    ------
    InputError
        If the columns are not in that order, or have a pair twice.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not pairs_ascend(self):
            raise InputError(
                "Prepared interactions are sorted by user and item, with one interaction a pair, and these are not: "
                "make them with prepare_interactions"
            )

    @classmethod
    def from_sorted(cls, x: Interactions) -> Self:
        """The same columns, checked."""
        return cls(x.users, x.items, x.scores, x.user_ids, x.item_ids, x.at)

    def user_starts(self) -> NDArray[np.int64]:
        """Start of each user's interactions, (n_users + 1,): user u has rows ``starts[u]`` to ``starts[u + 1]``."""
        starts = np.zeros(len(self.user_ids) + 1, np.int64)
        np.cumsum(np.bincount(self.users, minlength=len(self.user_ids)), out=starts[1:])
        return starts


@dataclass(frozen=True, eq=False)
class Preparation:
    """Attributes
    ----------
    interactions : the prepared interactions
    data_digest : sha256 of all interactions that were read
    n_read : interactions that were read
    n_duplicates : of these, how many repeat a user and item
    n_users_left_out, n_interactions_left_out : left out by the bounds on interactions per user,
        after merging duplicates
    """

    interactions: PreparedInteractions
    data_digest: str
    n_read: int
    n_duplicates: int
    n_users_left_out: int
    n_interactions_left_out: int


def prepare_interactions(
    x: Interactions,
    duplicates: Duplicates = "last",
    min_interactions: int | None = None,
    max_interactions: int | None = None,
    min_data: int = 0,
) -> Preparation:
    """Sort, aggregate duplicates, and leave out users with too few or too many interactions.

    Raises TooLittleDataError if fewer than `min_data` interactions were read.
    """
    require_enough(x, min_data)
    x = sort_interactions(x)
    digest = content_digest(x)
    unique = aggregate(x, duplicates)
    interactions = filter_users(unique, min_interactions, max_interactions)
    return Preparation(
        interactions,
        digest,
        n_read=len(x),
        n_duplicates=len(x) - len(unique),
        n_users_left_out=len(unique.user_ids) - len(interactions.user_ids),
        n_interactions_left_out=len(unique) - len(interactions),
    )


def require_enough(x: Interactions, min_data: int) -> None:
    """Raise TooLittleDataError for fewer than `min_data` interactions."""
    if len(x) < min_data:
        raise TooLittleDataError(
            f"Too little data: {len(x)} interaction(s), and at least {min_data} are needed. "
            "Give more data, or lower --min-data."
        )


def pairs_ascend(x: Interactions) -> bool:
    """Whether the pairs (user, item) ascend strictly: they are sorted and unique."""
    for start in range(0, len(x) - 1, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE + 1)
        user_steps, item_steps = np.diff(x.users[rows]), np.diff(x.items[rows])
        if not bool(np.all((user_steps > 0) | ((user_steps == 0) & (item_steps > 0)))):
            return False
    return True


def sort_interactions(x: Interactions) -> Interactions:
    """Sorted by user, item, time, score (without times: by user, item, position)."""
    if isinstance(x, PreparedInteractions) or pairs_ascend(x):
        return x
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


def _stable_order(codes: NDArray[np.int32], n: int, order: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Positions that sort `codes` (values in [0, n)), ties by `order` or by position: a counting sort.

    scipy's compiled CSR → CSC conversion of a matrix with one cell per row does it. numpy's stable sort compares
    values and takes four times as long on ten million codes.
    """
    m = codes.size
    start = np.arange(m, dtype=np.int32) if order is None else order
    keys = codes if order is None else codes[order]
    one_a_row = sparse.csr_matrix((start, keys, np.arange(m + 1, dtype=np.int32)), shape=(m, n))
    result: NDArray[np.int32] = one_a_row.tocsc().data
    return result


def aggregate(x: Interactions, duplicates: Duplicates = "last") -> PreparedInteractions:
    """Merge duplicates: one interaction per user and item.

    `x` must be sorted (`sort_interactions`). ``last`` keeps the latest by time, of equal times the
    larger score; without times the last by position. Sums and means are taken in float64.
    """
    if duplicates not in DUPLICATES:
        raise UsageError(f"Duplicates are aggregated by one of {DUPLICATES}, got {duplicates!r}")
    if isinstance(x, PreparedInteractions):
        return x
    if not len(x):
        return PreparedInteractions.from_sorted(x)
    first = np.append(True, (x.users[1:] != x.users[:-1]) | (x.items[1:] != x.items[:-1]))
    if first.all():
        return PreparedInteractions.from_sorted(x)
    starts = np.flatnonzero(first)
    last = PreparedInteractions.from_sorted(x.take(np.append(starts[1:], len(x)) - 1))
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
    x: PreparedInteractions, min_interactions: int | None = None, max_interactions: int | None = None
) -> PreparedInteractions:
    """Leave out users with fewer or more interactions than the inclusive bounds; None is no bound."""
    if min_interactions is None and max_interactions is None:
        return x
    count = np.bincount(x.users, minlength=len(x.user_ids))
    keep = np.ones(count.size, bool)
    if min_interactions is not None:
        keep &= count >= min_interactions
    if max_interactions is not None:
        keep &= count <= max_interactions
    return x if keep.all() else x.take(keep[x.users]).compact()


def content_digest(x: Interactions) -> str:
    """sha256 of all interactions (sorted): ids, scores, times. With times, the order in the source does not matter."""
    digest = hashlib.sha256()
    digest.update(f"{len(x)} {x.user_ids.digest} {x.item_ids.digest} {x.at is not None}".encode())
    for column, dtype in ((x.users, "<i4"), (x.items, "<i4"), (x.scores, "<f4"), (x.at, "<i8")):
        if column is not None:
            digest.update(np.ascontiguousarray(column).view(dtype).data)
    return digest.hexdigest()
