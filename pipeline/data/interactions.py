"""`Interactions`: users, items, scores and times of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.id_map import IdMap, as_ids
from pipeline.data.mapped import any_of, counts_of, ends_of, release, taken, translated
from pipeline.errors import BadRowsError, InputError

__all__ = ["Interactions"]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Parallel columns of shape (n,), one row per interaction; duplicates are allowed.

    Attributes
    ----------
    users, items : (n,) int32, rows of `user_ids` and `item_ids`
    scores : (n,) float32, finite and ≥ 0
    user_ids, item_ids : the ids, each once
    at : (n,) datetime64[ms] in UTC, or None if the source has no times
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
            low, high = ends_of(codes)
            if codes.size and (low < 0 or high >= len(ids)):
                raise InputError(f"{name} must be in range [0, {len(ids)})")
        # min and max pass NaN and infinity on, so no (n,) array of flags is needed.
        low, high = ends_of(self.scores)
        if self.scores.size and not (low >= 0 and high < np.inf):
            bad = int(np.count_nonzero(~(np.isfinite(self.scores) & (self.scores >= 0))))
            raise BadRowsError(f"{bad} score(s) are not finite and ≥ 0")
        if self.at is not None and any_of(np.isnat, self.at):
            # NaT would sort after every time and count as the latest.
            raise BadRowsError(f"{int(np.count_nonzero(np.isnat(self.at)))} time(s) are missing")
        if any_of(np.signbit, self.scores):
            # -0.0 equals 0.0 but has other bytes in the digest.
            columns["scores"] = self.scores + np.float32(0)
        for name, column in columns.items():
            # A view: the caller's array stays writeable.
            frozen = column.view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)
            release(frozen)

    def __len__(self) -> int:
        return int(self.users.size)

    @classmethod
    def of(
        cls,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        scores: ArrayLike | None = None,
        at: ArrayLike | None = None,
    ) -> Self:
        """From columns with external ids; without scores each is 1.0."""
        users, items = as_ids(user_ids), as_ids(item_ids)
        user_values, user_rows = np.unique(users, return_inverse=True)
        item_values, item_rows = np.unique(items, return_inverse=True)
        values = np.ones(users.size) if scores is None else np.asarray(scores)
        with np.errstate(over="ignore"):  # infinite scores are refused below
            rounded: NDArray[np.float32] = values.astype(np.float32)
        return cls(
            user_rows.astype(np.int32),
            item_rows.astype(np.int32),
            rounded,
            IdMap(user_values),
            IdMap(item_values),
            None if at is None else np.asarray(at).astype("datetime64[ms]"),
        )

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The interactions at `rows` (positions or a mask), with the same id maps."""
        return type(self)(
            taken(self.users, rows),
            taken(self.items, rows),
            taken(self.scores, rows),
            self.user_ids,
            self.item_ids,
            None if self.at is None else taken(self.at, rows),
        )

    def compact(self) -> Self:
        """The same interactions, without the ids that no interaction uses."""
        users, user_ids = _compact(self.users, self.user_ids)
        items, item_ids = _compact(self.items, self.item_ids)
        return type(self)(users, items, self.scores, user_ids, item_ids, self.at)


def _compact(codes: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
    used = counts_of(codes, len(ids)) > 0
    if used.all():
        return codes, ids
    new = np.cumsum(used, dtype=np.int32) - 1
    return translated(codes, new), IdMap(ids.values[used])
