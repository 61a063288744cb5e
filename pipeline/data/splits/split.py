"""`Split`: the two sides, checked against leaks where it is made, with a digest to compare runs by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.mapped import counts_of, parts, release
from pipeline.data.prepare import PreparedInteractions
from pipeline.errors import LeakageError, SplitError

__all__ = ["Split", "holds", "pair_keys"]


@dataclass(frozen=True, eq=False)
class Split:
    """What a candidate learns from and what it is evaluated on; checked once, here, in O(n log n).

    Attributes
    ----------
    train : what the candidate and the baselines see; ids that it does not use are left out, here if need be
    test : what they are evaluated on, one interaction a user and item, with the ids of both sides
    cutoff : the time that parts them, where one does: train is before, test at or after
    name : how it was made: ``random``, ``latest``, ``last``, ``time``, ``users``, ``given``
    params : what decided it, as JSON-able values
    fold_in : of a ``users`` split, the known part of the held-out users' history, with the ids of `test`
    catalogue : items that may be recommended besides training's, since more than interactions is known of them
    ranked : of an ``items`` split, the held-out items: lists are made of these alone; None: of all items

    Raises
    ------
    LeakageError
        A pair on two sides; a time on the wrong side of the cutoff; a held-out user or item in training.
    SplitError
        A side that is not prepared (`prepare_interactions`); ids of two kinds; a held-out user with nothing to fold in.
    """

    train: PreparedInteractions
    test: PreparedInteractions
    cutoff: np.datetime64 | None = None
    name: str = "given"
    params: Mapping[str, int | float | str] = field(default_factory=dict)
    fold_in: PreparedInteractions | None = None
    catalogue: IdMap | None = None
    ranked: IdMap | None = None

    def __post_init__(self) -> None:
        sides: dict[str, Interactions | None] = {"train": self.train, "test": self.test, "fold_in": self.fold_in}
        if unprepared := [name for name, x in sides.items() if not (x is None or isinstance(x, PreparedInteractions))]:
            raise SplitError(
                f"The sides of a split are made by prepare_interactions, and these are not: {', '.join(unprepared)}"
            )
        # A candidate's catalogue is training's: an id that is only named there would be known from elsewhere.
        object.__setattr__(self, "train", self.train.compact())
        test = pair_keys(self.test, self.test.user_ids, self.test.item_ids)
        test.sort()
        for known in (self.train, self.fold_in):
            if known is None or not len(known) or not len(self.test):
                continue
            if (known.user_ids.kind, known.item_ids.kind) != (self.test.user_ids.kind, self.test.item_ids.kind):
                raise SplitError("The two sides have ids of different kinds (integers and text)")
            rows, columns = _places(known, self.test.user_ids, self.test.item_ids)
            n = 0
            for part in parts(len(known)):
                keys = _keys(rows[known.users[part]], columns[known.items[part]], len(self.test.item_ids))
                n += int(np.count_nonzero(holds(test, keys)))
                release(known.users, known.items)
            if n:
                side = "training" if known is self.train else "fold-in"
                raise LeakageError(f"{n} interaction(s) are on the {side} side and on the test side")
        self._check_times()
        self._check_users()
        self._check_items()

    def _check_times(self) -> None:
        if self.cutoff is None:
            return
        for times, name in ((self.train.at, "training"), (self.test.at, "test")):
            if times is None:
                raise SplitError(f"A time parts the split, and the {name} side has no times")
        train, test = self.train.at, self.test.at
        if train is not None and train.size and train.max() >= self.cutoff:
            n = int(np.count_nonzero(train >= self.cutoff))
            raise LeakageError(f"{n} training interaction(s) are at or after the cutoff {self.cutoff}")
        if test is not None and test.size and test.min() < self.cutoff:
            n = int(np.count_nonzero(test < self.cutoff))
            raise LeakageError(f"{n} test interaction(s) are before the cutoff {self.cutoff}")

    def _check_items(self) -> None:
        if self.ranked is None:
            return
        if n := int(np.count_nonzero(self.train.item_ids.rows(self.ranked.values, missing="negative") >= 0)):
            raise LeakageError(f"{n} held-out item(s) have training interactions")

    def _check_users(self) -> None:
        if self.fold_in is None:
            return
        trained = _used(self.train.users, self.train.user_ids)
        for held_out in (self.fold_in, self.test):
            rows = trained.rows(_used(held_out.users, held_out.user_ids).values, missing="negative")
            if n := int(np.count_nonzero(rows >= 0)):
                raise LeakageError(f"{n} held-out user(s) have training interactions")
        known = _used(self.fold_in.users, self.fold_in.user_ids)
        if bool((known.rows(_used(self.test.users, self.test.user_ids).values, missing="negative") < 0).any()):
            raise SplitError("A held-out user has nothing to be folded in by")

    @cached_property
    def items(self) -> IdMap:
        """Training's items, and those of `catalogue` and `ranked`: lists are item rows of these."""
        more = [ids.values for ids in (self.catalogue, self.ranked) if ids is not None and len(ids)]
        return IdMap.of(np.concatenate([self.train.item_ids.values, *more])) if more else self.train.item_ids

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """Number of training interactions of each of `items`."""
        rows = self.items.rows(self.train.item_ids.values)
        of_train = counts_of(self.train.items, len(rows))
        counts = np.zeros(len(self.items), np.int64)
        counts[rows] = of_train
        return counts

    @cached_property
    def digest(self) -> str:
        """sha256 of the split: its name and params, and the pairs of each side by external id.

        The order of rows, ids that nobody uses, scores and times change nothing (a run's data digest
        covers those); a pair moved from one side to the other does.
        """
        digest = hashlib.sha256(f"{self.name} {json.dumps(dict(self.params), sort_keys=True)}".encode())
        for side in (self.train, self.test, self.fold_in):
            if side is None:
                continue
            x = side.compact()
            digest.update(f"\n{len(x)} {x.user_ids.digest} {x.item_ids.digest}\n".encode())
            for column in (x.users, x.items):
                for part in parts(len(x)):
                    digest.update(np.ascontiguousarray(column[part], "<i4").data)
                    release(column)
        return digest.hexdigest()


def pair_keys(x: Interactions, users: IdMap, items: IdMap) -> NDArray[np.int64]:
    """Each interaction as one number in the rows of `users` and `items`, (n,); -1 where one is not there."""
    if users is x.user_ids and items is x.item_ids:
        own = x.users.astype(np.int64)
        own *= len(items)
        own += x.items
        return own
    rows, columns = _places(x, users, items)
    return _keys(rows[x.users], columns[x.items], len(items))


def _places(x: Interactions, users: IdMap, items: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The rows of the ids of `x` in `users` and `items`; -1 where one is not there."""
    rows = users.rows(x.user_ids.values, missing="negative").astype(np.int64)
    return rows, items.rows(x.item_ids.values, missing="negative")


def _keys(rows: NDArray[np.int64], columns: NDArray[np.int32], n_items: int) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = np.where((rows >= 0) & (columns >= 0), rows * n_items + columns, -1)
    return keys


def holds(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `wanted` (any shape) are in `ascending` (n,), a binary search each."""
    if not ascending.size:
        return np.zeros(wanted.shape, bool)
    is_member: NDArray[np.bool_] = (
        ascending[np.minimum(np.searchsorted(ascending, wanted), ascending.size - 1)] == wanted
    )
    return is_member


def _used(codes: NDArray[np.int32], ids: IdMap) -> IdMap:
    return IdMap(ids.values[counts_of(codes, len(ids)) > 0])
