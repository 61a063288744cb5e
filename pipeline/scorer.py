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
from pipeline.errors import BadRowsError, InputError, RowRangeError, UnknownItemError, UnknownUserError, UsageError
from pipeline.foldin import Folder
from pipeline.ids import IdMap
from pipeline.topk import Finder, LeftOut, TopK, check_columns

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
        self._compiled = compiled
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
        return self._ranking(top, self.source if row >= 0 else "popular")

    def predict(self, user_id: int | str, item_ids: ArrayLike) -> NDArray[np.float32]:
        """Scores of the items for the user, (n,). Raises UnknownUserError, UnknownItemError."""
        row = self._user_row(user_id)
        if row < 0:
            raise UnknownUserError(f"Unknown user {user_id!r}: not among the {len(self.users)} users of the model")
        wanted = np.atleast_1d(np.asarray(item_ids))
        cols = self.items.rows(wanted, missing="negative")
        if cols.size and cols.min() < 0:
            raise self._unknown_items(wanted[cols < 0])
        return self.model.predict(np.full(cols.size, row), cols)

    def _user_row(self, user_id: int | str) -> int:
        """The user's row, -1 for an unknown one."""
        if isinstance(user_id, int) and not -(2**63) <= user_id < 2**63:
            return -1
        return int(self.users.rows([user_id], missing="negative")[0])

    def _unknown_items(self, ids: NDArray[Any]) -> UnknownItemError:
        return UnknownItemError(
            f"Unknown item(s) {ids[:5].tolist()}: not among the {len(self.items)} items of the model"
        )

    def _known_items(self, ids: Sequence[int | str]) -> NDArray[np.int32]:
        rows = self.items.rows(list(ids), missing="negative")
        return np.unique(rows[rows >= 0])

    # ---- users the model was not trained on, or whose scores have changed ---------------------

    def fold_in(
        self, items: ArrayLike, scores: ArrayLike | None = None, *, missing: Literal["error", "skip"] = "error"
    ) -> NDArray[np.float32]:
        """Factors (k,) of one user, from their items and scores; a training user's own row comes back.

        Not where the model was trained with scores that fade (`half_life_days`): here all count as of today.

        Parameters
        ----------
        items : (n,) external ids, each once; none at all is a user of whom nothing is known
        scores : (n,) as they were before the fit's transform, finite and ≥ 0; default, 1 each
        missing : what to do with items the model does not know: raise, or leave them out

        Raises
        ------
        UnknownItemError, BadRowsError, InputError
        """
        if missing not in ("error", "skip"):
            raise UsageError(f"missing must be 'error' or 'skip', got {missing!r}")
        wanted = np.atleast_1d(np.asarray(items))
        cols = self.items.rows(wanted, missing="negative")
        values = np.ones(cols.size, np.float32) if scores is None else _floats(scores)
        if values.shape != cols.shape:
            raise InputError(f"{cols.size} items and {values.size} scores: one score an item")
        known = cols >= 0
        if missing == "error" and not known.all():
            raise self._unknown_items(wanted[~known])
        cols, values = cols[known], values[known]
        # A sum of float32 in the order of training.
        order = np.argsort(cols, kind="stable")
        cols, values = cols[order], values[order]
        twice = cols[1:][cols[1:] == cols[:-1]]
        if twice.size:
            raise InputError(f"Item(s) {self.items.ids(twice[:5]).tolist()} are there twice: one score an item")
        factors: NDArray[np.float32] = self._folder.fold(np.array([0, cols.size]), cols, values)[0]
        return factors

    def fold_in_rows(self, cells: sparse.csr_matrix, n_threads: int | None = None) -> NDArray[np.float32]:
        """Factors (n, k) of many users; `cells` is csr (n, n_items) of scores as they were before the transform.

        Raises BadRowsError, InputError.
        """
        return self._folder.fold_matrix(cells, n_threads)

    def recommend_for(
        self,
        user_factors: ArrayLike,
        k: int = 10,
        *,
        seen: Sequence[int | str] = (),
        allow: Sequence[int | str] | None = None,
        deny: Sequence[int | str] | None = None,
    ) -> Ranking:
        """`recommend` for factors (k,) of a user who need not be in the model, as `fold_in` gives them.

        Parameters
        ----------
        seen : items to leave out; of these, of `allow` and of `deny`, ids the model does not know are passed over

        Raises
        ------
        InputError
            For factors of another size, or not finite.
        """
        factors = np.asarray(user_factors)
        if factors.ndim != 1:
            raise InputError(f"One user's factors have shape (k,), not {factors.shape}")
        mine = self._known_items(seen)
        left_out = [LeftOut(np.array([0, mine.size]), mine, np.zeros(1, np.intp))]
        allowed = None if allow is None else self._known_items(allow)
        denied = None if deny is None else self._known_items(deny)
        k = min(k, max(1, len(self.items)))
        rows, factors = np.zeros(1, np.intp), self._checked(factors[None])
        return self._ranking(self._find(factors, rows, k, left_out, None, allowed, denied, None, ""), self.source)

    def _ranking(self, top: TopK, source: str) -> Ranking:
        n = int(np.count_nonzero(top.items[0] >= 0))
        ranking = Ranking(self.items.ids(top.items[0, :n]), top.scores[0, :n])
        ranking.source = source
        return ranking

    def rank(
        self,
        user_factors: ArrayLike,
        k: int = 10,
        *,
        seen: sparse.csr_matrix | None = None,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
        n_threads: int | None = None,
    ) -> TopK:
        """The k best items for each row of `user_factors` (n, k), whoever they belong to, in item rows.

        Parameters
        ----------
        seen : csr (n, n_items) of items to leave out
        allow, deny : item rows to choose from, and to leave out
        """
        factors = self._checked(user_factors)
        rows = np.arange(factors.shape[0])
        return self._find(factors, rows, k, [], seen, allow, deny, n_threads, "seen")

    def _checked(self, user_factors: ArrayLike) -> NDArray[np.float32]:
        factors = np.ascontiguousarray(user_factors, np.float32)
        if factors.ndim != 2 or factors.shape[1] != self.model.n_components:
            raise InputError(f"User factors have shape {factors.shape}, not (n, {self.model.n_components})")
        if not np.isfinite(factors).all():
            raise InputError("User factors must be finite")
        return factors

    def prepare(self) -> None:
        """Do now what the first calls would do: load compiled kernels, arrange the items.

        For a service that answers one user at a time: a call after it takes well under a millisecond.
        """
        self._finder.prepare()
        self._folder.prepare()

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self.model.item_factors, self.model.meta, self._compiled)

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
        left_out = [LeftOut(self.model.seen.indptr, self.model.seen.indices, index)] if exclude_seen else []
        factors = self.model.user_factors
        return self._find(factors, index, k, left_out, also_seen, allow, deny, n_threads, "also_seen")

    def _find(
        self,
        user_factors: NDArray[np.float32],
        rows: NDArray[np.intp],
        k: int,
        left_out: list[LeftOut],
        seen: sparse.csr_matrix | None,
        allow: NDArray[np.int32] | None,
        deny: NDArray[np.int32] | None,
        n_threads: int | None,
        name: str,
    ) -> TopK:
        """`Finder.find`, with `seen` (row i for rows[i]; the caller's argument `name`) left out too."""
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        if seen is not None:
            if seen.shape != (rows.size, len(self.items)):
                raise InputError(f"{name} has shape {seen.shape}, not {(rows.size, len(self.items))}")
            check_columns(seen, name)
            left_out = [*left_out, LeftOut(seen.indptr, seen.indices, np.arange(rows.size))]
        return self._finder.find(user_factors, rows, k, left_out, self._hidden(allow, deny), n_threads)

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


def _floats(scores: ArrayLike) -> NDArray[np.float32]:
    """Scores as float32, (n,). Raises BadRowsError for what is no number."""
    try:
        with np.errstate(over="ignore"):
            return np.atleast_1d(np.asarray(scores, np.float64)).astype(np.float32)
    except (TypeError, ValueError):
        raise BadRowsError("1 or more scores are not numbers") from None
