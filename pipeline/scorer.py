"""`Scorer`: from a user to their best unseen items. numpy and scipy alone, over the saved artifact.

Everything that ranks (evaluation, the batch job, the pyfunc) ranks here, so a metric describes
what ships. The lists are exact and the same for any block size, BLAS or number of threads:
float32 products only find candidates, with a margin for their rounding; those are scored again by
`FactorModel.predict`'s definition and sorted by (score, item id).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.artifact import FactorModel
from pipeline.errors import InputError, RowRangeError, UnknownItemError, UnknownUserError, UsageError
from pipeline.ids import IdMap

__all__ = ["Ranking", "Scorer", "TopK", "Unknown"]

Unknown = Literal["error", "popular"]

# A block's score matrix; small enough to stay near the cache, large enough for the BLAS.
BLOCK_BYTES = 32 * 2**20


class _Pair(NamedTuple):
    items: NDArray[Any]
    scores: NDArray[np.float32]


class Ranking(_Pair):
    """``items, scores = …``: external ids and their scores, best first; `source` says who ranked."""

    source: str = "nmf"


class TopK(NamedTuple):
    """Ranked items of a block of users, padded at the end where fewer than k are left.

    items : (n, k) int32 item rows, -1 where padded
    scores : (n, k) float32, 0 where padded
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class Scorer:
    """Ranks items for users of one model.

    Parameters
    ----------
    model : the factors, ids and seen items
    source : what to call these scores in the published table
    """

    def __init__(self, model: FactorModel, source: str = "nmf") -> None:
        self.model = model
        self.source = source

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> Scorer:
        """From a folder with the four artifacts; checks the format number and the sha256s.

        Raises ArtifactError.
        """
        return cls(FactorModel.load(folder, mapped=mapped))

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""
        return self.model.users

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""
        return self.model.items

    # ---- by external id ---------------------------------------------------------------------

    def recommend(
        self,
        user_id: int | str,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: Sequence[int | str] | None = None,
        deny: Sequence[int | str] | None = None,
        unknown: Unknown = "error",
    ) -> Ranking:
        """The user's k best items, best first; fewer where fewer are left.

        Parameters
        ----------
        exclude_seen : leave out what the user has interacted with, whatever the score
        allow : only these items (ids the model does not know are passed over)
        deny : none of these items
        unknown : for a user who is not in the model, raise, or give the most popular items
            (`Ranking.source` is then ``"popular"`` and the scores are numbers of interactions)

        Raises
        ------
        UnknownUserError
        """
        if unknown not in ("error", "popular"):
            raise UsageError(f"unknown must be 'error' or 'popular', got {unknown!r}")
        allowed = None if allow is None else self._known_items(allow)
        denied = None if deny is None else self._known_items(deny)
        row = self._user_row(user_id)
        # No list is longer than there are items, whatever a caller asks for.
        k = min(k, max(1, len(self.items)))
        if row < 0:
            if unknown == "error":
                raise UnknownUserError(
                    f"Unknown user {user_id!r}: not among the {len(self.users)} users of the model. "
                    "unknown='popular' (--unknown popular) gives the most popular items instead."
                )
            top = self.popular_rows(1, k, allow=allowed, deny=denied)
        else:
            top = self.recommend_rows([row], k, exclude_seen=exclude_seen, allow=allowed, deny=denied)
        n = int(np.count_nonzero(top.items[0] >= 0))
        ranking = Ranking(self.items.ids(top.items[0, :n]), top.scores[0, :n])
        ranking.source = self.source if row >= 0 else "popular"
        return ranking

    def predict(self, user_id: int | str, item_ids: ArrayLike) -> NDArray[np.float32]:
        """Scores of the items for the user, (n,). Raises UnknownUserError, UnknownItemError."""
        row = self._user_row(user_id)
        if row < 0:
            raise UnknownUserError(f"Unknown user {user_id!r}: not among the {len(self.users)} users of the model")
        wanted = np.atleast_1d(np.asarray(item_ids))
        cols = self.items.rows(wanted, missing="negative")
        if cols.size and cols.min() < 0:
            some = wanted[cols < 0].tolist()
            raise UnknownItemError(f"Unknown item(s) {some[:5]}: not among the {len(self.items)} items of the model")
        return self.model.predict(np.full(cols.size, row), cols)

    def _user_row(self, user_id: int | str) -> int:
        """The user's row, -1 for an unknown one."""
        if isinstance(user_id, int) and not -(2**63) <= user_id < 2**63:
            return -1
        return int(self.users.rows([user_id], missing="negative")[0])

    def _known_items(self, ids: Sequence[int | str]) -> NDArray[np.int32]:
        rows = self.items.rows(list(ids), missing="negative")
        return np.unique(rows[rows >= 0])

    # ---- by row, for many users ---------------------------------------------------------------

    def recommend_rows(
        self,
        rows: ArrayLike,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        also_seen: sparse.csr_matrix | None = None,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
    ) -> TopK:
        """The k best items of each user row, by score, ties by item id.

        Parameters
        ----------
        rows : (n,) user rows
        also_seen : csr (n, n_items) of further items to leave out, row i for rows[i]
        allow, deny : sorted item rows to choose from, and to leave out
        """
        index = np.atleast_1d(np.asarray(rows))
        if index.size and index.dtype.kind not in "iu":
            raise InputError(f"User rows must be integers, got {index.dtype}")
        if index.size and (index.min() < 0 or index.max() >= len(self.users)):
            raise RowRangeError(f"User IDs must be in range [0, {len(self.users)})")
        index = index.astype(np.intp, copy=False)
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        if also_seen is not None and also_seen.shape != (index.size, len(self.items)):
            raise InputError(f"also_seen has shape {also_seen.shape}, not {(index.size, len(self.items))}")
        items = np.full((index.size, k), -1, np.int32)
        scores = np.zeros((index.size, k), np.float32)
        if not len(self.items):
            return TopK(items, scores)
        step = max(1, BLOCK_BYTES // (4 * max(1, len(self.items))))
        hidden = self._hidden(allow, deny)
        for start in range(0, index.size, step):
            block = slice(start, start + step)
            masks = [hidden] if hidden is not None else []
            leave_out = [_cells(self.model.seen, index[block])] if exclude_seen else []
            if also_seen is not None:
                leave_out.append(_cells(also_seen, np.arange(index.size)[block]))
            items[block], scores[block] = self._top_k(index[block], k, leave_out, masks)
        return TopK(items, scores)

    def popular_rows(
        self,
        n: int,
        k: int = 10,
        *,
        seen: sparse.csr_matrix | None = None,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
    ) -> TopK:
        """The k most popular items for each of n users; scores are numbers of interactions."""
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        count = self._popularity
        hidden = self._hidden(allow, deny)
        order = np.argsort(-count, kind="stable").astype(np.int32)
        if hidden is not None:
            order = order[~hidden[order]]
        items = np.full((n, k), -1, np.int32)
        scores = np.zeros((n, k), np.float32)
        for u in range(n):
            best = order
            if seen is not None:
                mine = seen.indices[seen.indptr[u] : seen.indptr[u + 1]]
                # Of the first k + |seen| at least k are unseen, where that many are.
                best = order[: k + mine.size]
                best = best[~np.isin(best, mine)]
            best = best[:k]
            items[u, : best.size] = best
            scores[u, : best.size] = count[best]
        return TopK(items, scores)

    def _hidden(self, allow: NDArray[np.int32] | None, deny: NDArray[np.int32] | None) -> NDArray[np.bool_] | None:
        if allow is None and deny is None:
            return None
        hidden = np.zeros(len(self.items), bool)
        if allow is not None:
            hidden[:] = True
            hidden[allow] = False
        if deny is not None:
            hidden[deny] = True
        return hidden

    @cached_property
    def _popularity(self) -> NDArray[np.int64]:
        return np.bincount(self.model.seen.indices, minlength=len(self.items))

    @cached_property
    def _largest_item_norm(self) -> float:
        h = self.model.item_factors
        return float(np.sqrt(np.einsum("tn,tn->n", h, h, dtype=np.float64).max(initial=0.0)))

    def _top_k(
        self,
        rows: NDArray[np.intp],
        k: int,
        leave_out: list[tuple[NDArray[np.intp], NDArray[np.int32]]],
        masks: list[NDArray[np.bool_]],
    ) -> TopK:
        """One block: float32 scores → candidates → exact scores → the k best.

        Items are dealt into `n_groups` groups (item i to group i mod n_groups); the k-th largest
        of the groups' maxima is a lower bound on the k-th best score, so only groups that reach it
        are looked into. A pass of maxima costs a fraction of a partition of every row.
        """
        n_items = len(self.items)
        n_groups = min(n_items, max(4 * k, -(-n_items // 64)))
        depth = -(-n_items // n_groups)
        w = np.ascontiguousarray(self.model.user_factors[rows])
        norms = np.sqrt(np.einsum("ut,ut->u", w, w, dtype=np.float64))
        # No partial sum passes |w|·|h|; where that passes float32, an infinite or NaN product would
        # be taken for a hidden item, so these rows are scored item by item.
        overflows = norms * self._largest_item_norm >= 2.0**126
        w[overflows] = 0
        scores = np.empty((rows.size, depth * n_groups), np.float32)
        np.matmul(w, self.model.item_factors, out=scores[:, :n_items])
        scores[:, n_items:] = -np.inf
        for of, item in leave_out:
            scores[of, item] = -np.inf
        for mask in masks:
            scores[:, :n_items][:, mask] = -np.inf

        grouped = scores.reshape(rows.size, depth, n_groups)
        best = grouped.max(axis=1)
        bound = (
            np.partition(best, n_groups - k, axis=1)[:, n_groups - k]
            if k <= n_groups
            else np.full(rows.size, -np.inf, np.float32)
        )
        # |fl(w·h) - w·h| ≤ k·2⁻²⁴·|w|·|h| to first order (Higham 2002, §3.1), for the bound and for
        # the candidate; the rest of the factor 4 covers the higher orders. Below 2⁻¹²⁶ a product loses
        # up to 2⁻¹⁵⁰ however small it is: the second term.
        margin = 4 * self.model.n_components * (2.0**-24 * norms * self._largest_item_norm + 2.0**-149)
        with np.errstate(over="ignore"):
            threshold = np.where(np.isneginf(bound), bound, bound - margin).astype(np.float32)

        reached = (best >= threshold[:, None]) & (best > -np.inf)
        # Rows of ties (all-zero factors, say) would make every item a candidate at once.
        tied = overflows | (np.count_nonzero(reached, axis=1) > 4 * k + 64)
        reached[tied] = False
        of, group = np.nonzero(reached)
        values = grouped[of, :, group]
        pick, layer = np.nonzero((values >= threshold[of, None]) & (values > -np.inf))
        of, item = of[pick], layer * n_groups + group[pick]

        items_out = np.full((rows.size, k), -1, np.int32)
        scores_out = np.zeros((rows.size, k), np.float32)
        exact = self.model.predict(rows[of], item)
        order = np.lexsort((item, -exact, of))
        of, item, exact = of[order], item[order], exact[order]
        rank = np.arange(of.size) - np.searchsorted(of, of)
        keep = rank < k
        items_out[of[keep], rank[keep]] = item[keep]
        scores_out[of[keep], rank[keep]] = exact[keep]
        for u in np.flatnonzero(tied):
            left = np.flatnonzero(scores[u, :n_items] > -np.inf)
            exact = self.model.predict(np.full(left.size, rows[u]), left)
            top = np.argsort(-exact, kind="stable")[:k]
            items_out[u, : top.size] = left[top]
            scores_out[u, : top.size] = exact[top]
        return TopK(items_out, scores_out)


def _cells(matrix: sparse.csr_matrix, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The stored cells of some rows, as positions in `rows` and columns.

    scipy's own row indexing copies all of a matrix whose indices are mapped from disk, for each block.
    """
    start = matrix.indptr[rows].astype(np.intp)
    count = matrix.indptr[rows + 1].astype(np.intp) - start
    of = np.repeat(np.arange(rows.size), count)
    position = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
    return of, matrix.indices[np.repeat(start, count) + position]
