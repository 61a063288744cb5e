"""Users in blocks of bounded memory, each with what its users have seen by now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap

__all__ = ["Pairs", "UserBlock", "UserBlocks"]

Pairs = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class UserBlock:
    """Users whose lists are found at once.

    Attributes
    ----------
    ids : (n,) their ids, ascending
    rows : (n,) their rows in the model; None for users who are not in the model
    seen : csr (n, n_items) of what they have seen by now, besides what the model has; a stored cell is a seen item
    n_users : users of the model that the block stands for: n, and those who were forgotten; 0 without `rows`
    """

    ids: NDArray[Any]
    rows: NDArray[np.intp] | None
    seen: sparse.csr_matrix
    n_users: int


class UserBlocks:
    """All users of a model in blocks, ascending; between them those who are not in the model. To be walked once.

    Attributes
    ----------
    n_forgotten, n_unknown : users who were forgotten and are in no block, and those who are not in the model, so far

    Parameters
    ----------
    seen_now : blocks of (user ids, item ids) in ascending order of users; ids the model does not know are no fault
    forgotten : which of these ids (n,) are users who were forgotten
    size : users of the model in a block
    strangers : give blocks of users who are not in the model, too
    """

    def __init__(
        self,
        users: IdMap,
        items: IdMap,
        seen_now: Iterable[Pairs],
        forgotten: Callable[[NDArray[Any]], NDArray[np.bool_]],
        size: int,
        strangers: bool,
    ) -> None:
        self._users, self._items = users, items
        self._stream = _ByUser(seen_now)
        self._forgotten, self._size, self._strangers = forgotten, size, strangers
        self.n_forgotten = self.n_unknown = 0

    def __iter__(self) -> Iterator[UserBlock]:
        ids, n_users = self._users.values, len(self._users)
        for start in range(0, n_users, self._size):
            rows = np.arange(start, min(start + self._size, n_users))
            cells: list[Pairs] = []
            for pairs in self._stream.up_to(ids[rows[-1]]):
                known, strangers = self._match(pairs)
                cells.append(known)
                yield from self._unknown(*strangers)
            kept = self._remembered(ids[rows])
            seen = _matrix(cells, start, rows.size, len(self._items))
            whole = bool(kept.all())
            yield UserBlock(
                ids[rows] if whole else ids[rows[kept]],
                rows if whole else rows[kept],
                seen if whole else seen[kept],
                rows.size,
            )
        for pairs in self._stream.rest():
            yield from self._unknown(*self._match(pairs)[1])

    def _unknown(self, ids: NDArray[Any], seen: sparse.csr_matrix) -> Iterator[UserBlock]:
        kept = self._remembered(ids)
        self.n_unknown += int(np.count_nonzero(kept))
        if self._strangers and kept.any():
            yield UserBlock(ids[kept], None, seen[kept], 0)

    def _remembered(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the users were not forgotten; the others are counted."""
        gone = self._forgotten(ids)
        self.n_forgotten += int(np.count_nonzero(gone))
        return ~gone

    def _match(self, pairs: Pairs) -> tuple[Pairs, tuple[NDArray[Any], sparse.csr_matrix]]:
        """Rows and columns of the model's users and items; ids and a matrix of users who are not in it."""
        user_ids, item_ids = pairs
        cols = self._items.rows(item_ids, missing="negative")
        rows = self._users.rows(user_ids, missing="negative")
        known = (rows >= 0) & (cols >= 0)
        strange = rows < 0
        ids, position = np.unique(user_ids[strange], return_inverse=True)
        seen = cols[strange] >= 0
        cells = (position[seen], cols[strange][seen])
        return (rows[known], cols[known]), (ids, _matrix([cells], 0, ids.size, len(self._items)))


class _ByUser:
    """Cuts a stream of pairs, in ascending order of users, where a block of users ends.

    What it gives is bounded by the stream's own blocks, and holds each user whole.
    """

    def __init__(self, blocks: Iterable[Pairs]) -> None:
        self._pieces = _whole_users(blocks)
        self._held: Pairs | None = None

    def up_to(self, last_user: Any) -> Iterator[Pairs]:
        """The pairs of all users ≤ `last_user` that were not given before."""
        for users, items in self.rest():
            end = int(np.searchsorted(users, last_user, side="right"))
            if end:
                yield users[:end], items[:end]
            if end < users.size:
                self._held = (users[end:], items[end:])
                return

    def rest(self) -> Iterator[Pairs]:
        """Everything that was not given before."""
        while (piece := self._held or next(self._pieces, None)) is not None:
            self._held = None
            yield piece


def _whole_users(blocks: Iterable[Pairs]) -> Iterator[Pairs]:
    """The blocks, cut between users: the last user of one may go on in the next."""
    users, items = np.empty(0), np.empty(0)
    for more_users, more_items in blocks:
        if users.size:
            more_users, more_items = np.concatenate([users, more_users]), np.concatenate([items, more_items])
        users, items = more_users, more_items
        whole = int(np.searchsorted(users, users[-1], side="left")) if users.size else 0
        if whole:
            yield users[:whole], items[:whole]
            users, items = users[whole:], items[whole:]
    if users.size:
        yield users, items


def _matrix(cells: list[Pairs], first: int, n_users: int, n_items: int) -> sparse.csr_matrix:
    """Cells (row, column), rows from `first`, as a matrix of seen items."""
    rows = np.concatenate([rows for rows, _ in cells] or [np.empty(0, np.intp)]) - first
    cols = np.concatenate([cols for _, cols in cells] or [np.empty(0, np.intp)])
    return sparse.csr_matrix((np.ones(rows.size, np.int8), (rows, cols)), shape=(n_users, n_items))
