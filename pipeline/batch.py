"""Every user of a model, in blocks of bounded memory, to a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.scorer import Scorer, TopK
from pipeline.sinks import Recommendations

__all__ = ["BatchSummary", "Sink", "score_all"]

Pairs = tuple[NDArray[Any], NDArray[Any]]

_USERS_A_BLOCK = 16384


class Sink(Protocol):
    """Takes the recommendations block by block."""

    def write(self, block: Recommendations) -> None:
        """Take one block."""


@dataclass(frozen=True)
class BatchSummary:
    """Attributes
    ----------
    n_users : users of the model
    n_with_items : users who got at least one item
    n_short : users who got fewer than k: so few were unseen
    n_unknown : users of the warehouse who are not in the model (seen while scoring)
    n_rows : rows written
    """

    n_users: int
    n_with_items: int
    n_short: int
    n_unknown: int
    n_rows: int


def score_all(
    scorer: Scorer,
    sink: Sink,
    k: int = 10,
    *,
    seen_now: Iterable[Pairs] = (),
    unknown_popular: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> BatchSummary:
    """Rank for every user and write (user, rank, item, score, source) rows, users in ascending order.

    Parameters
    ----------
    seen_now : blocks of (user ids, item ids) in ascending order of users, left out besides what
        the artifact has as seen; ids the model does not know are no fault
    unknown_popular : give users of `seen_now` who are not in the model the most popular items
    """
    users, n_users = scorer.users, len(scorer.users)
    stream = _ByUser(seen_now)
    with_items = short = unknown = n_rows = 0

    def write_strangers(ids: NDArray[Any], seen: sparse.csr_matrix | None) -> int:
        nonlocal unknown
        unknown += ids.size
        if not (unknown_popular and ids.size):
            return 0
        block = _flat(ids, scorer.popular_rows(ids.size, k, seen=seen), scorer, "popular")
        sink.write(block)
        return block.ranks.size

    for start in range(0, n_users, _USERS_A_BLOCK):
        rows = np.arange(start, min(start + _USERS_A_BLOCK, n_users))
        also_seen, strangers = _match(scorer, rows, stream.up_to(users.values[rows[-1]]))
        top = scorer.recommend_rows(rows, k, also_seen=also_seen)
        block = _flat(users.values[rows], top, scorer, scorer.source)
        sink.write(block)
        counts = np.count_nonzero(top.items >= 0, axis=1)
        with_items += int(np.count_nonzero(counts))
        short += int(np.count_nonzero(counts < k))
        n_rows += block.ranks.size + write_strangers(*strangers)
        scorer.model.release()
        progress(start + rows.size, n_users)
    for pairs in stream.rest():
        n_rows += write_strangers(*_match(scorer, np.empty(0, np.intp), [pairs])[1])
    return BatchSummary(n_users, with_items, short, unknown, n_rows)


class _ByUser:
    """Cuts a stream of pairs, in ascending order of users, where a block of users ends."""

    def __init__(self, blocks: Iterable[Pairs]) -> None:
        self._blocks: Iterator[Pairs] = iter(blocks)
        self._held: Pairs | None = None

    def up_to(self, last_user: Any) -> list[Pairs]:
        """The pairs of all users ≤ `last_user` that were not given before."""
        given: list[Pairs] = []
        while True:
            block, self._held = self._held or next(self._blocks, None), None
            if block is None:
                return given
            end = int(np.searchsorted(block[0], last_user, side="right"))
            given.append((block[0][:end], block[1][:end]))
            if end < block[0].size:
                self._held = (block[0][end:], block[1][end:])
                return given

    def rest(self) -> Iterator[Pairs]:
        """What was not given before, in blocks that hold each user whole."""
        while (block := self._held or next(self._blocks, None)) is not None:
            self._held = None
            following = next(self._blocks, None)
            if following is not None:
                # The last user may go on in the next block: they go there.
                whole = int(np.searchsorted(block[0], block[0][-1:], side="left")[0]) if block[0].size else 0
                self._held = (
                    np.concatenate([block[0][whole:], following[0]]),
                    np.concatenate([block[1][whole:], following[1]]),
                )
                block = (block[0][:whole], block[1][:whole])
            if block[0].size:
                yield block


def _match(
    scorer: Scorer, rows: NDArray[np.intp], pairs: list[Pairs]
) -> tuple[sparse.csr_matrix | None, tuple[NDArray[Any], sparse.csr_matrix | None]]:
    """Pairs as a matrix for the block's users, and as ids and a matrix for those not in the model."""
    if not pairs:
        return None, (np.empty(0, scorer.users.values.dtype), None)
    user_ids = np.concatenate([users for users, _ in pairs])
    item_cols = scorer.items.rows(np.concatenate([items for _, items in pairs]), missing="negative")
    user_rows = scorer.users.rows(user_ids, missing="negative")
    known = user_rows >= 0
    n_items = len(scorer.items)

    def matrix(of: NDArray[Any], cols: NDArray[Any], n: int) -> sparse.csr_matrix:
        keep = cols >= 0
        return sparse.csr_matrix((np.ones(keep.sum(), np.int8), (of[keep], cols[keep])), shape=(n, n_items))

    first = rows[0] if rows.size else 0
    also_seen = matrix(user_rows[known] - first, item_cols[known], rows.size)
    strangers, position = np.unique(user_ids[~known], return_inverse=True)
    return also_seen, (strangers, matrix(position, item_cols[~known], strangers.size))


def _flat(user_ids: NDArray[Any], top: TopK, scorer: Scorer, source: str) -> Recommendations:
    of, rank = np.nonzero(top.items >= 0)
    return Recommendations(
        user_ids[of],
        (rank + 1).astype(np.uint16),
        scorer.items.values[top.items[of, rank]],
        top.scores[of, rank],
        np.full(of.size, source),
    )
