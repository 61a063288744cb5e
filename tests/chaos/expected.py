"""What a published set must be like, and the reader that looks at it again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import RanklineError
from pipeline.ranking.scorer import Scorer
from pipeline.warehouse import Warehouse, connect

N_USERS, N_ITEMS, TASTE, K = 300, 150, 25, 10
READ = (
    "SELECT user_id, rank, item_id, score, source, model_version, run_id, generated_at FROM analytics.recommendations"
)


def interactions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) user ids, item ids and ratings: two tastes, everyone with more than K items unseen."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1, N_USERS + 1), TASTE)
    items = np.concatenate(
        [
            rng.choice(
                N_ITEMS, TASTE, replace=False, p=(w := np.where(np.arange(N_ITEMS) % 2 == u % 2, 4.0, 1.0)) / w.sum()
            )
            for u in range(N_USERS)
        ]
    )
    return users, 1000 + items, 1 + rng.integers(0, 5, users.size).astype(np.float32)


@dataclass(frozen=True)
class Rows:
    """A set, by (user, rank): `items` and `scores` have the shape (n_users, K)."""

    run_id: str
    at: int
    items: np.ndarray
    scores: np.ndarray

    @property
    def content(self) -> bytes:
        return self.items.tobytes() + self.scores.tobytes()


class Right:
    """What a set must be like, and which rows a run's artifacts give."""

    def __init__(self) -> None:
        users, items, _ = interactions()
        self.seen = np.zeros((N_USERS + 1, N_ITEMS), bool)
        self.seen[users, items - 1000] = True

    def check(self, table: pa.Table) -> Rows:
        """The set. Raises AssertionError, in words, where it is not whole or not right."""
        assert table.num_rows, "empty"
        marks = table.select(["run_id", "model_version", "generated_at", "source"])
        names = {
            tuple(str(shares) for shares in mark.values())
            for mark in marks.group_by(marks.column_names).aggregate([]).to_pylist()
        }
        assert len(names) == 1, f"a mix of {sorted(names)}"
        users, ranks, items, scores = (
            table.column(name).to_numpy() for name in ("user_id", "rank", "item_id", "score")
        )
        order = np.lexsort((ranks, users))
        users, ranks, items, scores = (column[order] for column in (users, ranks, items, scores))
        assert np.array_equal(users, np.repeat(np.arange(1, N_USERS + 1), K)), (
            f"{users.size} rows, of {np.unique(users).size} users"
        )
        assert np.array_equal(ranks, np.tile(np.arange(1, K + 1), N_USERS)), "ranks are not 1…k"
        assert ((items >= 1000) & (items < 1000 + N_ITEMS)).all(), "an unknown item"
        assert not self.seen[users, items - 1000].any(), "a seen item"
        items, scores = items.reshape(-1, K), scores.reshape(-1, K)
        assert all(np.unique(row).size == K for row in items), "an item twice"
        assert np.isfinite(scores).all(), "a score is not finite"
        assert (np.diff(scores, axis=1) <= 0).all(), "scores rise"
        at = int(table.column("generated_at").cast(pa.timestamp("ms", "UTC"))[0].value)
        return Rows(str(table.column("run_id")[0]), at, items, scores)

    def of(self, artifacts: Path) -> bytes:
        """The content of the set that is made from the artifacts, which are verified."""
        scorer = Scorer.load(artifacts)
        top = scorer.recommend_rows(np.arange(len(scorer.users)), K)
        return scorer.items.values[top.items].tobytes() + top.scores.astype(np.float32).tobytes()


class Reader:
    """Looks at the published table again and again; from the first set on there must always be a whole one."""

    def __init__(self, right: Right) -> None:
        self.right = right
        self.polls = 0
        self.wrong: list[str] = []
        self.found: dict[tuple[str, int], bytes] = {}
        self.often = True  # only a job that publishes changes the table

    def look(self, warehouse: Warehouse, there: bool = True) -> Rows | None:
        """One poll; `there`: a set was published before."""
        self.polls += 1
        try:
            rows = self.right.check(warehouse.table(READ))
            content = self.found.setdefault((rows.run_id, rows.at), rows.content)
            assert content == rows.content, f"the set of run {rows.run_id} changed"
        except (AssertionError, RanklineError) as error:
            if there or not isinstance(error, RanklineError):
                self.wrong.append(f"{time.strftime('%X')} poll {self.polls}: {error}")
            return None
        return rows

    def keep_looking(self, dsn: str, newest_stands: bool = True) -> Callable[[], None]:
        """Polls in a thread of its own until the function that is returned is called.

        newest_stands : nobody rolls back, so no set may follow a newer one
        """
        stop = threading.Event()

        def poll() -> None:
            published, newest = False, 0
            with connect(dsn) as warehouse:
                while not stop.wait(0.03 if self.often else 0.3):
                    rows = self.look(warehouse, published)
                    if rows is None:
                        continue
                    published = True
                    if newest_stands and rows.at < newest:
                        self.wrong.append(f"{time.strftime('%X')} an older set, {rows.at}, follows {newest}")
                    newest = max(newest, rows.at)

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(60)

        return end
