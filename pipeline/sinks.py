"""Where recommendations go: a staged table, counted, then put in place of the published one at a stroke."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import sql
from pipeline.errors import InputError, QueryError
from pipeline.warehouse import Warehouse

__all__ = ["PREVIOUS", "PUBLISHED", "Recommendations", "RecommendationsTable"]

PUBLISHED = "analytics.recommendations"
PREVIOUS = "analytics.recommendations_previous"
_CLICKHOUSE_TYPE = {"int": "Int64", "str": "String"}


@dataclass(frozen=True, eq=False)
class Recommendations:
    """Flat columns of shape (n,), as they are written to the table.

    user_ids, item_ids : int64 or str; ranks : uint16 from 1; scores : float32; sources : str
    """

    user_ids: NDArray[np.generic]
    ranks: NDArray[np.uint16]
    item_ids: NDArray[np.generic]
    scores: NDArray[np.float32]
    sources: NDArray[np.str_]


class RecommendationsTable:
    """One publication: `write` blocks, then `publish`; `discard` if anything fails in between.

    The staged table has a name of its own, so two jobs never write into each other's.
    """

    def __init__(self, warehouse: Warehouse, user_kind: str, item_kind: str, model_version: str, run_id: str) -> None:
        self._warehouse = warehouse
        self._model_version = model_version
        self._run_id = run_id
        self._generated_at = datetime.now(UTC)
        self.n_rows = 0
        self._moving = False
        self._staged = f"recommendations_staged_{uuid.uuid4().hex[:12]}"
        for name in ("ddl/01_raw", "ddl/02_analytics"):
            warehouse.ddl(sql.load(name).text)
        for row in warehouse.rows(sql.load("queries/stale_staged").text, {"hours": 24}):
            warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier}", {"table": row["name"]})
        warehouse.ddl(
            sql.load("ddl/staged_recommendations").text,
            {
                "table": self._staged,
                "user_type": _CLICKHOUSE_TYPE[user_kind],
                "item_type": _CLICKHOUSE_TYPE[item_kind],
            },
        )

    def write(self, block: Recommendations) -> None:
        """Append a block to the staged table."""
        n = block.ranks.size
        if not n:
            return
        rows = pa.table(
            {
                "user_id": pa.array(block.user_ids),
                "rank": pa.array(block.ranks),
                "item_id": pa.array(block.item_ids),
                "score": pa.array(block.scores),
                "source": pa.array(block.sources, pa.string()),
                "model_version": pa.repeat(self._model_version, n),
                "run_id": pa.repeat(self._run_id, n),
                "generated_at": pa.repeat(pa.scalar(self._generated_at, pa.timestamp("ms", "UTC")), n),
            }
        )
        self._warehouse.insert(f"analytics.{self._staged}", rows)
        self.n_rows += n

    def publish(self) -> None:
        """Put the staged table in place of the published one; the one before stays as PREVIOUS.

        Readers see the whole old table or the whole new one: the first time a rename, every other
        time an exchange of the pair, each of which is atomic. A RENAME of two pairs and CREATE OR
        REPLACE are not.

        Raises
        ------
        InputError
            With no rows: an empty table is never published.
        QueryError
            Where the staged table does not hold what was written to it.
        """
        if not self.n_rows:
            raise InputError("There is nothing to publish: no user has an unseen item left. The table stays as it is")
        staged = {"staged": self._staged}
        found = self._warehouse.rows("SELECT count() AS n FROM analytics.{staged:Identifier}", staged)[0]["n"]
        if found != self.n_rows:
            raise QueryError(
                f"analytics.{self._staged} holds {found} rows and {self.n_rows} were written: not published; "
                "run the command again"
            )
        # After an exchange the staged name holds what was there before: the published table goes to
        # PREVIOUS, and what that was goes.
        self._moving = True
        if self._put(PUBLISHED) and self._put(PREVIOUS):
            self._drop()

    def _put(self, table: str) -> bool:
        """Put the staged table in the other's place; whether there was one, now under the staged name."""
        names = {"staged": self._staged, "table": table.removeprefix("analytics.")}
        if self._warehouse.engine(table) is None:
            try:
                self._warehouse.command(
                    "RENAME TABLE analytics.{staged:Identifier} TO analytics.{table:Identifier}", names
                )
            except QueryError:
                # Another job may have published since; then it is there to exchange with.
                if self._warehouse.engine(table) is None:
                    raise
            else:
                return False
        self._warehouse.command("EXCHANGE TABLES analytics.{staged:Identifier} AND analytics.{table:Identifier}", names)
        return True

    def discard(self) -> None:
        """Drop the staged table, unless it was being put in place: what is published may lie under its name."""
        if not self._moving:
            self._drop()

    def _drop(self) -> None:
        self._warehouse.command("DROP TABLE IF EXISTS analytics.{staged:Identifier}", {"staged": self._staged})
