"""`Scorer`: from a user to their best unseen items. numpy and scipy alone, over the saved artifact.

Everything that ranks (evaluation, the batch job, the pyfunc) ranks here, so a metric describes
what ships. The lists are exact, and the same with compiled kernels and without (`pipeline.topk`).
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
from pipeline.topk import Finder, LeftOut, TopK

__all__ = ["Ranking", "Scorer", "TopK", "Unknown"]

Unknown = Literal["error", "popular"]


class _Pair(NamedTuple):
    items: NDArray[Any]
    scores: NDArray[np.float32]


class Ranking(_Pair):
    """``items, scores = …``: external ids and their scores, best first; `source` says who ranked."""

    source: str = "nmf"


class Scorer:
    """Ranks items for users of one model.

    Parameters
    ----------
    model : the factors, ids and seen items
    source : what to call these scores in the published table
    compiled : use compiled kernels (True, needs numba), numpy alone (False), or what is faster (None):
        the kernels where numba is installed and the work is worth loading it, or it is loaded already
    """

    def __init__(self, model: FactorModel, source: str = "nmf", *, compiled: bool | None = None) -> None:
        self.model = model
        self.source = source
        self._finder = Finder(model.item_factors, model.user_factors, compiled)

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
        n_threads: int | None = None,
    ) -> TopK:
        """The k best items of each user row, by score, ties by item id.

        Parameters
        ----------
        rows : (n,) user rows
        also_seen : csr (n, n_items) of further items to leave out, row i for rows[i]
        allow, deny : sorted item rows to choose from, and to leave out
        n_threads : where compiled kernels find the lists; default, the cores this process may use
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
        left_out = [LeftOut(self.model.seen, index)] if exclude_seen else []
        if also_seen is not None:
            left_out.append(LeftOut(also_seen, np.arange(index.size)))
        return self._finder.find(self.model.user_factors, index, k, left_out, self._hidden(allow, deny), n_threads)

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
