"""A small warehouse with raw ratings, and nightly jobs over it in this process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from pydantic import SecretStr

from pipeline.data.sources.warehouse import init
from pipeline.jobs.nightly import NightlyRequest, NightlyResult, run_nightly
from pipeline.options import PromotionLimits, ReadOptions, RetainOptions, TrainOptions
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.warehouse import connect
from support.tastes import three_tastes

FIRST = datetime(2026, 3, 1, 2, tzinfo=UTC)
QUICK = TrainOptions(n_components=3, max_iter=15, threads=1)


class Nights:
    """Nights over one warehouse, a day apart."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.n_rows, self.day = dsn, 0, 0
        self.said: list[str] = []
        x = three_tastes()
        with connect(dsn) as warehouse:
            init(warehouse)
        self.rate(
            *zip(x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist(), x.scores.tolist(), strict=True)
        )

    def rate(self, *rows: tuple[int, int, float]) -> None:
        """Ratings of (user, item, stars)."""
        users, items, stars = zip(*rows, strict=True)
        at = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=self.n_rows + i) for i in range(len(rows))]
        self.n_rows += len(rows)
        columns = {"user_id": pa.array(users, pa.int64()), "movie_id": pa.array(items, pa.int64())}
        columns |= {"rating": pa.array(stars, pa.float32()), "rated_at": pa.array(at, pa.timestamp("ms", "UTC"))}
        with connect(self.dsn) as warehouse:
            warehouse.insert("raw.ratings", pa.table(columns), token=f"rows {self.n_rows}")

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with connect(self.dsn) as warehouse:
            return warehouse.rows(statement)

    def lists(self, users: Sequence[int] | None = None) -> dict[int, list[int]]:
        """The published items of each user, best first."""
        found: dict[int, list[int]] = {}
        for row in self.rows("SELECT user_id, item_id FROM analytics.recommendations ORDER BY user_id, rank"):
            found.setdefault(int(row["user_id"]), []).append(int(row["item_id"]))
        return found if users is None else {user: found[user] for user in users}

    def settings(self, **values: Any) -> Settings:
        return Settings(warehouse=SecretStr(self.dsn), **values)

    def run(self, *, again: bool = False, settings: Settings | None = None, **asked: Any) -> NightlyResult:
        """The next night, or the same one again."""
        self.day += 0 if again else 1
        request = NightlyRequest(
            settings or self.settings(),
            Reporter(self.said.append, silent),
            FIRST + timedelta(days=self.day, minutes=5 * again),
            **{"train": QUICK, "read": ReadOptions(), "gate": PromotionLimits(), "retain": RetainOptions(), **asked},
        )
        return run_nightly(request)


def states(result: NightlyResult) -> dict[str, str]:
    """Step → how it ended."""
    return {step.name: step.state for step in result.steps}
