"""Promoted items in lists: a few of each label, never items that are seen or hidden.

A list is found without promotions first. Then, for each label in turn, the `quota` best of its items for the user are
looked at, the best first:

- one that is in the list by its own score stays there as it is;
- one that is not takes the place of the last item that is neither promoted nor among those `quota` of any label.

Then the list is sorted by score again. So what was promoted stands at its end, and the other items keep their order. A
promoted item that would break the limit on genres is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.diversity import Find, GenreLimit
from pipeline.ranking.topk_numpy import ListRequest, TopK

__all__ = ["Promotion", "with_promotions"]


@dataclass(frozen=True, eq=False)
class Promotion:
    """Attributes
    ----------
    label : what readers are told; "" for nothing
    quota : how many items a list may hold because of it, ≥ 1
    items : (n_items,) bool, which items are promoted
    """

    label: str
    quota: int
    items: NDArray[np.bool_]

    @property
    def source(self) -> str:
        """The source of rows that are promoted: ``promoted:spring``, or ``promoted`` without a label."""
        return f"promoted:{self.label}" if self.label else "promoted"


def with_promotions(
    find: Find, request: ListRequest, top: TopK, promotions: Sequence[Promotion], limit: GenreLimit | None
) -> TopK:
    """The lists with promoted items in them.

    Parameters
    ----------
    request : the lists that were asked for; what it leaves out and hides is not promoted
    top : those lists, without promotions
    limit : that they obey
    """
    best = [_best(find, request, promotion) for promotion in promotions]
    lists = _Lists(top, best, limit)
    for number, of_label in enumerate(best):
        for place in range(of_label.items.shape[1]):
            lists.put(of_label.items[:, place], of_label.scores[:, place], number)
    return lists.sorted([promotion.source for promotion in promotions])


def _best(find: Find, request: ListRequest, promotion: Promotion) -> TopK:
    """The `quota` best items of the promotion for each user, or as many as a list may have."""
    hidden = ~promotion.items if request.hidden is None else request.hidden | ~promotion.items
    n_items = int(np.count_nonzero(~hidden))
    return find(request._replace(k=min(promotion.quota, request.k, max(n_items, 1)), hidden=hidden))


class _Lists:
    """Lists that promoted items are put into.

    Attributes
    ----------
    items, scores : (n, k), as `TopK`
    promoted : (n, k) number of the promotion that put the item there, -1 where it is there by its own score
    kept : (n, k) items that are not replaced, since a promotion would put them there
    """

    def __init__(self, top: TopK, best: Sequence[TopK], limit: GenreLimit | None) -> None:
        self.items, self.scores, self._limit = top.items.copy(), top.scores.copy(), limit
        self.promoted = np.full(self.items.shape, -1, np.int16)
        self.kept = np.zeros(self.items.shape, np.bool_)
        for of_label in best:
            for items in of_label.items.T:
                self.kept |= self.items == items[:, None]

    def put(self, items: NDArray[np.int32], scores: NDArray[np.float32], number: int) -> None:
        """Put items[i] into list i for the promotion of this number, if it is not there and fits."""
        empty = self.items < 0
        open_places = empty | ((self.promoted < 0) & ~self.kept)
        absent = (items >= 0) & ~(self.items == items[:, None]).any(axis=1)
        rows = np.flatnonzero(absent & open_places.any(axis=1))
        last = self.items.shape[1] - 1 - open_places[rows, ::-1].argmax(axis=1)
        # Past its end a list that is not full has its first empty place.
        places = np.where(empty[rows].any(axis=1), empty[rows].argmax(axis=1), last)
        if self._limit is not None:
            others = self.items[rows]
            others[np.arange(rows.size), places] = -1
            fits = ~self._limit.blocked(items[rows], self._limit.counts(others))
            rows, places = rows[fits], places[fits]
        self.items[rows, places], self.scores[rows, places] = items[rows], scores[rows]
        self.promoted[rows, places] = number

    def sorted(self, sources: Sequence[str]) -> TopK:
        """The lists by score, ties by item row."""
        order = np.lexsort((self.items, -self.scores, self.items < 0), axis=1)
        top = TopK(np.take_along_axis(self.items, order, axis=1), np.take_along_axis(self.scores, order, axis=1))
        top.promoted, top.promotions = np.take_along_axis(self.promoted, order, axis=1), tuple(sources)
        return top
