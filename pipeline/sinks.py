"""Where recommendations go: a staged table, counted and checked, then put in place of the published one at a stroke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import checks, shelf, sql
from pipeline.artifact import FactorModel
from pipeline.checks import Limits
from pipeline.companions import CLICKHOUSE_TYPE, Companions
from pipeline.errors import InputError, QueryError
from pipeline.lease import holding
from pipeline.owner import Owner
from pipeline.shelf import PREVIOUS, PUBLISHED
from pipeline.warehouse import Warehouse

__all__ = ["KEEP", "PREVIOUS", "PUBLISHED", "Outcome", "Recommendations", "RecommendationsTable"]

KEEP = 5
_STALE_HOURS = 24


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


@dataclass(frozen=True)
class Outcome:
    """Attributes
    ----------
    action : "published", or "already published": the same rows of the same version were there
    accepted : checks that failed and were passed over, in words
    notes : sentences to be said
    """

    action: Literal["published", "already published"]
    accepted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class RecommendationsTable:
    """One publication: `write` blocks, then `publish`; `discard` if anything fails in between.

    The staged table has a name of its own, so two jobs never write into each other's.
    """

    def __init__(self, warehouse: Warehouse, user_kind: str, item_kind: str, model_version: str, run_id: str) -> None:
        self._warehouse = warehouse
        self._model_version = model_version
        self._run_id = run_id
        self.n_rows = 0
        self._chunks = 0
        self._moving = False
        self._refused = False
        for name in ("ddl/01_raw", "ddl/02_analytics", "ddl/publications", "ddl/forgotten"):
            warehouse.ddl(sql.load(name).text)
        # The server's clock: which set is newer must not depend on who made it.
        self._at_ms = int(warehouse.rows("SELECT toUnixTimestamp64Milli(now64(3)) AS at")[0]["at"])
        self.staged = shelf.staged_name(self._at_ms, run_id)
        self._log("started")
        types = {"user_type": CLICKHOUSE_TYPE[user_kind], "item_type": CLICKHOUSE_TYPE[item_kind]}
        warehouse.ddl(sql.load("ddl/staged_recommendations").text, {"table": self.staged, **types})
        self._companions = Companions(warehouse, self.staged, user_kind, item_kind, self._insert)

    def seen_now(self, query: sql.Sql) -> Iterator[tuple[NDArray[np.generic], NDArray[np.generic]]]:
        """What the query has as seen by now, for scoring to leave out and `publish` to check: see `Companions`."""
        return self._companions.seen_now(query)

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
                "generated_at": pa.repeat(pa.scalar(self._at_ms, pa.timestamp("ms", "UTC")), n),
            }
        )
        self._insert(self.staged, rows)
        self.n_rows += n

    def _insert(self, table: str, rows: pa.Table) -> None:
        """Append a chunk, once: whatever is sent again bears the same token."""
        self._chunks += 1
        self._warehouse.insert(f"analytics.{table}", rows, token=f"{self.staged}:{self._chunks}")

    def publish(
        self,
        model: FactorModel | None = None,
        limits: Limits | None = None,
        keep: int = KEEP,
        say: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        """Count, check, and put the staged table in place of the published one; the one before stays as PREVIOUS.

        Readers see the whole old table or the whole new one. Publishing what is published already changes nothing.

        Parameters
        ----------
        model : what the rows were made from: users, items and what is seen are checked against it
        limits : what the rows are checked for; None for the moves alone, without checks
        keep : sets to keep besides the published one
        say : told who is waited for

        Raises
        ------
        InputError
            With no rows: an empty table is never published.
        CheckFailedError
            Naming the check; nothing is published, and the staged table is kept for a look.
        QueryError
            Where a table does not hold what was written to it.
        LockedError
            Where another job moves tables all the while.
        """
        if not self.n_rows:
            raise InputError("There is nothing to publish: no user has an unseen item left. The table stays as it is")
        found = self._count(self.staged)
        if found != self.n_rows:
            raise QueryError(
                f"analytics.{self.staged} holds {found} rows and {self.n_rows} were written: not published; "
                "run the command again"
            )
        failed = self._of_the_rows(model, limits)
        with holding(self._warehouse, "publishing", say) as lease:
            shelf.settle(self._warehouse, keep)
            self._sweep()
            there = self._warehouse.engine(PUBLISHED) is not None
            rows = shelf.digest(self._warehouse, self.staged)
            same = there and shelf.digest(self._warehouse, "recommendations") == rows
            if same and not [one for one in failed if not one.acceptable]:
                self._log("already published")
                self._drop()
                return Outcome("already published")
            notes = []
            if limits is not None and there:
                parameters = {"before": "recommendations", "staged": self.staged, "at_ms": self._at_ms, **limits.values}
                failed += checks.failures(self._warehouse, checks.COMPARING, parameters)
            elif limits is not None:
                notes.append("this is the first set: there is none before to compare it with")
            self._refuse(failed, limits)
            lease.check()
            self._moving = True
            shelf.put(self._warehouse, self.staged)
            if shelf.digest(self._warehouse, "recommendations") != rows:
                raise QueryError(f"{PUBLISHED} holds other rows than were published: run the command again")
            shelf.settle(self._warehouse, keep)
            accepted = tuple(str(one) for one in failed)
            self._log("published", "accepted: " + "; ".join(accepted) if accepted else "")
        self._companions.drop()
        return Outcome("published", accepted, tuple(notes))

    def _of_the_rows(self, model: FactorModel | None, limits: Limits | None) -> list[checks.Failure]:
        """Checks that need no lock: what they look at is this job's own."""
        if limits is None:
            return []
        names: tuple[str, ...] = checks.OF_THE_ROWS
        parameters = {"staged": self.staged, **limits.values}
        parameters |= {"model_version": self._model_version, "run_id": self._run_id, "at_ms": self._at_ms}
        if model is not None:
            self._companions.load_model(model)
            names += checks.OF_THE_SET
            parameters |= self._companions.names
        return checks.failures(self._warehouse, names, parameters)

    def _refuse(self, failed: list[checks.Failure], limits: Limits | None) -> None:
        error = checks.refusal(failed, self.staged, limits is not None and limits.accept_changes)
        if error is None:
            return
        self._refused = True
        self._log("refused", "; ".join(str(one) for one in failed))
        self._companions.drop()
        raise error

    def discard(self) -> None:
        """Drop the staged table, unless it was refused and is kept for a look, or is no longer ours.

        While it is put in place, what was published before comes to lie under its name: its rows tell.
        """
        if self._refused:
            return
        if self._moving:
            one = shelf.head(self._warehouse, self.staged)
            if one is None or one.at_ms != self._at_ms:
                return
        self._drop()

    def _drop(self) -> None:
        self._companions.drop()
        self._warehouse.command("DROP TABLE IF EXISTS analytics.{staged:Identifier}", {"staged": self.staged})

    def _count(self, table: str) -> int:
        found = self._warehouse.rows("SELECT count() AS n FROM analytics.{table:Identifier}", {"table": table})
        return int(found[0]["n"])

    def _sweep(self) -> None:
        """Drop what jobs left behind that are gone: known to be dead, or begun a day ago.

        Called once every set lies under its own name: none of these is one.
        """
        me = Owner.me()
        names = {
            str(row["name"])
            for row in self._warehouse.rows(sql.load("queries/stale_staged").text, {"hours": _STALE_HOURS})
        }
        for row in self._warehouse.rows(sql.load("queries/left_behind").text, {"host": me.host}):
            if Owner(me.host, row["pid"], row["process_started"]).dead:
                names.add(str(row["name"]))
        for name in sorted(names):
            if not name.startswith(self.staged):
                self._warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier}", {"table": name})

    def _log(self, action: str, note: str = "") -> None:
        shelf.log_event(
            self._warehouse, action, self.staged, self._model_version, self._run_id, self._at_ms, self.n_rows, note
        )
