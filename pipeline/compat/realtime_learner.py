"""`RealtimeLearner` of the design: embeddings that know a rating as soon as it is there, without a training."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.compat.matrix_factorization import MatrixFactorizationModel
from pipeline.compat.rated_model import check_rating
from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import MissingColumnsError, RanklineError

__all__ = ["RealtimeLearner"]

_LOG = logging.getLogger("rankline")


class RealtimeLearner:
    """Updates the embeddings of one model. Threads may share it: each user has a lock, and the films have one.

    model : fitted
    """

    def __init__(self, model: MatrixFactorizationModel) -> None:
        self.model = model
        self._films: dict[int, dict[int, float]] = {}  # film → user → rating since the training
        self._films_lock = threading.Lock()
        self._user_locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._locks_lock = threading.Lock()

    def update_user_embedding(self, user_id: int, movie_id: int, rating: float) -> NDArray[np.float32]:
        """The user's new embedding, (n_factors,): folded in from all they have rated (`pipeline.models.fold_in`).

        The user may be new. Raises BadRowsError for a rating outside 0.5 to 5.0, UnknownUserError where nothing that
        they rated is a film of the model, NotFittedError.
        """
        check_rating(rating)
        with self._lock_of(user_id):
            self.model.add_rating(user_id, movie_id, rating)
            return self.model.get_user_embedding(user_id)

    def update_movie_embedding(self, movie_id: int, user_id: int, rating: float) -> NDArray[np.float32]:
        """The film's new embedding, (n_factors,): folded in from all its ratings (`pipeline.models.item_fold_in`).

        The film may be new; ratings of users whom the model was not trained on count once it is trained again.
        Raises BadRowsError for a rating outside 0.5 to 5.0, NotFittedError.
        """
        check_rating(rating)
        scorer = self.model.scorer  # raises before anything is kept
        with self._films_lock:
            self._films.setdefault(movie_id, {})[user_id] = float(rating)
            of_film = self._films[movie_id]
            users = IdMap.of(list(of_film))
            values = np.array([of_film[user] for user in users.values.tolist()], np.float32)
            column = sparse.csr_matrix(values[:, None])
            scorer = self.model.scorer.with_items(UserItems(column, users, IdMap([movie_id])))
            self.model.take_scorer(scorer)
        return self.model.get_movie_embedding(movie_id)

    def apply_updates(self, updates: Sequence[Mapping[str, Any]]) -> bool:
        """Update user and film for each of `user_id`, `movie_id`, `rating`; whether all of that was done.

        All are checked before the first is applied, and MissingColumnsError or BadRowsError is raised then. An update
        that fails later is logged, and the others are applied.
        """
        for update in updates:
            missing = [name for name in ("user_id", "movie_id", "rating") if name not in update]
            if missing:
                raise MissingColumnsError(missing, [str(name) for name in update])
            check_rating(update["rating"])
        done = True
        for update in updates:
            user, film, rating = update["user_id"], update["movie_id"], update["rating"]
            try:
                self.update_movie_embedding(film, user, rating)
                self.update_user_embedding(user, film, rating)
            except RanklineError as error:
                _LOG.error(f"the rating of film {film!r} by user {user!r} is not in the embeddings yet: {error}")
                done = False
        return done

    def _lock_of(self, user_id: int) -> threading.Lock:
        with self._locks_lock:
            return self._user_locks[user_id]
