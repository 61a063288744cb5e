"""Every user of a model, in blocks of bounded memory, to a sink; by this process, or by an engine with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.publishing.lists import Recommendations
from pipeline.publishing.user_blocks import Pairs, UserBlock, UserBlocks
from pipeline.ranking.scorer import FALLBACK, Scorer
from pipeline.ranking.topk import TopK

__all__ = ["BatchSummary", "Rank", "ScoredBlock", "Sink", "score_all", "score_block"]

_USERS_A_BLOCK = 16384


class Sink(Protocol):
    """Takes the recommendations block by block."""

    def write(self, block: Recommendations) -> None:
        """Take one block."""


@dataclass(frozen=True)
class BatchSummary:
    """Counts of a batch, or of one block of it. `+` adds them.

    Attributes
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

    def __add__(self, other: BatchSummary) -> BatchSummary:
        mine, more = asdict(self), asdict(other)
        return BatchSummary(**{name: mine[name] + more[name] for name in mine})


@dataclass(frozen=True, eq=False)
class ScoredBlock:
    """The lists of a block of users, and its counts."""

    lists: Recommendations
    summary: BatchSummary


# What finds the lists of the blocks: gives each block's once, in the order of the blocks.
Rank = Callable[[Iterable[UserBlock]], Iterator[ScoredBlock]]


def score_all(
    scorer: Scorer,
    sink: Sink,
    k: int = 10,
    *,
    seen_now: Iterable[Pairs] = (),
    unknown_popular: bool = False,
    forgotten: Callable[[NDArray[Any]], NDArray[np.bool_]] = lambda ids: np.zeros(ids.size, np.bool_),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    rank: Rank | None = None,
    users_a_block: int | None = None,
) -> BatchSummary:
    """Rank for every user and write (user, rank, item, score, source) rows, users in ascending order.

    Parameters
    ----------
    seen_now : blocks of (user ids, item ids) in ascending order of users, left out besides what
        the artifact has as seen; ids the model does not know are no fault
    unknown_popular : give users of `seen_now` who are not in the model the most popular items
    forgotten : which of these ids (n,) are users who were forgotten: they get no list
    rank : finds the lists of the blocks by `score_block`; default, this process
    users_a_block : lists do not depend on it
    """
    size = users_a_block or _USERS_A_BLOCK
    blocks = UserBlocks(scorer.users, scorer.items, seen_now, forgotten, size, unknown_popular)
    total = BatchSummary(0, 0, 0, 0, 0, 0)
    for scored in (rank or _here(scorer, k))(blocks):
        sink.write(scored.lists)
        total += scored.summary
        if scored.summary.n_users:
            progress(total.n_users, len(scorer.users))
    return total + BatchSummary(0, 0, 0, 0, blocks.n_unknown, 0, blocks.n_forgotten)


def _here(scorer: Scorer, k: int) -> Rank:
    def rank(blocks: Iterable[UserBlock]) -> Iterator[ScoredBlock]:
        for block in blocks:
            yield score_block(scorer, block, k)
            scorer.model.release()

    return rank


def score_block(scorer: Scorer, block: UserBlock, k: int, n_threads: int | None = None) -> ScoredBlock:
    """The lists of a block: by the model, or the most popular items for users who are not in it.

    n_threads : default, the cores this process may use
    """
    n, source = block.ids.size, scorer.source if block.rows is not None else FALLBACK
    if not n:
        top = TopK(np.empty((0, k), np.int32), np.empty((0, k), np.float32))
    elif block.rows is None:
        top = scorer.popular_rows(n, k, seen=block.seen)
    else:
        top = scorer.recommend_rows(block.rows, k, also_seen=block.seen, n_threads=n_threads)
    lists = _flat(block.ids, top, scorer, source)
    n_rows, n_promoted = lists.ranks.size, int(np.count_nonzero(lists.sources != source))
    if block.rows is None:
        return ScoredBlock(lists, BatchSummary(0, 0, 0, 0, 0, n_rows, 0, n_rows, n_promoted))
    counts = np.count_nonzero(top.items >= 0, axis=1)
    of_users = (
        block.n_users,
        int(np.count_nonzero(counts)),
        int(np.count_nonzero(counts < k)),
        int(np.count_nonzero((counts > 0) & (top.scores[:, 0] == 0))),
    )
    return ScoredBlock(lists, BatchSummary(*of_users, 0, n_rows, n_promoted=n_promoted))


def _flat(user_ids: NDArray[Any], top: TopK, scorer: Scorer, source: str) -> Recommendations:
    of, rank = np.nonzero(top.items >= 0)
    return Recommendations(
        user_ids[of],
        (rank + 1).astype(np.uint16),
        scorer.items.values[top.items[of, rank]],
        top.scores[of, rank],
        top.sources(source)[of, rank],
    )
