"""Where recommendations go: a staged table, counted and checked, then put in place of the published one at a stroke."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipeline.errors import InputError, LockLostError, QueryError
from pipeline.models.saved_model import SavedModel, model_name
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing import checks, published_tables
from pipeline.publishing.check_tables import CLICKHOUSE_TYPE, CheckTables, Pairs, Ranked
from pipeline.publishing.checks import PublishLimits
from pipeline.publishing.erasure import leave_out
from pipeline.publishing.lists import Lineage, Recommendations, as_rows
from pipeline.publishing.lock import RENAME, PublishLock, publish_lock
from pipeline.publishing.published_tables import PREVIOUS, PUBLISHED
from pipeline.publishing.rules import read_rules
from pipeline.publishing.stale_tables import drop_stale
from pipeline.publishing.suppressed_users import read_suppressed_users
from pipeline.warehouse import Warehouse, sql

__all__ = ["KEEP", "PREVIOUS", "PUBLISHED", "PublishResult", "Recommendations", "RecommendationsTable"]

KEEP = 5


@dataclass(frozen=True)
class PublishResult:
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

    Parameters
    ----------
    names : of the model whose table it is
    source_name : the source of the model's interactions; "" if it is not known
    at_ms : when the set is generated, milliseconds since 1970, where days are simulated; default, the server's clock

    Attribute `ranked` says which of some ids (n,) are users of this table, where others share the set; None: all are.
    """

    ranked: Ranked | None = None

    def __init__(
        self,
        warehouse: Warehouse,
        user_kind: str,
        item_kind: str,
        model_version: str,
        run_id: str,
        names: Names = DEFAULT,
        source_name: str = "",
        at_ms: int | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._source_name = source_name
        self._names = names
        self._model_version = model_version
        self._run_id = run_id
        self.n_rows = 0
        self._chunks = 0
        self._claimed = ""
        self._refused = False
        self._notes: list[str] = []
        for name in ("ddl/01_raw", "ddl/02_analytics", "ddl/forgotten"):
            warehouse.ddl(sql.load(name).text)
        published_tables.create_log(warehouse)
        # The server's clock: which set is newer must not depend on who made it.
        self._at_ms = self._now() if at_ms is None else at_ms
        self.staged = published_tables.staged_name(self._at_ms, run_id, names)
        self._log("started")
        types = {"user_type": CLICKHOUSE_TYPE[user_kind], "item_type": CLICKHOUSE_TYPE[item_kind]}
        warehouse.ddl(sql.load("ddl/staged_recommendations").text, {"table": self.staged, **types})
        self._companions = CheckTables(warehouse, self.staged, user_kind, item_kind, self._insert)

    def _now(self) -> int:
        return int(self._warehouse.rows("SELECT toUnixTimestamp64Milli(now64(3)) AS at")[0]["at"])

    @property
    def generated_at_ms(self) -> int:
        """When the batch began, by the server's clock, milliseconds since 1970."""
        return self._at_ms

    @property
    def lineage(self) -> Lineage:
        """What all rows of this batch say alike."""
        return Lineage(self._model_version, self._run_id, self._at_ms)

    def seen_now(self, query: sql.Sql, also: Callable[[], Iterable[Pairs]] = tuple) -> Iterator[Pairs]:
        """What the query, and `also`, have as seen by now, for scoring to leave out and `publish` to check.

        See `CheckTables`.
        """
        return self._companions.seen_now(query, also)

    def write(self, block: Recommendations) -> None:
        """Append a block to the staged table."""
        n = block.ranks.size
        if not n:
            return
        self._insert(self.staged, as_rows(block, self.lineage))
        self.n_rows += n

    def _insert(self, table: str, rows: pa.Table) -> None:
        """Append a chunk, once: whatever is sent again bears the same token."""
        self._chunks += 1
        self._warehouse.insert(f"analytics.{table}", rows, token=f"{self.staged}:{self._chunks}")

    def publish(
        self,
        model: SavedModel | None = None,
        limits: PublishLimits | None = None,
        keep: int = KEEP,
        say: Callable[[str], None] = lambda _: None,
        expiry: float | None = None,
        also: Sequence[tuple[RecommendationsTable, SavedModel, PublishLimits]] = (),
    ) -> PublishResult:
        """Count, check, and put the staged table in place of the published one; the one before stays beside it.

        Readers see the whole old table or the whole new one. Publishing what is published already changes nothing.

        Parameters
        ----------
        model : what the rows were made from: users, items and what is seen are checked against it
        limits : what the rows are checked for; None for the moves alone, without checks
        keep : sets to keep besides the published one
        say : told who is waited for
        expiry : seconds without a sign of life after which others take the lock over; default, `lock.EXPIRY`
        also : staged tables of the same set, each with its model and limits: checked by these, then part of this one

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
        LockLostError
            Where this process stood still for so long that another took the lock over: the older rows stay unpublished.
        """
        if not self.n_rows:
            raise InputError("There is nothing to publish: no user has an unseen item left. The table stays as it is")
        n_staged = self._count(self.staged)
        if n_staged != self.n_rows:
            raise QueryError(
                f"analytics.{self.staged} holds {n_staged} rows and {self.n_rows} were written: not published; "
                "run the command again"
            )
        failed = self._of_the_rows(model, limits)
        for other, its_model, its_limits in also:
            failed += other._of_the_rows(its_model, its_limits)
            self._take(other)
        try:
            with publish_lock(self._warehouse, "publishing", say, expiry=expiry, names=self._names) as lock:
                result = self._publish(lock, failed, limits, keep)
        except LockLostError:
            published_tables.settle(self._warehouse, keep, expiry, self._names)
            raise
        self._companions.drop()
        return result

    def _publish(
        self, lock: PublishLock, failed: list[checks.Failure], limits: PublishLimits | None, keep: int
    ) -> PublishResult:
        """The part under the lock: compare with the published table, and move the tables."""
        published_tables.tidy(self._warehouse, keep, lock)
        drop_stale(self._warehouse, self._names, self.staged)
        exists = self._warehouse.engine(self._names.table) is not None
        rows = published_tables.digest(self._warehouse, self.staged)
        same = exists and published_tables.digest(self._warehouse, self._names.sets) == rows
        if same and not [failure for failure in failed if not failure.acceptable]:
            self._log("already published")
            self._drop()
            return PublishResult("already published")
        notes = []
        if limits is not None and exists:
            parameters = {"before": self._names.sets, "staged": self.staged, "at_ms": self._at_ms, **limits.values}
            parameters["source_name"] = self._source_name
            failed += checks.failures(self._warehouse, checks.COMPARING, parameters)
            if not (self._source_name and published_tables.published_source(self._warehouse, self._names)):
                whose = "the published set" if self._source_name else "this model"
                notes.append(f"the source of {whose} is not known, so it was not compared: see --source-name of train")
        elif limits is not None:
            notes.append("this is the first set: there is none before to compare it with")
        self._refuse(failed, limits)
        self._claimed = published_tables.name_for_staged(lock, self.staged)
        published_tables.swap_in(self._warehouse, self.staged, lock, self._claimed)
        if published_tables.digest(self._warehouse, self._names.sets) != rows:
            if not lock.held:
                raise LockLostError("The set was published, and another job has published over it since")
            raise QueryError(f"{self._names.table} holds other rows than were published: run the command again")
        published_tables.tidy_after(self._warehouse, keep, lock)
        accepted = tuple(str(failure) for failure in failed)
        notes_to_log = ["accepted: " + "; ".join(accepted)] if accepted else []
        self._log("published", "; ".join([*notes_to_log, *self._notes]))
        return PublishResult("published", accepted, tuple(notes))

    def _of_the_rows(self, model: SavedModel | None, limits: PublishLimits | None) -> list[checks.Failure]:
        """Checks that need no lock: what they look at is this job's own."""
        if limits is None:
            return []
        names: tuple[str, ...] = checks.OF_THE_ROWS
        parameters = {"staged": self.staged, **limits.values}
        parameters |= {"model_version": self._model_version, "run_id": self._run_id, "at_ms": self._at_ms}
        if model is not None:
            # Read again: what was denied while the batch ran must not be published.
            rules, now = read_rules(self._warehouse, self._names), self._now()
            self._notes = [f"rules {rules.digest[:12]}"] if rules.rules else []
            self._notes += [limits.genres.sentence] if limits.genres is not None else []
            promotions = [f"{promotion.source} at most {promotion.quota}" for promotion in limits.promotions]
            self._notes += [", ".join(promotions)] if promotions else []
            genres = None if limits.genres is None else limits.genres.groups
            self._companions.load_model(model, rules.hidden(model.items, now), genres, limits.promotions, self.ranked)
            names += checks.OF_THE_SET
            parameters |= {**self._companions.names, "model_name": model_name(model)}
        return checks.failures(self._warehouse, names, parameters)

    def _take(self, other: RecommendationsTable) -> None:
        """Move the rows of another staged table into this one."""
        names = {"staged": self.staged, "other": other.staged}
        self._warehouse.command(sql.load("queries/take_staged").text, names)
        self.n_rows += other.n_rows
        n_staged = self._count(self.staged)
        if n_staged != self.n_rows:
            raise QueryError(
                f"analytics.{self.staged} holds {n_staged} rows and {self.n_rows} were written: not published; "
                "run the command again"
            )
        other._drop()

    def _refuse(self, failed: list[checks.Failure], limits: PublishLimits | None) -> None:
        error = checks.refusal(failed, self.staged, limits is not None and limits.accept_changes)
        if error is None:
            return
        self._refused = True
        self._clear_forgotten()
        self._log("refused", "; ".join(str(check) for check in failed))
        self._companions.drop()
        raise error

    def _clear_forgotten(self) -> None:
        """Keep no row of users who were forgotten since the batch began: the table stays for a look.

        Under the lock, so nobody is added meanwhile.
        """
        self._companions.drop()
        # The name of one of those beside it: it goes with them, should the job be killed here.
        leave_out(self._warehouse, self.staged, read_suppressed_users(self._warehouse), f"{self.staged}_users")

    def discard(self) -> None:
        """Drop the staged table, unless it was refused and is kept for a look, or is no longer ours.

        From a claimed table the staged one is made again: then no exchange can come any more, and its rows tell whether
        one came before. What was published before this set lies there then, and the next job puts it away.
        """
        if self._refused:
            return
        if self._claimed:
            with suppress(QueryError):  # it is no longer there: it was published, or another job has taken it over
                names = {"one": self._claimed, "other": self.staged}
                self._warehouse.command(RENAME, names)
            exists = self._warehouse.engine(f"analytics.{self.staged}") is not None
            head = published_tables.head(self._warehouse, self.staged) if exists else None
            if head is None or head.at_ms != self._at_ms:
                self._companions.drop()
                return
        self._drop()

    def _drop(self) -> None:
        self._companions.drop()
        self._warehouse.command("DROP TABLE IF EXISTS analytics.{staged:Identifier}", {"staged": self.staged})

    def _count(self, table: str) -> int:
        counted = self._warehouse.rows("SELECT count() AS n FROM analytics.{table:Identifier}", {"table": table})
        return int(counted[0]["n"])

    def _log(self, action: str, note: str = "") -> None:
        staged = published_tables.PublishedSet(self.staged, self._at_ms, self._run_id, self._model_version)
        published_tables.log_event(self._warehouse, action, staged, self.n_rows, note, self._source_name)
