"""The events of a month, day by day: MovieTweetings by its own dates, or a month that is made up from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Events", "Films", "made_up", "movietweetings"]

DAY = 86_400
HIGHEST = 10.0  # of a rating, in both kinds of data


@dataclass(frozen=True, eq=False)
class Events:
    """Ratings in the order of their times; arrays of shape (n,).

    users, items : int64
    ratings : float32, 0 to 10
    at : seconds since 1970, UTC
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: NDArray[np.float32]
    at: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.at.size)

    def between(self, start: datetime, end: datetime) -> Events:
        """Those from `start` on and before `end`."""
        first, last = np.searchsorted(self.at, [start.timestamp(), end.timestamp()])
        part = slice(int(first), int(last))
        return Events(self.users[part], self.items[part], self.ratings[part], self.at[part])

    @property
    def arrow(self) -> pa.Table:
        """As rows of raw.ratings."""
        return pa.table(
            {
                "user_id": self.users,
                "movie_id": self.items,
                "rating": self.ratings,
                "rated_at": pa.array(self.at * 1000, pa.timestamp("ms", "UTC")),
            }
        )


@dataclass(frozen=True, eq=False)
class Films:
    """Ids, titles and genres (with | between them) of all films."""

    ids: NDArray[np.int64]
    titles: list[str]
    genres: list[str]

    def of(self, ids: NDArray[np.int64]) -> pa.Table:
        """The rows of raw.movies of these ids."""
        place = {int(film): i for i, film in enumerate(self.ids)}
        rows = [place[int(film)] for film in ids if int(film) in place]
        return pa.table(
            {
                "movie_id": pa.array([int(self.ids[i]) for i in rows], pa.int64()),
                "title": pa.array([self.titles[i] for i in rows], pa.string()),
                "genres": pa.array([self.genres[i] for i in rows], pa.string()),
            }
        )


def movietweetings(folder: Path) -> tuple[Events, Films]:
    """``ratings.dat`` (user::film::rating::seconds) and ``movies.dat`` (film::title::genres) of the folder."""
    lines = (folder / "ratings.dat").read_text(encoding="utf-8").split()
    table = np.array([line.split("::") for line in lines], np.int64)
    table = table[np.lexsort((table[:, 1], table[:, 0], table[:, 3]))]
    events = Events(table[:, 0], table[:, 1], table[:, 2].astype(np.float32), table[:, 3])
    films = [line.split("::") for line in (folder / "movies.dat").read_text(encoding="utf-8").splitlines() if line]
    return events, Films(np.array([int(film[0]) for film in films]), [f[1] for f in films], [f[2] for f in films])


def made_up(seed: int, days: int = 150, a_day: int = 500, n_films: int = 1500) -> tuple[Events, Films]:
    """Users of five tastes, who come and stay for a while; films that come out, are popular, and fade."""
    rng = np.random.default_rng(seed)
    start = int((datetime(2013, 11, 6, tzinfo=UTC) - timedelta(days=days)).timestamp())
    out = np.sort(rng.uniform(-200, days, n_films))  # the day that a film comes out
    taste_of_film = rng.integers(0, 5, n_films)
    size = rng.pareto(1.2, n_films) + 0.2
    n_users = days * 30
    joined = np.sort(rng.uniform(-30, days, n_users))
    taste = rng.integers(0, 5, n_users)
    rows = []
    for day in range(days):
        here = np.flatnonzero((joined <= day) & (joined > day - 60))
        n = int(rng.poisson(a_day))
        users = rng.choice(here, n)
        age = day - out
        popular = np.where(age >= 0, size * np.exp(-age / 60) + 0.02 * size, 0)
        for group in range(5):
            of = users[taste[users] == group]
            weight = popular * np.where(taste_of_film == group, 8.0, 1.0)
            films = rng.choice(n_films, of.size, p=weight / weight.sum())
            liked = np.where(taste_of_film[films] == group, 8, 6) + rng.integers(-2, 3, of.size)
            at = start + day * DAY + rng.integers(0, DAY, of.size)
            rows.append(np.column_stack([of + 1, films + 1, np.clip(liked, 0, 10), at]))
    table = np.concatenate(rows)
    _, first = np.unique(table[:, :2], axis=0, return_index=True)
    table = table[first]
    table = table[np.lexsort((table[:, 1], table[:, 0], table[:, 3]))]
    names = ["Drama", "Comedy", "Horror", "Action", "Romance"]
    films_there = Films(
        np.arange(1, n_films + 1), [f"Film {i}" for i in range(1, n_films + 1)], [names[t] for t in taste_of_film]
    )
    return Events(table[:, 0], table[:, 1], table[:, 2].astype(np.float32), table[:, 3]), films_there
