"""What the models of the design have in common: ratings of films in, lists and predictions out, over one `Scorer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from pipeline.compat.data_loader import interactions_of
from pipeline.data.interactions import Interactions
from pipeline.errors import BadRowsError, MissingColumnsError, NotFittedError, UnknownUserError
from pipeline.models.base import Fitted
from pipeline.models.item_snapshot import SEPARATOR, ItemSnapshot, ItemTexts
from pipeline.models.saved_model import SavedModel, with_meta
from pipeline.options import TrainOptions
from pipeline.ranking.new_users import one_row
from pipeline.ranking.scorer import Scorer
from pipeline.training.train import Trained, train

__all__ = ["HIGHEST", "LEAST_RATINGS", "LOWEST", "RatedModel", "check_rating", "ratings_of", "texts_of"]

LOWEST, HIGHEST = 0.5, 5.0
LEAST_RATINGS = 100  # to train on
FACTS = "design"  # in metadata: what the design keeps of a version


def check_rating(rating: float) -> float:
    """The rating. Raises BadRowsError, a ValueError, for one outside 0.5 to 5.0."""
    if isinstance(rating, bool) or not LOWEST <= float(rating) <= HIGHEST:
        raise BadRowsError(f"Rating must be between {LOWEST} and {HIGHEST}, got {rating!r}")
    return float(rating)


def ratings_of(frame: pd.DataFrame) -> Interactions:
    """From columns `user_id`, `movie_id` (or `item_id`), `rating`, and `timestamp` if there are times.

    Raises MissingColumnsError, and BadRowsError for ratings outside the scale.
    """
    item = "item_id" if "movie_id" not in frame.columns and "item_id" in frame.columns else "movie_id"
    if missing := [name for name in ("user_id", item, "rating") if name not in frame.columns]:
        raise MissingColumnsError(missing, [str(name) for name in frame.columns])
    x = interactions_of(frame, "user_id", item, "rating")
    outside = (x.scores < LOWEST) | (x.scores > HIGHEST)
    if outside.any():
        raise BadRowsError(
            f"Rating must be between {LOWEST} and {HIGHEST}, got {x.scores[outside][0]:g} "
            f"and {int(outside.sum()) - 1} more outside"
        )
    return x


def texts_of(movies: pd.DataFrame | None) -> ItemTexts:
    """Titles and genres by id, of columns `movie_id`, `title` and `genres`: a list, or text with ``|`` between."""
    if movies is None:
        return ItemTexts()
    ids = [str(value) for value in movies["movie_id"].tolist()]
    titles = movies["title"].tolist() if "title" in movies.columns else [""] * len(ids)
    genres = movies["genres"].tolist() if "genres" in movies.columns else [""] * len(ids)
    parted = [value.split(SEPARATOR) if isinstance(value, str) else list(value) for value in genres]
    return ItemTexts(dict(zip(ids, map(str, titles), strict=True)), dict(zip(ids, parted, strict=True)))


class RatedModel:
    """Attributes
    ----------
    model_type : in metadata
    movies : `movie_id`, `title` and `genres` of films, for explanations and for users who are not known; may be set
    genre_preferences : genres by user, for a user who has rated nothing
    facts : model type, time, hyperparameters, metrics and sizes of the training, as the design's metadata has them
    """

    model_type: ClassVar[str]

    def __init__(self) -> None:
        self.movies: pd.DataFrame | None = None
        self.genre_preferences: dict[int, list[str]] = {}
        self.facts: dict[str, Any] = {}
        self._scorer: Scorer | None = None
        self._rated: dict[int, dict[int, float]] = {}  # since the training
        self._folded: dict[int, tuple[Scorer, Scorer]] = {}  # user → the model's scorer, and the one made from it
        self._snapshot: tuple[int, int, ItemSnapshot] | None = None

    # ---- training ---------------------------------------------------------------------------

    def _train(self, x: Interactions, options: TrainOptions, hyperparameters: Mapping[str, Any]) -> Fitted:
        """Raises TooLittleDataError, UsageError (DivergedError), InputError; the model is then as it was."""
        trained: Trained = train(x, options)
        spread = x.scores.std(dtype=np.float64)
        self.facts = {
            "model_type": self.model_type,
            "trained_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "hyperparameters": dict(hyperparameters),
            "metrics": {},
            "training_data": {"n_users": len(x.user_ids), "n_movies": len(x.item_ids), "n_ratings": len(x)},
        }
        self._set(trained.model)
        if "observed_rmse" in trained.report.metrics:
            self.facts["training_rmse"] = {"before": float(spread), "after": trained.report.metrics["observed_rmse"]}
        return trained.fitted

    def _set(self, model: SavedModel) -> None:
        self._scorer = Scorer(model)
        self._rated, self._folded = {}, {}

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to predict with."""
        return self._scorer is not None

    @property
    def scorer(self) -> Scorer:
        """Rankline's own, as trained or with films folded in. Raises NotFittedError."""
        if self._scorer is None:
            raise NotFittedError
        return self._scorer

    @property
    def saved(self) -> SavedModel:
        """The model in Rankline's own form, with the facts in its metadata. Raises NotFittedError."""
        model = self.scorer.model
        return with_meta(model, {**model.meta, FACTS: self.facts})

    @classmethod
    def of_saved(cls, model: SavedModel) -> Self:
        """The model that `saved` gave."""
        made = cls()
        facts = model.meta.get(FACTS)
        made.facts = dict(facts) if isinstance(facts, Mapping) else {}
        made._set(model)
        return made

    # ---- users ------------------------------------------------------------------------------

    def rated(self, user_id: int) -> dict[int, float]:
        """The user's ratings: those of the training, and what was rated since."""
        model, row = self.scorer.model, self.scorer.users.row(user_id)
        known: dict[int, float] = {}
        if row >= 0:
            cells = slice(int(model.seen.indptr[row]), int(model.seen.indptr[row + 1]))
            films = self.scorer.items.ids(model.seen.indices[cells]).tolist()
            known = dict(zip(films, model.seen.data[cells].tolist(), strict=True))
        return known | self._rated.get(user_id, {})

    def of_user(self, user_id: int) -> tuple[Scorer, int]:
        """What ranks for the user, and their row there: folded in, if they have rated since. Row -1: unknown."""
        scorer = self.scorer
        if user_id not in self._rated:
            return scorer, scorer.users.row(user_id)
        base, folded = self._folded.get(user_id, (None, None))
        if folded is None or base is not scorer:
            known = {film: value for film, value in self.rated(user_id).items() if scorer.items.row(film) >= 0}
            if not known:
                return scorer, scorer.users.row(user_id)
            folded = _for_one(scorer, known)
            self._folded[user_id] = scorer, folded
        return folded, 0

    # ---- predictions ------------------------------------------------------------------------

    def predict(self, user_id: int, movie_id: int) -> float:
        """The predicted rating, 0.5 to 5.0.

        Of an unknown film it is the user's mean rating, of an unknown user as for one without ratings, and of neither
        known the mean of all ratings. Raises NotFittedError.
        """
        scorer, row = self.of_user(user_id)
        col = scorer.items.row(movie_id)
        if col < 0:
            own = list(self.rated(user_id).values()) or self.scorer.model.seen.data
            return self._bounded(float(np.mean(own)))
        if row < 0:
            scorer, row = _for_one(scorer, {}), 0
        return self._bounded(self._as_rating(float(scorer.model.predict([row], [col])[0])))

    def _as_rating(self, score: float) -> float:
        return score

    @staticmethod
    def _bounded(rating: float) -> float:
        return min(max(rating, LOWEST), HIGHEST)

    def recommend(self, user_id: int, n: int = 10) -> list[int]:
        """The user's `n` best films that they have not rated, best first; fewer where fewer are left.

        A user who is not known gets the most popular films, of their `genre_preferences` first. Raises NotFittedError,
        and UsageError for `n` below 1.
        """
        scorer, row = self.of_user(user_id)
        if row < 0:
            return self._popular(user_id, n)
        ranking = scorer.recommend(scorer.users.values[row].item(), n)
        films: list[int] = ranking.items.tolist()
        return films

    def _popular(self, user_id: int, n: int) -> list[int]:
        scorer = self.scorer
        preferred = self.genre_preferences.get(user_id, [])
        rows = [self.snapshot.popular_in(genre) for genre in preferred]
        allowed = np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int32)
        first: list[int] = []
        if allowed.size:
            top = scorer.popular_rows(1, min(n, allowed.size), allow=allowed)
            first = scorer.items.ids(top.items[0]).tolist()
        rest: Sequence[int] = scorer.recommend(user_id, n, unknown="popular", deny=first).items.tolist()
        return [*first, *rest][:n]

    @property
    def snapshot(self) -> ItemSnapshot:
        """Titles, genres and popularity of the films."""
        scorer, movies = self.scorer, self.movies
        if self._snapshot is None or self._snapshot[:2] != (id(scorer), id(movies)):
            made = ItemSnapshot.of(scorer.items, scorer.model.seen, texts_of(movies))
            self._snapshot = id(scorer), id(movies), made
        return self._snapshot[2]

    # ---- updates ----------------------------------------------------------------------------

    def add_rating(self, user_id: int, movie_id: int, rating: float) -> None:
        """Let the user's next list and prediction know the rating. Raises BadRowsError, NotFittedError."""
        value = check_rating(rating)
        _ = self.scorer
        # Another dict, so that whoever reads meanwhile has the one or the other.
        self._rated[user_id] = {**self._rated.get(user_id, {}), movie_id: value}
        self._folded.pop(user_id, None)

    def take_scorer(self, scorer: Scorer) -> None:
        """Rank with this one from now on, whose items may be more."""
        self._scorer = scorer

    def _user_embedding(self, user_id: int) -> Any:
        scorer, row = self.of_user(user_id)
        if row < 0:
            raise UnknownUserError(f"Unknown user {user_id!r}: not among the {len(scorer.users)} users of the model")
        factors: Any = scorer.model
        return factors.user_factors[row].copy()

    def _facts_of(self, options: TrainOptions, names: Sequence[str]) -> dict[str, Any]:
        values = asdict(options)
        return {name: values[name] for name in names if values.get(name) is not None}


def _for_one(scorer: Scorer, rated: Mapping[int, float]) -> Scorer:
    """A scorer for one user, in row 0, who has rated these films of the model."""
    cols = scorer.items.rows(list(rated)) if rated else np.zeros(0, np.int32)
    return scorer.for_users(one_row(cols, np.array(list(rated.values()), np.float32), scorer.items))
