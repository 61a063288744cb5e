"""analytics.publications: the log of what was published, rolled back and refused."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa

from pipeline.options.base import types_of
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.published_sets import PublishedSet
from pipeline.runtime.process import ProcessIdentity
from pipeline.warehouse import Warehouse, sql

__all__ = ["create_log", "log_event", "published_names", "published_source"]

_LOG = "analytics.publications"
_NO_SET = PublishedSet("", 0, "", "")


def create_log(warehouse: Warehouse) -> None:
    """Create analytics.publications, or add the columns that it lacks if an older version of Rankline created it."""
    for name in ("ddl/02_analytics", "ddl/publications"):
        warehouse.ddl(sql.load(name).text)
    if not warehouse.rows(sql.load("queries/publications_source_column").text):
        warehouse.command(sql.load("ddl/publications_source_name").text)


def published_source(warehouse: Warehouse, names: Names) -> str | None:
    """The source of the published set's model; "" if the log does not say it, None if nothing is published."""
    if warehouse.engine(names.table) is None:
        return None
    rows = warehouse.rows(sql.load("queries/published_source").text, {"table": names.sets})
    return str(rows[0]["source_name"]) if rows else ""


def log_event(
    warehouse: Warehouse,
    action: str,
    of: PublishedSet = _NO_SET,
    n_rows: int = 0,
    note: str = "",
    source_name: str = "",
) -> None:
    """Add a row to analytics.publications; `of` is the set that it is of, where it is of one."""
    row: dict[str, Any] = {
        "action": action,
        "staged": of.table,
        "model_version": of.model_version,
        "run_id": of.run_id,
        "n_rows": n_rows,
        "note": note[:5000],
        "source_name": source_name,
        **ProcessIdentity.me().values,
    }
    columns = {name: pa.array([value]) for name, value in row.items()}
    columns["generated_at"] = pa.array([of.at_ms], pa.timestamp("ms", "UTC"))
    warehouse.insert(_LOG, pa.table(columns), token=uuid.uuid4().hex)


def published_names(warehouse: Warehouse) -> list[Names]:
    """Whoever publishes, or has published, into this warehouse, by its log; the default name first, and always."""
    rows = warehouse.rows(sql.load("queries/published_names").text) if warehouse.engine(_LOG) is not None else []
    return [DEFAULT, *(Names(str(row["name"])) for row in rows if row["name"] and _allowed(str(row["name"])))]


def _allowed(name: str) -> bool:
    # Somebody may have written a row of their own into the log.
    return types_of(Names)["name"].refusal(name) is None
