"""What is seen by now, as scoring leaves it out: ids of every type, in order, and all of them or an error."""

from __future__ import annotations

import numpy as np
import pytest
from support.id_columns import USUAL

from pipeline.data.sources.warehouse import init, interactions_query
from pipeline.errors import ConnectionLostError, QueryError
from pipeline.publishing.recommendations_table import RecommendationsTable
from pipeline.warehouse import Warehouse
from pipeline.warehouse.sql import Sql

pytest_plugins = ["support.warehouse_fixtures"]

MANY = Sql("SELECT 200000 - number AS user_id, number % 7 AS item_id FROM numbers(200000)", "mine.sql")


def blocks(warehouse: Warehouse, query: Sql, kind: str = "int"):
    return list(RecommendationsTable(warehouse, kind, kind, "3", "run-a").seen_now(query))


def pairs(warehouse: Warehouse, query: Sql, kind: str = "int"):
    pairs_read = blocks(warehouse, query, kind)
    return [(u, i) for users, items in pairs_read for u, i in zip(users.tolist(), items.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("column", "value"),
    USUAL,
)
def test_ids_of_every_type(warehouse, column, value):
    """As they are in the warehouse: text that looks like a number stays text."""
    own = Sql(f"SELECT {column} AS user_id, {column} AS item_id, 1 AS score", "mine.sql")
    kind = "str" if isinstance(value, str) else "int"
    ((users, items),) = blocks(warehouse, own, kind)
    assert (users.tolist(), items.tolist()) == ([value], [value])
    assert (users.dtype.kind, items.dtype.kind) == (("U", "U") if kind == "str" else ("i", "i"))


def test_of_the_mart(warehouse):
    init(warehouse)
    warehouse.command("INSERT INTO raw.ratings VALUES (2, 1, 3, 1), (1, 9, 3, 1), (1, 9, 4, 2)")
    warehouse.command("INSERT INTO raw.watched_movies VALUES (1, 3, 1)")
    query = interactions_query(warehouse, None)
    for kind, to in (("int", int), ("str", str)):
        assert pairs(warehouse, query, kind) == [(to(1), to(3)), (to(1), to(9)), (to(2), to(1))]


def test_in_many_blocks_in_the_order_of_users(warehouse):
    pairs_read = blocks(warehouse, MANY)
    assert len(pairs_read) > 1
    users = np.concatenate([users for users, _ in pairs_read])
    assert users.tolist() == list(range(1, 200001))
    assert np.concatenate([items for _, items in pairs_read]).tolist() == [(200000 - u) % 7 for u in users.tolist()]


def test_of_nothing(warehouse):
    assert pairs(warehouse, Sql("SELECT 1 AS user_id, 2 AS item_id WHERE 0", "mine.sql")) == []


@pytest.mark.parametrize("clean", [False, True], ids=["broken", "ended early without a sign"])
def test_a_stream_that_is_cut_goes_on_and_none_is_missing_or_twice(http_server, over_http, clean):
    http_server.rules({"match": "_seen ORDER BY.*ArrowStream", "do": "batches", "n": 1, "clean": clean})
    assert pairs(over_http, MANY) == [(u, (200000 - u) % 7) for u in range(1, 200001)]


@pytest.mark.parametrize(("clean", "error"), [(False, ConnectionLostError), (True, QueryError)])
def test_a_stream_that_is_cut_each_time_is_an_error(http_server, over_http, clean, error):
    http_server.rules({"match": "_seen ORDER BY.*ArrowStream", "do": "batches", "n": 0, "clean": clean, "times": 99})
    with pytest.raises(error, match=None if clean is False else "cut short"):
        blocks(over_http, MANY)
