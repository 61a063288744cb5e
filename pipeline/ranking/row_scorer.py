"""`RowScorer`: the k best items for user rows and for user factors, in item rows, by the saved model."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError, UsageError
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.neural_model import NeuralModel
from pipeline.models.popularity_model import PopularityModel
from pipeline.models.saved_model import SavedModel, model_name
from pipeline.models.validation import check_columns, check_rows
from pipeline.ranking.diversity import Find, GenreLimit, find_limited
from pipeline.ranking.finders import FactorFinder, finder_for
from pipeline.ranking.genres import GenreSource
from pipeline.ranking.new_users import with_users
from pipeline.ranking.popularity import PopularityFinder
from pipeline.ranking.promotions import Promotion, with_promotions
from pipeline.ranking.rules import Rules, now_ms
from pipeline.ranking.topk import LeftOut, TopK
from pipeline.ranking.topk_numpy import ListRequest

__all__ = ["RowScorer"]


class RowScorer:
    """Ranks items for the rows of one model; `Scorer` adds the methods that take external ids.

    Parameters
    ----------
    model : a fitted model of any kind: arrays, ids and seen items
    source : name of these scores in the published table; default, the model's name in the registry of models
    compiled : use compiled kernels (True, needs numba), numpy alone (False), or what is faster (None):
        the kernels where numba is installed and the work is worth loading it, or it is loaded already
    """

    def __init__(self, model: SavedModel, source: str | None = None, *, compiled: bool | None = None) -> None:
        self.model = model
        self.source = model_name(model) if source is None else source
        self._compiled = compiled
        self._finder = finder_for(model, compiled)
        self.hidden: NDArray[np.bool_] | None = None
        self.limit: GenreLimit | None = None
        self.promotions: tuple[Promotion, ...] = ()
        self.genre_source = GenreSource()

    def under(self, rules: Rules, at: int | None = None) -> Self:
        """The same scorer, whose lists hold no item that the rules hide, and those that they promote.

        at : the time that counts, milliseconds since 1970; default, now

        Raises InputError for rules that can't be about these items.
        """
        scorer = copy.copy(self)
        at = now_ms() if at is None else at
        scorer.hidden, scorer.promotions = rules.hidden(self.items, at), rules.promotions(self.items, at)
        return scorer

    def limited(self, max_per_genre: int | None, max_per_series: int | None = None) -> Self:
        """The same scorer, whose lists hold at most so many items of one genre, or series (`diversity`); None: any.

        Raises UsageError for a number under 1, InputError for a model whose items have no genres, or no series.
        """
        scorer = copy.copy(self)
        scorer.limit = GenreLimit.of(max_per_genre, max_per_series, self.genre_source)
        return scorer

    def items_of(self, genres: Collection[str]) -> NDArray[np.int32]:
        """Rows of the items that have any of these genres. Raises InputError for a genre of no item."""
        return self.genre_source.genres.rows_of(genres)

    @property
    def users(self) -> IdMap:
        """Ids of the users that can be ranked for."""
        return self.model.users

    @property
    def items(self) -> IdMap:
        """Ids of the items that can be recommended."""
        return self.model.items

    def prepare(self) -> None:
        """Load the compiled kernels and arrange the items now, and not at the first call.

        For a service that answers one user at a time: later calls take well under a millisecond.
        """
        self._finder.prepare()
        if self.folding is not None:
            self.folding.prepare()

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
        index = check_rows(rows, "User", len(self.users))
        seen = [LeftOut(self.model.seen.indptr, self.model.seen.indices, index)]
        left_out = self._left_out(index.size, k, seen if exclude_seen else [], also_seen, "also_seen")
        request = ListRequest(index, k, left_out, self._hidden(allow, deny), n_threads)
        return self._lists(self._finder.find, request, [] if exclude_seen else seen)

    def _lists(self, find: Find, request: ListRequest, seen: Sequence[LeftOut] = ()) -> TopK:
        """The lists of a request: every way to a list ends here, so that limits and promotions are in all of them.

        seen : what is never promoted, besides what the request leaves out
        """
        top = find(request) if self.limit is None else find_limited(find, request, self.limit)
        if not self.promotions:
            return top
        never = request._replace(left_out=[*request.left_out, *seen])
        return with_promotions(find, never, top, self.promotions, self.limit)

    def _left_out(
        self, n: int, k: int, left_out: list[LeftOut], seen: sparse.csr_matrix | None, name: str
    ) -> list[LeftOut]:
        """The cells that n lists must not hold: `left_out` and `seen`, row i for list i.

        `name` is what the caller calls `seen`. Raises UsageError, InputError.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, got {k}")
        if seen is None:
            return left_out
        if seen.shape != (n, len(self.items)):
            raise InputError(f"{name} has shape {seen.shape}, not {(n, len(self.items))}")
        check_columns(seen, name)
        return [*left_out, LeftOut(seen.indptr, seen.indices, np.arange(n))]

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
        left_out = self._left_out(n, k, [], seen, "seen")
        request = ListRequest(np.arange(n), k, left_out, self._hidden(allow, deny))
        return self._lists(self._most_popular.find, request)

    def _hidden(self, allow: NDArray[np.int32] | None, deny: NDArray[np.int32] | None) -> NDArray[np.bool_] | None:
        if allow is None and deny is None:
            return self.hidden
        hidden = np.zeros(len(self.items), bool)
        if allow is not None:
            hidden[:] = True
            hidden[allow] = False
        if self.hidden is not None:
            hidden |= self.hidden
        if deny is not None:
            hidden[deny] = True
        return hidden

    @cached_property
    def _most_popular(self) -> PopularityFinder:
        if isinstance(self.model, PopularityModel) and not len(self.users):  # of a snapshot of items alone
            return PopularityFinder(self.model.item_scores)
        return PopularityFinder(np.bincount(self.model.seen.indices, minlength=len(self.items)))

    # ---- by factors, for users who need not be in the model ----------------------------------

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
        """The k best items for each row of `user_factors` (n, k), in item rows; the users need not be in the model.

        Parameters
        ----------
        seen : csr (n, n_items) of items to leave out
        allow, deny : item rows to choose from, and to leave out
        """
        factors = self._checked(user_factors)
        n = factors.shape[0]
        left_out = self._left_out(n, k, [], seen, "seen")
        return self._of_factors(factors, ListRequest(np.arange(n), k, left_out, self._hidden(allow, deny), n_threads))

    def fold_in_rows(self, cells: sparse.csr_matrix, n_threads: int | None = None) -> NDArray[np.float32]:
        """Factors (n, k) of many users; `cells` is csr (n, n_items) of scores as they were before the transform.

        Raises BadRowsError, InputError.
        """
        return self._factors.fold_matrix(cells, n_threads)

    def rank_cells(
        self,
        cells: sparse.csr_matrix,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: NDArray[np.int32] | None = None,
        deny: NDArray[np.int32] | None = None,
    ) -> TopK:
        """`recommend_rows` for users who have these cells now, whether or not they are in the model.

        Parameters
        ----------
        cells : csr (n, n_items) float32, columns ascending; scores after the fit's transform, as `model.seen` has them

        Raises InputError.
        """
        if isinstance(self.model, FactorModel):
            factors, n = self._factors.solve(cells.indptr, cells.indices, cells.data), cells.shape[0]
            left_out = self._left_out(n, k, [], cells, "cells")
            request = ListRequest(np.arange(n), k, left_out if exclude_seen else [], self._hidden(allow, deny))
            return self._of_factors(self._checked(factors), request, [] if exclude_seen else left_out)
        other = copy.copy(self)
        other.model = self.with_cells(cells)
        other._finder = finder_for(other.model, self._compiled)
        return other.recommend_rows(np.arange(cells.shape[0]), k, exclude_seen=exclude_seen, allow=allow, deny=deny)

    def with_cells(self, cells: sparse.csr_matrix) -> SavedModel:
        """The model for users who have these cells now, their rows those of `cells`; parameters as `rank_cells`."""
        history = UserItems(cells, IdMap(np.arange(cells.shape[0])), self.items)
        return with_users(self.model, history, self.folding, as_fitted=True)

    def _of_factors(self, factors: NDArray[np.float32], request: ListRequest, seen: Sequence[LeftOut] = ()) -> TopK:
        if not isinstance(self._finder, FactorFinder):
            raise self._without_factors()
        finder = self._finder.of_factors
        return self._lists(lambda part: finder.find(factors, part), request, seen)

    def _checked(self, user_factors: ArrayLike) -> NDArray[np.float32]:
        if not isinstance(self.model, FactorModel):
            raise self._without_factors()
        factors = np.ascontiguousarray(user_factors, np.float32)
        if factors.ndim != 2 or factors.shape[1] != self.model.n_components:
            raise InputError(f"User factors have shape {factors.shape}, not (n, {self.model.n_components})")
        if not np.isfinite(factors).all():
            raise InputError("User factors must be finite")
        return factors

    @cached_property
    def _factors(self) -> FoldIn:
        if not isinstance(self.model, FactorModel) or self.folding is None:
            raise self._without_factors()
        return self.folding

    @cached_property
    def folding(self) -> FoldIn | None:
        """Computes the factors of new users, where the model has factors."""
        if not isinstance(self.model, FactorModel | NeuralModel):
            return None
        return FoldIn(self.model.item_factors, self.model.meta, self._compiled)

    def _without_factors(self) -> UsageError:
        return UsageError(
            f"A model of kind {self.model.kind!r} has no factors: recommend_from and for_users rank for new users"
        )
