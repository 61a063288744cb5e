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

from pipeline.data import mapped
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, empty_beside, parts, release, translated
from pipeline.data.repeats import Repeats, repeats_in
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
    "repeated_pairs",
    "require_enough",
    "sort_interactions",
]

DUPLICATES = ("last", "sum", "max", "mean")


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
        np.cumsum(counts_of(self.users, len(self.user_ids)), out=starts[1:])
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
    repeats : of duplicates that became means, how many and their sums; None where there are none
    """

    interactions: PreparedInteractions
    data_digest: str
    n_read: int
    n_duplicates: int
    n_users_left_out: int
    n_interactions_left_out: int
    repeats: Repeats | None = None


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
    repeats = repeats_in(x) if duplicates == "mean" and len(unique) < len(x) else None
    mask = _within(unique, min_interactions, max_interactions)
    interactions = unique if mask is None else unique.take(mask).compact()
    if repeats is not None and mask is not None:
        repeats = repeats.kept(mask)
    return Preparation(
        interactions,
        digest,
        n_read=len(x),
        n_duplicates=len(x) - len(unique),
        n_users_left_out=len(unique.user_ids) - len(interactions.user_ids),
        n_interactions_left_out=len(unique) - len(interactions),
        repeats=repeats,
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
    return repeated_pairs(x) == 0


def repeated_pairs(x: Interactions) -> int | None:
    """How many interactions repeat the pair (user, item) before them; None where pairs are not in ascending order."""
    repeated = 0
    for rows in parts(len(x) - 1):
        rows = slice(rows.start, rows.stop + 1)
        user_steps, item_steps = np.diff(x.users[rows]), np.diff(x.items[rows])
        same_user = user_steps == 0
        if bool(np.any((user_steps < 0) | (same_user & (item_steps < 0)))):
            return None
        repeated += int(np.count_nonzero(same_user & (item_steps == 0)))
        release(x.users, x.items)
    return repeated


def _in_order(x: Interactions) -> bool:
    """Whether sorting would change nothing."""
    repeated = repeated_pairs(x)
    if not repeated or x.at is None:  # without times repeated pairs stay in the order of the source
        return repeated is not None
    for rows in parts(len(x) - 1):
        rows = slice(rows.start, rows.stop + 1)
        same = (np.diff(x.users[rows]) == 0) & (np.diff(x.items[rows]) == 0)
        later, higher = np.diff(x.at[rows].view(np.int64)), np.diff(x.scores[rows])
        if bool(np.any(same & ((later < 0) | ((later == 0) & (higher < 0))))):
            return False
        release(x.users, x.items, x.scores, x.at)
    return True


def sort_interactions(x: Interactions) -> Interactions:
    """Sorted by user, item, time, score (without times: by user, item, position)."""
    if isinstance(x, PreparedInteractions) or _in_order(x):
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
    last = np.ones(len(x), bool)
    for rows in parts(len(x) - 1):
        after = slice(rows.start + 1, rows.stop + 1)
        last[rows] = (x.users[after] != x.users[rows]) | (x.items[after] != x.items[rows])
        release(x.users, x.items)
    if last.all():
        return PreparedInteractions.from_sorted(x)
    kept = PreparedInteractions.from_sorted(x.take(last))
    return kept if duplicates == "last" else replace(kept, scores=_aggregated(x.scores, last, len(kept), duplicates))


def _aggregated(
    scores: NDArray[np.float32], last: NDArray[np.bool_], size: int, duplicates: Duplicates
) -> NDArray[np.float32]:
    """The aggregates (size,) of runs of scores, which end where `last` is true, some runs at a time."""
    out = empty_beside(scores, size)
    start = done = 0
    while start < scores.size:
        stop = min(start + mapped.AT_ONCE, scores.size)
        stop += int(np.argmax(last[stop - 1 :]))
        starts = np.append(0, np.flatnonzero(last[start : stop - 1]) + 1)
        some = scores[start:stop]
        if duplicates == "max":
            values = np.maximum.reduceat(some, starts)
        else:
            total = np.add.reduceat(some.astype(np.float64), starts)
            if duplicates == "mean":
                total /= np.diff(np.append(starts, some.size))
            with np.errstate(over="ignore"):
                values = total.astype(np.float32)
            if not np.isfinite(values).all():
                raise BadRowsError("The sum of a user's scores for one item passes the largest float32")
        out[done : done + values.size] = values
        start, done = stop, done + values.size
        release(scores, out)
    return out


def filter_users(
    x: PreparedInteractions, min_interactions: int | None = None, max_interactions: int | None = None
) -> PreparedInteractions:
    """Leave out users with fewer or more interactions than the inclusive bounds; None is no bound."""
    mask = _within(x, min_interactions, max_interactions)
    return x if mask is None else x.take(mask).compact()


def _within(
    x: PreparedInteractions, min_interactions: int | None, max_interactions: int | None
) -> NDArray[np.bool_] | None:
    """(n,) which interactions are of users within the bounds; None: all."""
    if min_interactions is None and max_interactions is None:
        return None
    count = counts_of(x.users, len(x.user_ids))
    keep = np.ones(count.size, bool)
    if min_interactions is not None:
        keep &= count >= min_interactions
    if max_interactions is not None:
        keep &= count <= max_interactions
    return None if keep.all() else translated(x.users, keep)


def content_digest(x: Interactions) -> str:
    """sha256 of all interactions (sorted): ids, scores, times. With times, the order in the source does not matter."""
    digest = hashlib.sha256()
    digest.update(f"{len(x)} {x.user_ids.digest} {x.item_ids.digest} {x.at is not None}".encode())
    for column, dtype in ((x.users, "<i4"), (x.items, "<i4"), (x.scores, "<f4"), (x.at, "<i8")):
        if column is not None:
            for rows in parts(len(x)):
                digest.update(np.ascontiguousarray(column[rows]).view(dtype).data)
                release(column)
    return digest.hexdigest()
