"""`ExplainerService` of the design: why a film is recommended, in its JSON, from Rankline's own reasons."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.compat.rated_model import RatedModel
from pipeline.errors import NotFittedError, UnknownItemError
from pipeline.ranking.explain import explain, interactions_with
from pipeline.ranking.neighbours import similar_users
from pipeline.ranking.reasons import N_SIMILAR_USERS, Reasons, reasons_for

__all__ = ["ExplainerService"]


class ExplainerService:
    """Explains what one model recommends. Its methods raise UnknownItemError for a film that the model does not have.

    model : of `find_similar_rated_movies` and the methods after it; may be set later
    """

    def __init__(self, model: RatedModel | None = None) -> None:
        self.model = model

    def explain_recommendation(self, user_id: int, movie_id: int, model: RatedModel) -> dict[str, Any]:
        """`movie_id`, `movie_title`, `predicted_rating`, `confidence` and `reasons`: one at least.

        `confidence` is the share of the user's unseen films that score lower, None for one that they have rated or
        for a user who is not known.
        """
        scorer, row = model.of_user(user_id)
        col = _column(model, movie_id)
        head = {
            "movie_id": movie_id,
            "movie_title": self._title(model, col),
            "predicted_rating": model.predict(user_id, movie_id),
        }
        if row < 0:
            return {**head, "confidence": None, "reasons": [_popularity(model, col)]}
        explained = explain(scorer.model, row, col, fold_in=scorer.folding)
        found = _reasons(model, user_id, col, 3)
        reasons = [*self._similar(model, found), *self._genres(found), *self._users(found)]
        reasons = reasons or [_popularity(model, col)]
        return {**head, "confidence": explained.confidence, "reasons": reasons}

    def find_similar_rated_movies(self, user_id: int, movie_id: int, n: int = 3) -> list[dict[str, Any]]:
        """The user's rated films most like this one: `id`, `title`, `your_rating`, `similarity`."""
        model = self._model()
        col = _column(model, movie_id)
        if model.of_user(user_id)[1] < 0:
            return []
        return self._films(model, _reasons(model, user_id, col, n))

    def get_genre_match_score(self, user_id: int, movie_id: int) -> float:
        """Share of the user's ratings, by their size, that went to films with one of this one's genres; 0 for none."""
        model = self._model()
        col = _column(model, movie_id)
        if model.of_user(user_id)[1] < 0:
            return 0.0
        match = _reasons(model, user_id, col, 1).genre_match
        return 0.0 if match is None else match.score

    def get_similar_users_influence(self, user_id: int, movie_id: int) -> list[dict[str, Any]]:
        """Those of the most similar users who rated the film: `user_id`, `similarity`, `rating`, most similar first."""
        model = self._model()
        col, base = _column(model, movie_id), model.scorer
        scorer, row = model.of_user(user_id)
        if row < 0:
            return []
        near = similar_users(scorer.model, row, N_SIMILAR_USERS, among=base.model, itself=base.users.row(user_id))
        ratings = np.asarray(base.model.seen[near.rows][:, [col]].toarray()).ravel()
        return [
            {"user_id": base.users.values[other].item(), "similarity": float(similarity), "rating": float(rating)}
            for other, similarity, rating in zip(near.rows, near.similarities, ratings, strict=True)
            if rating > 0
        ]

    # ---- reasons ----------------------------------------------------------------------------

    def _similar(self, model: RatedModel, found: Reasons) -> list[dict[str, Any]]:
        films = self._films(model, found)
        said = "It is like films that you rated"
        return [{"type": "similar_movies", "description": said, "movies": films}] if films else []

    def _films(self, model: RatedModel, found: Reasons) -> list[dict[str, Any]]:
        ids = model.scorer.items.values
        return [
            {
                "id": ids[item.row].item(),
                "title": self._title(model, item.row),
                "your_rating": item.score,
                "similarity": item.similarity,
            }
            for item in found.similar_items
        ]

    @staticmethod
    def _genres(found: Reasons) -> list[dict[str, Any]]:
        match = found.genre_match
        if match is None or not match.score:
            return []
        genres = [name for name, share in match.shares.items() if share > 0]
        said = "You often choose films of its genres"
        return [{"type": "genre_match", "description": said, "genres": genres, "match_score": match.score}]

    @staticmethod
    def _users(found: Reasons) -> list[dict[str, Any]]:
        users = found.other_users
        if not users.count:
            return []
        counts = {"similar_user_count": users.count, "avg_rating": users.average}
        return [{"type": "similar_users", "description": "People with a similar taste have rated it", **counts}]

    @staticmethod
    def _title(model: RatedModel, col: int) -> str:
        titles = model.snapshot.titles
        return "" if titles is None else str(titles[col])

    def _model(self) -> RatedModel:
        if self.model is None:
            raise NotFittedError
        return self.model


def _column(model: RatedModel, movie_id: int) -> int:
    items = model.scorer.items
    col = items.row(movie_id)
    if col < 0:
        raise UnknownItemError(f"Unknown item {movie_id!r}: not among the {len(items)} items of the model")
    return col


def _reasons(model: RatedModel, user_id: int, col: int, n: int) -> Reasons:
    scorer, row = model.of_user(user_id)
    base = model.scorer
    return reasons_for(scorer.model, row, col, model.snapshot, n, among=base.model, itself=base.users.row(user_id))


def _popularity(model: RatedModel, col: int) -> dict[str, Any]:
    count = interactions_with(model.scorer.model, col)
    return {"type": "popularity", "description": "Many people have rated it", "rating_count": count}
