"""Made-up weeks in a warehouse: what users did, and what was published to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from pipeline.data.id_map import IdMap
from pipeline.data.sources.warehouse import init
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.recommendations_table import Recommendations, RecommendationsTable
from pipeline.tracking.champion_reference import ChampionReference
from pipeline.warehouse import Warehouse
from support import naive_drift

DAY = 86_400_000
START = 1_700_000_000_000


def reference(
    users: Sequence[Any],
    items: Sequence[Any],
    learned: int | None = None,
    source: str = "warehouse",
    model: str = "nmf",
) -> ChampionReference:
    return ChampionReference("rankline/1", "1", "1" * 32, model, source, IdMap.of(users), IdMap.of(items), learned)


def load(warehouse: Warehouse, events: Sequence[naive_drift.Event]) -> None:
    """Every third event is a viewing."""
    init(warehouse)
    for table, at, rows in (
        ("raw.watched_movies", "watched_at", events[::3]),
        ("raw.ratings", "rated_at", [event for n, event in enumerate(events) if n % 3]),
    ):
        columns = {
            "user_id": pa.array([user for user, _, _ in rows], pa.int64()),
            "movie_id": pa.array([item for _, item, _ in rows], pa.int64()),
            at: pa.array([ms for _, _, ms in rows], pa.timestamp("ms", "UTC")),
        }
        if at == "rated_at":
            columns["rating"] = pa.array([3.5] * len(rows), pa.float32())
        warehouse.insert(table, pa.table(columns))


def publish(
    warehouse: Warehouse, at: int, lists: dict[Any, list[Any]], run: str, names: Names = DEFAULT, source: str = "nmf"
) -> None:
    users = [user for user, items in lists.items() for _ in items]
    ranks = [rank for items in lists.values() for rank in range(1, len(items) + 1)]
    items = [item for own in lists.values() for item in own]
    kinds = ("str" if isinstance(users[0], str) else "int"), ("str" if isinstance(items[0], str) else "int")
    # A set is known by when it was generated, by the server's clock.
    with patch.object(RecommendationsTable, "_now", lambda _: at):
        table = RecommendationsTable(warehouse, *kinds, "1", run, names)
    scores = 5 - np.array(ranks, np.float32) / 10 - np.arange(len(users), dtype=np.float32) % 7 / 100
    table.write(
        Recommendations(
            np.array(users), np.array(ranks, np.uint16), np.array(items), scores, np.full(len(users), source)
        )
    )
    table.publish()


def made_up(seed: int, n: int = 900) -> list[naive_drift.Event]:
    """25 users, 40 items of which few are popular, over ten days; pairs come again."""
    rng = np.random.default_rng(seed)
    items = np.minimum(rng.geometric(0.08, n), 40)
    return [
        (int(user), int(item), START + int(at))
        for user, item, at in zip(rng.integers(1, 26, n), items, rng.integers(0, 10 * DAY, n), strict=True)
    ]


def lists_of(rng: np.random.Generator, users: range, k: int = 10) -> dict[Any, list[Any]]:
    return {user: (1 + rng.permutation(40)[: rng.integers(1, k + 1)]).tolist() for user in users}
