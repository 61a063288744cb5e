"""`Scorer`: the best unseen items of a user, by external id. It needs numpy, scipy and a saved model.

Evaluation, the batch job and the pyfunc all rank with this class, for every kind of model, so a metric describes
the lists that are published. Lists are exact, with compiled kernels and without (`pipeline.ranking.topk`).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.id_map import distinct
from pipeline.data.matrix import UserItems
from pipeline.errors import InputError, UnknownItemError, UnknownUserError, UsageError
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_fold_in import with_items
from pipeline.models.item_snapshot import ItemSnapshot
from pipeline.models.model_files import ModelFolder
from pipeline.models.saved_model import load_item_snapshot, load_saved_model
from pipeline.ranking.genres import GenreSource
from pipeline.ranking.new_users import as_floats, ascending, one_row, with_users
from pipeline.ranking.row_scorer import RowScorer
from pipeline.ranking.topk import LeftOut, TopK
from pipeline.ranking.topk_numpy import ListRequest

__all__ = ["FALLBACK", "Ranking", "Scorer", "TopK", "Unknown"]

# `Ranking.source` of a list for a user who is not in the model.
FALLBACK = "popular"

Unknown = Literal["error", "popular"]


class _Pair(NamedTuple):
    items: NDArray[Any]
    scores: NDArray[np.float32]


class Ranking(_Pair):
    """``items, scores = …``: external ids and their scores, best first; `source` names what ranked them.

    `fallback` is true of the list of most popular items that a user who is absent from the model gets. `sources` has
    the source of each item, (n,): ``promoted:LABEL`` for one that a rule put there.
    """

    source: str = "nmf"
    fallback: bool = False
    sources: NDArray[np.str_] = np.empty(0, np.str_)


class Scorer(RowScorer):
    """Ranks items for users of one model, and for users it was not trained on. Parameters as `RowScorer`."""

    folder: Path | None = None  # that it was read from

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False, listed: str | None = None) -> Scorer:
        """From a folder with a saved model of any kind; checks the format number and the sha256s.

        listed : sha256 of the model's metadata, where another process has verified it

        Raises ArtifactError.
        """
        scorer = cls(load_saved_model(ModelFolder(folder, listed), mapped=mapped))
        scorer.folder = Path(folder)
        scorer.genre_source = GenreSource(lambda: scorer.snapshot)
        return scorer

    @cached_property
    def snapshot(self) -> ItemSnapshot | None:
        """The items with titles and genres, read from the folder at the first use; None where they were not saved.

        Raises ArtifactError.
        """
        return None if self.folder is None else load_item_snapshot(self.folder)

    # ---- by external id ---------------------------------------------------------------------

    def recommend(
        self,
        user_id: int | str,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: Collection[int | str] | None = None,
        deny: Collection[int | str] | None = None,
        unknown: Unknown = "error",
    ) -> Ranking:
        """The user's k best items, best first; fewer where fewer are left.

        Parameters
        ----------
        exclude_seen : leave out what the user has interacted with, whatever the score
        allow : only these items (ids that the model does not know are ignored)
        deny : none of these items
        unknown : for a user who is not in the model, raise, or give the most popular items
            (`Ranking.fallback` is then true, `source` ``"popular"``, and the scores are numbers of interactions)

        Raises
        ------
        UnknownUserError
        """
        if unknown not in ("error", "popular"):
            raise UsageError(f"unknown must be 'error' or 'popular', got {unknown!r}")
        allowed = None if allow is None else self.item_rows(allow)
        denied = None if deny is None else self.item_rows(deny)
        row = self._user_row(user_id)
        # No list is longer than there are items, whatever a caller asks for.
        k = min(k, max(1, len(self.items)))
        if row < 0:
            if unknown == "error":
                raise UnknownUserError(
                    f"Unknown user {_plain(user_id)!r}: not among the {len(self.users)} users of the model. "
                    "unknown='popular' (--unknown popular) gives the most popular items instead."
                )
            top = self.popular_rows(1, k, allow=allowed, deny=denied)
        else:
            top = self.recommend_rows([row], k, exclude_seen=exclude_seen, allow=allowed, deny=denied)
        return self._ranking(top, self.source if row >= 0 else FALLBACK, fallback=row < 0)

    def predict(self, user_id: int | str, item_ids: ArrayLike) -> NDArray[np.float32]:
        """Scores of the items for the user, (n,). Raises UnknownUserError, UnknownItemError."""
        row = self._user_row(user_id)
        if row < 0:
            raise UnknownUserError(
                f"Unknown user {_plain(user_id)!r}: not among the {len(self.users)} users of the model"
            )
        wanted = self.items.same_kind(_listed(item_ids))
        cols = self.items.rows(wanted, missing="negative")
        if cols.size and cols.min() < 0:
            raise self._unknown_items(wanted[cols < 0])
        return self.model.predict(np.full(cols.size, row), cols)

    def _user_row(self, user_id: int | str) -> int:
        """The user's row, -1 for an unknown one."""
        if isinstance(user_id, int) and not -(2**63) <= user_id < 2**63:
            return -1
        try:
            return int(self.users.rows([user_id], missing="negative")[0])
        except InputError as error:
            if isinstance(user_id, str):  # a name, where ids are integers
                raise UnknownUserError(f"Unknown user {_plain(user_id)!r}: {error}") from None
            raise

    def _unknown_items(self, ids: NDArray[Any]) -> UnknownItemError:
        return UnknownItemError(
            f"Unknown item(s) {ids[:5].tolist()}: not among the {len(self.items)} items of the model"
        )

    def item_rows(self, ids: Collection[int | str]) -> NDArray[np.int32]:
        """Rows of the items that the model knows, ascending, each once; other ids are ignored.

        Raises InputError for an id that can't be one of these items'.
        """
        rows = self.items.rows(_listed(ids), missing="negative")
        return distinct(rows[rows >= 0])

    # ---- users the model was not trained on, or whose scores have changed ---------------------

    def fold_in(
        self, items: ArrayLike, scores: ArrayLike | None = None, *, missing: Literal["error", "skip"] = "error"
    ) -> NDArray[np.float32]:
        """Factors (k,) of one user, from their items and scores; for a training user they equal the trained row.

        They differ where the model was trained with `half_life_days`: here every score counts as of today.

        Parameters
        ----------
        items : (n,) external ids, each once; empty for a user without known interactions
        scores : (n,) as they were before the fit's transform, finite and ≥ 0; default, 1 each
        missing : what to do with items the model does not know: raise, or leave them out

        Raises
        ------
        UnknownItemError, BadRowsError, InputError
        """
        if missing not in ("error", "skip"):
            raise UsageError(f"missing must be 'error' or 'skip', got {missing!r}")
        return self._folded(*ascending(*self._history_of(items, scores, missing), self.items))

    def _folded(self, cols: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.float32]:
        # No sparse matrix of one row: scipy would check it for longer than the factors take.
        factors: NDArray[np.float32] = self._factors.fold(np.array([0, cols.size]), cols, values)[0]
        return factors

    def _history_of(
        self, items: ArrayLike, scores: ArrayLike | None, missing: Literal["error", "skip"]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Item rows and scores of one user, both (n,)."""
        wanted = self.items.same_kind(_listed(items))
        cols = self.items.rows(wanted, missing="negative")
        values = np.ones(cols.size, np.float32) if scores is None else as_floats(scores)
        if values.shape != cols.shape:
            raise InputError(f"{cols.size} items and {values.size} scores: one score an item")
        known = cols >= 0
        if missing == "error" and not known.all():
            raise self._unknown_items(wanted[~known])
        return cols[known], values[known]

    def for_users(self, history: UserItems) -> Scorer:
        """A scorer for the users of `history` instead of the model's users; works for every kind of model.

        history : over the model's items, scores as they were before the fit's transform

        Raises InputError, BadRowsError.
        """
        scorer = Scorer(with_users(self.model, history, self.folding), self.source, compiled=self._compiled)
        scorer.hidden, scorer.limit, scorer.genre_source = self.hidden, self.limit, self.genre_source
        scorer.promotions = self.promotions
        return scorer

    def with_items(self, new: UserItems) -> Scorer:
        """A scorer whose model has these items folded in, for a model with factors; users keep their rows.

        new : interactions with new items, or more of them with items of the model; see `pipeline.models.item_fold_in`

        Raises UsageError for a model that can't, InputError, BadRowsError.
        """
        if not isinstance(self.model, FactorModel):
            raise UsageError(f"A model of kind {self.model.kind!r} has no factors to fold items in by")
        return Scorer(with_items(self.model, new, compiled=self._compiled), self.source, compiled=self._compiled)

    def recommend_from(
        self,
        items: ArrayLike,
        scores: ArrayLike | None = None,
        k: int = 10,
        *,
        allow: Collection[int | str] | None = None,
        deny: Collection[int | str] | None = None,
        missing: Literal["error", "skip"] = "error",
    ) -> Ranking:
        """`recommend` for a user who is not in the model, from their items and scores; works for every kind of model.

        The given items are left out of the list.

        Parameters and errors as `fold_in` and `recommend`.
        """
        if missing not in ("error", "skip"):
            raise UsageError(f"missing must be 'error' or 'skip', got {missing!r}")
        cols, values = self._history_of(items, scores, missing)
        if isinstance(self.model, FactorModel):
            cols, values = ascending(cols, values, self.items)
            seen = self.items.ids(cols).tolist()
            return self.recommend_for(self._folded(cols, values), k, seen=seen, allow=allow, deny=deny)
        return self.for_users(one_row(cols, values, self.items)).recommend(0, k, allow=allow, deny=deny)

    def recommend_for(
        self,
        user_factors: ArrayLike,
        k: int = 10,
        *,
        seen: Collection[int | str] = (),
        allow: Collection[int | str] | None = None,
        deny: Collection[int | str] | None = None,
    ) -> Ranking:
        """`recommend` for factors (k,) of a user who need not be in the model, as `fold_in` gives them.

        Parameters
        ----------
        seen : items to leave out; ids that the model does not know are ignored, here and in `allow` and `deny`

        Raises
        ------
        InputError
            For factors of another size, or not finite.
        """
        factors = np.asarray(user_factors)
        if factors.ndim != 1:
            raise InputError(f"One user's factors have shape (k,), not {factors.shape}")
        seen_rows = self.item_rows(seen)
        seen_cells = LeftOut(np.array([0, seen_rows.size]), seen_rows, np.zeros(1, np.intp))
        allowed = None if allow is None else self.item_rows(allow)
        denied = None if deny is None else self.item_rows(deny)
        k = min(k, max(1, len(self.items)))
        left_out = self._left_out(1, k, [seen_cells], None, "seen")
        request = ListRequest(np.arange(1), k, left_out, self._hidden(allowed, denied))
        top = self._of_factors(self._checked(factors[None]), request)
        return self._ranking(top, self.source)

    def _ranking(self, top: TopK, source: str, *, fallback: bool = False) -> Ranking:
        n = int(np.count_nonzero(top.items[0] >= 0))
        ranking = Ranking(self.items.ids(top.items[0, :n]), top.scores[0, :n])
        ranking.source, ranking.fallback, ranking.sources = source, fallback, top.sources(source)[0, :n]
        return ranking


def _listed(ids: Any) -> ArrayLike:
    """One id as a list of it; sets and other collections as lists, arrays and columns as they are."""
    if isinstance(ids, str) or (np.ndim(ids) == 0 and not isinstance(ids, Collection)):
        return [ids]
    return ids if hasattr(ids, "dtype") else list(ids)


def _plain(user_id: int | str) -> int | str:
    """The id of a user as Python's own number or text."""
    plain: int | str = user_id.item() if isinstance(user_id, np.generic) else user_id
    return plain
