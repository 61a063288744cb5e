"""Every user of a model, in blocks of bounded memory, to a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.publishing.recommendations_table import Recommendations
from pipeline.ranking.scorer import FALLBACK, Scorer
from pipeline.ranking.topk import TopK

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
    n_flat : users whose best score is 0: their lists are in the order of ids
    n_unknown : users of the warehouse who are not in the model (seen while scoring)
    n_rows : rows written
    n_fallback_rows : of these, rows of users who are not in the model
    n_forgotten : users of the model or the warehouse who were forgotten, and got none
    n_promoted : rows of promoted items
    """

    n_users: int
    n_with_items: int
    n_short: int
    n_flat: int
    n_unknown: int
    n_rows: int
    n_forgotten: int = 0
    n_fallback_rows: int = 0
    n_promoted: int = 0


def score_all(
    scorer: Scorer,
    sink: Sink,
    k: int = 10,
    *,
    seen_now: Iterable[Pairs] = (),
    unknown_popular: bool = False,
    forgotten: Callable[[NDArray[Any]], NDArray[np.bool_]] = lambda ids: np.zeros(ids.size, np.bool_),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> BatchSummary:
    """Rank for every user and write (user, rank, item, score, source) rows, users in ascending order.

    Parameters
    ----------
    seen_now : blocks of (user ids, item ids) in ascending order of users, left out besides what
        the artifact has as seen; ids the model does not know are no fault
    unknown_popular : give users of `seen_now` who are not in the model the most popular items
    forgotten : which of these ids (n,) are users who were forgotten: they get no list
    """
    users, n_users = scorer.users, len(scorer.users)
    stream = _ByUser(seen_now)
    written = _Written(sink, scorer, k, forgotten)

    def write_strangers(ids: NDArray[Any], seen: sparse.csr_matrix) -> None:
        kept = written.remembered(ids)
        written.unknown += int(np.count_nonzero(kept))
        if unknown_popular and kept.any():
            popular = scorer.popular_rows(int(np.count_nonzero(kept)), k, seen=seen[kept])
            written.fallback += written.write(ids[kept], popular, FALLBACK)

    for start in range(0, n_users, _USERS_A_BLOCK):
        rows = np.arange(start, min(start + _USERS_A_BLOCK, n_users))
        cells: list[Pairs] = []
        for pairs in stream.up_to(users.values[rows[-1]]):
            known, strangers = _match(scorer, pairs)
            cells.append(known)
            write_strangers(*strangers)
        top = scorer.recommend_rows(rows, k, also_seen=_matrix(cells, start, rows.size, len(scorer.items)))
        written.users(users.values[rows], top)
        scorer.model.release()
        progress(start + rows.size, n_users)
    for pairs in stream.rest():
        write_strangers(*_match(scorer, pairs)[1])
    return written.summary()


class _Written:
    """Writes lists to the sink, and counts them."""

    def __init__(
        self, sink: Sink, scorer: Scorer, k: int, forgotten: Callable[[NDArray[Any]], NDArray[np.bool_]]
    ) -> None:
        self._sink, self._scorer, self._k, self._forgotten = sink, scorer, k, forgotten
        self._with_items = self._short = self._flat = self._gone = self._rows = self._promoted = 0
        self.unknown = self.fallback = 0

    def remembered(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the users were not forgotten; the others are counted."""
        gone = self._forgotten(ids)
        self._gone += int(np.count_nonzero(gone))
        return ~gone

    def users(self, ids: NDArray[Any], top: TopK) -> None:
        """Write the lists of users of the model."""
        kept = self.remembered(ids)
        top = top.of_rows(kept)
        self.write(ids[kept], top, self._scorer.source)
        counts = np.count_nonzero(top.items >= 0, axis=1)
        self._with_items += int(np.count_nonzero(counts))
        self._short += int(np.count_nonzero(counts < self._k))
        self._flat += int(np.count_nonzero((counts > 0) & (top.scores[:, 0] == 0)))

    def write(self, ids: NDArray[Any], top: TopK, source: str) -> int:
        """Write the lists; returns the number of their rows."""
        block = _flat(ids, top, self._scorer, source)
        self._sink.write(block)
        self._rows += block.ranks.size
        self._promoted += int(np.count_nonzero(block.sources != source))
        return block.ranks.size

    def summary(self) -> BatchSummary:
        """The counts."""
        users = len(self._scorer.users), self._with_items, self._short, self._flat, self.unknown
        return BatchSummary(*users, self._rows, self._gone, self.fallback, self._promoted)


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


def _match(scorer: Scorer, pairs: Pairs) -> tuple[Pairs, tuple[NDArray[Any], sparse.csr_matrix]]:
    """Rows and columns of the model's users and items; ids and a matrix of users who are not in it."""
    user_ids, item_ids = pairs
    cols = scorer.items.rows(item_ids, missing="negative")
    rows = scorer.users.rows(user_ids, missing="negative")
    known = (rows >= 0) & (cols >= 0)
    strange = rows < 0
    ids, position = np.unique(user_ids[strange], return_inverse=True)
    seen = cols[strange] >= 0
    cells = (position[seen], cols[strange][seen])
    return (rows[known], cols[known]), (ids, _matrix([cells], 0, ids.size, len(scorer.items)))


def _matrix(cells: list[Pairs], first: int, n_users: int, n_items: int) -> sparse.csr_matrix:
    """Cells (row, column), rows from `first`, as a matrix of seen items."""
    rows = np.concatenate([rows for rows, _ in cells] or [np.empty(0, np.intp)]) - first
    cols = np.concatenate([cols for _, cols in cells] or [np.empty(0, np.intp)])
    return sparse.csr_matrix((np.ones(rows.size, np.int8), (rows, cols)), shape=(n_users, n_items))


def _flat(user_ids: NDArray[Any], top: TopK, scorer: Scorer, source: str) -> Recommendations:
    of, rank = np.nonzero(top.items >= 0)
    return Recommendations(
        user_ids[of],
        (rank + 1).astype(np.uint16),
        scorer.items.values[top.items[of, rank]],
        top.scores[of, rank],
        top.sources(source)[of, rank],
    )
