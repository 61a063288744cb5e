"""What a warehouse gives, cell by cell."""

from __future__ import annotations

from pipeline.data.sources.warehouse import interactions_query, read_warehouse
from pipeline.warehouse import sql

__all__ = ["cells"]


def cells(warehouse, query: sql.Sql | None = None, **options) -> dict[tuple[object, object], tuple[float, object]]:
    """(user, item) → (score, time), as read."""
    x = read_warehouse(warehouse, interactions_query(warehouse, query), **options).interactions
    users, items = x.user_ids.values[x.users].tolist(), x.item_ids.values[x.items].tolist()
    times = [None] * len(x) if x.at is None else x.at.tolist()
    cells_read = {(u, i): (s, t) for u, i, s, t in zip(users, items, x.scores.tolist(), times, strict=True)}
    assert len(cells_read) == len(x)
    return cells_read
