"""`Interactions`: who did what with which item, when, and how much they liked it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import BadRowsError, InputError
from pipeline.ids import IdMap, as_ids

__all__ = ["Interactions"]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Parallel columns of shape (n,), one row an interaction; duplicates are allowed.

    Attributes
    ----------
    users, items : (n,) int32, rows of `user_ids` and `item_ids`
    scores : (n,) float32, finite and ≥ 0
    user_ids, item_ids : the ids, kept once
    at : (n,) datetime64[ms] in UTC, or None where the source has no times
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    user_ids: IdMap
    item_ids: IdMap
    at: NDArray[np.datetime64] | None = None

    def __post_init__(self) -> None:
        n = self.users.shape
        columns: dict[str, NDArray[Any]] = {"users": self.users, "items": self.items, "scores": self.scores}
        if self.at is not None:
            columns["at"] = self.at
        expected = {"users": "int32", "items": "int32", "scores": "float32", "at": "datetime64[ms]"}
        for name, column in columns.items():
            if column.shape != n or column.ndim != 1:
                raise InputError(f"{name} has shape {column.shape}, users has {n}: one row an interaction")
            if column.dtype != np.dtype(expected[name]):
                raise InputError(f"{name} must be {expected[name]}, got {column.dtype}")
        for name, codes, ids in (("users", self.users, self.user_ids), ("items", self.items, self.item_ids)):
            if codes.size and (codes.min() < 0 or codes.max() >= len(ids)):
                raise InputError(f"{name} must be in range [0, {len(ids)})")
        # min and max carry NaN and infinity without an (n,) array of flags.
        if self.scores.size and not (self.scores.min() >= 0 and self.scores.max() < np.inf):
            bad = int(np.count_nonzero(~(np.isfinite(self.scores) & (self.scores >= 0))))
            raise BadRowsError(f"{bad} score(s) are not finite and ≥ 0")
        if self.at is not None and bool(np.isnat(self.at).any()):
            # It would sort after every time, and so be the latest.
            raise BadRowsError(f"{int(np.count_nonzero(np.isnat(self.at)))} time(s) are missing")
        if bool(np.signbit(self.scores).any()):
            # -0.0 is ≥ 0 and equals 0.0, but not in the digest's bytes.
            columns["scores"] = self.scores + np.float32(0)
        for name, column in columns.items():
            # A view: the caller's own array stays as writeable as it was.
            frozen = column.view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    def __len__(self) -> int:
        return int(self.users.size)

    @classmethod
    def of(
        cls,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        scores: ArrayLike | None = None,
        at: ArrayLike | None = None,
    ) -> Interactions:
        """From raw columns: external ids, and scores (absent: 1.0 each)."""
        users, items = as_ids(user_ids), as_ids(item_ids)
        user_values, user_rows = np.unique(users, return_inverse=True)
        item_values, item_rows = np.unique(items, return_inverse=True)
        values = np.ones(users.size) if scores is None else np.asarray(scores)
        with np.errstate(over="ignore"):  # infinity is refused as a bad row
            rounded: NDArray[np.float32] = values.astype(np.float32)
        return cls(
            user_rows.astype(np.int32),
            item_rows.astype(np.int32),
            rounded,
            IdMap(user_values),
            IdMap(item_values),
            None if at is None else np.asarray(at).astype("datetime64[ms]"),
        )

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Interactions:
        """The interactions at `rows` (positions or a mask), with the same id maps."""
        return Interactions(
            self.users[rows],
            self.items[rows],
            self.scores[rows],
            self.user_ids,
            self.item_ids,
            None if self.at is None else self.at[rows],
        )

    def compact(self) -> Interactions:
        """The same interactions, with ids that no interaction uses left out of the maps."""
        users, user_ids = _compact(self.users, self.user_ids)
        items, item_ids = _compact(self.items, self.item_ids)
        return Interactions(users, items, self.scores, user_ids, item_ids, self.at)


def _compact(codes: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
    used = np.bincount(codes, minlength=len(ids)) > 0
    if used.all():
        return codes, ids
    new = np.cumsum(used, dtype=np.int32) - 1
    return new[codes].astype(np.int32), IdMap(ids.values[used])
