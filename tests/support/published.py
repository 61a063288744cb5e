"""A published set of made-up lists."""

from __future__ import annotations

import numpy as np

from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.recommendations_table import Recommendations, RecommendationsTable
from pipeline.warehouse import Warehouse

__all__ = ["lists", "publish"]


def lists(users: list, source: str = "nmf") -> Recommendations:
    ids, n = np.array(users), len(users)
    return Recommendations(ids, np.ones(n, np.uint16), np.arange(n), np.full(n, 0.5, np.float32), np.full(n, source))


def publish(warehouse: Warehouse, run: str, users: list, names: Names = DEFAULT, **options: object) -> None:
    kind = "str" if isinstance(users[0], str) else "int"
    table = RecommendationsTable(warehouse, kind, "int", "1", run, names)
    table.write(lists(users))
    table.publish(**options)
