"""Ratings of films with tastes in them, as frames with the columns of the machine-learning design."""

from __future__ import annotations

import numpy as np
import pandas as pd

GENRES = ("Comedy", "Drama", "War")


def ratings(seed: int = 1, n_users: int = 40, n_films: int = 30, share: float = 0.4) -> pd.DataFrame:
    """User 1 … likes the films of one of three genres more; ids of films begin at 500."""
    rng = np.random.default_rng(seed)
    users, films = np.nonzero(rng.random((n_users, n_films)) < share)
    likes = users % 3 == films % 3
    values = np.where(likes, 4.5, 2.0) + rng.integers(-1, 2, users.size) / 2
    return pd.DataFrame({"user_id": 1 + users, "movie_id": 500 + films, "rating": values})


def movies(n_films: int = 30) -> pd.DataFrame:
    ids = np.arange(n_films)
    return pd.DataFrame(
        {
            "movie_id": 500 + ids,
            "title": [f"Film {n}" for n in ids],
            "genres": [f"{GENRES[n % 3]}|All" for n in ids],
        }
    )
