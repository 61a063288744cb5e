"""Checks of the warehouse: its answer, tables, grants and clock, and what killed jobs left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.data.sources.columns import Columns
from pipeline.data.sources.warehouse import MART, as_read, has_manifest
from pipeline.errors import InputError, LockedError, QueryError, RanklineError, ServerError, TimedOutError
from pipeline.jobs.doctor.file_holder import holder_of
from pipeline.jobs.doctor.grants import missing
from pipeline.publishing.suppressed_users import FORGOTTEN
from pipeline.runtime.diagnostics import Check, Finding, Group, fail, ok, warn
from pipeline.runtime.process import ProcessIdentity
from pipeline.settings import Settings
from pipeline.shipping.exposures import EXPOSURES
from pipeline.shipping.ship import RATINGS, WATCHED, raw_columns
from pipeline.warehouse import RetryPolicy, Warehouse, connect, sql
from pipeline.warehouse.errors import TOO_SLOW

__all__ = ["RAW", "warehouse_group"]

RAW = ("raw.users", "raw.movies", "raw.ratings", "raw.watched_movies")
_HINT = "is the server up, and is that its HTTP port (8123, with TLS 8443)?"
# Seconds: to connect, to wait for an answer (both fit into one check), and the maximum difference of the clocks.
_CONNECT, _READ, _CLOCK = 4, 7, 5.0
_CONSTANT = "SELECT 1 AS user_id, 2 AS item_id, 1 AS score"


def warehouse_group(settings: Settings, mask: Callable[[str], str]) -> Group:
    """The checks of the warehouse, in order, over one connection."""
    look = _Look(settings, mask)
    checks = (
        Check("reachable", look.reachable),
        Check("tables", look.tables),
        Check("read", look.read),
        Check("grants", look.grants),
        Check("shipping", look.shipping),
        Check("clock", look.clock),
        Check("published", look.published),
        Check("left behind", look.left_behind),
        Check("locks", look.locks),
    )
    return Group("warehouse", checks, look.close, _HINT)


class _Look:
    def __init__(self, settings: Settings, mask: Callable[[str], str]) -> None:
        self._settings = settings
        self._mask = mask
        self._names = settings.names
        self._warehouse: Warehouse | None = None
        self._tables: dict[str, dict[str, Any]] = {}
        self._readable = True

    def close(self) -> None:
        if self._warehouse is not None:
            self._warehouse.close()

    def reachable(self) -> Iterator[Finding]:
        """Open the warehouse as a command does, but create nothing."""
        dsn = self._settings.warehouse_dsn
        if dsn.startswith("chdb://"):
            folder = Path(dsn.removeprefix("chdb://"))
            if find_spec("chdb") is None:
                yield fail(
                    "reachable",
                    "the embedded warehouse needs chdb, which is not installed",
                    "pip install 'rankline[embedded]', or RANKLINE_WAREHOUSE names a server",
                    server=True,
                )
                return
            if not folder.exists():
                yield warn("reachable", f"{folder} is not there yet", "make train, or rankline sample, makes it")
                return
        start = time.perf_counter()
        try:
            opened = connect(
                dsn,
                min(_CONNECT, self._settings.connect_timeout),
                min(_READ, self._settings.read_timeout),
                retry_policy=RetryPolicy(0),  # report an error at once
            )
            version = opened.rows("SELECT version() AS version")[0]["version"]
        except LockedError as error:
            folder = Path(dsn.removeprefix("chdb://"))
            holder = holder_of([folder / ".rankline.lock", folder / "status"], self._mask)
            yield warn(
                "lock",
                f"{error}" if holder is None else f"the embedded warehouse is held by {holder}",
                "wait for it to end; a server (RANKLINE_WAREHOUSE) serves many at once",
            )
            return
        except ServerError as error:
            todo = "is it a folder that this user may write to?" if dsn.startswith("chdb://") else _HINT
            yield fail("reachable", str(error), todo, server=True)
            return
        except RanklineError as error:
            yield fail("reachable", str(error), "correct RANKLINE_WAREHOUSE")
            return
        took = time.perf_counter() - start
        self._warehouse = opened
        kind = "embedded ClickHouse" if opened.embedded else "ClickHouse"
        yield ok("reachable", f"{opened.address}: {kind} {version}, in {took:.2f} s")
        if opened.embedded:
            yield ok("lock", "nobody else holds it")

    def tables(self) -> Iterator[Finding]:
        """Check the raw tables, the mart, and the list of forgotten users."""
        if self._warehouse is None:
            return
        self._tables = {str(row["name"]): row for row in self._warehouse.rows(sql.load("queries/tables_there").text)}
        lost = [name for name in (*RAW, MART) if name not in self._tables]
        if lost:
            yield warn(
                "tables",
                f"not there: {', '.join(lost)}",
                "rankline init makes them; with a --query of your own they are not needed",
            )
        existing = [name for name in RAW if name in self._tables]
        if existing:
            counts = ", ".join(f"{name} {self._tables[name]['n_rows']:,}" for name in existing)
            yield ok("tables", f"{counts} rows")
        if n := self._tables.get(FORGOTTEN, {}).get("n_rows"):
            yield ok("forgotten", f"{n:,} user(s) are left out of every list")

    def read(self) -> Iterator[Finding]:
        """Read a row as a training does: of the mart, else of a constant."""
        if self._warehouse is None:
            return
        query = sql.load("queries/interactions") if MART in self._tables else sql.Sql(_CONSTANT, "a constant")
        try:
            typed = as_read(self._warehouse, query, Columns(user="user_id", item="item_id"))
            with self._warehouse.blocks(sql.first_of(typed).text, max_execution_time=_READ - 1) as blocks:
                n_rows = sum(block.num_rows for block in blocks)
        except TimedOutError:
            yield ok("read", f"a row of {query.name} takes longer than {_READ - 1} s")
            return
        except (QueryError, InputError) as error:
            if isinstance(error, QueryError) and error.code == TOO_SLOW:
                yield ok("read", f"a row of {query.name} takes longer than {_READ - 1} s")
                return
            self._readable = False
            todo = "give the user what the message names; rankline check --query tries a query of your own"
            yield fail("read", f"{query.name} can't be read: {error}", todo, server=isinstance(error, ServerError))
            return
        yield ok("read", f"{query.name}: {n_rows} row(s) came as a training reads them")

    def grants(self) -> Iterator[Finding]:
        """Check the user's grants for each command."""
        if self._warehouse is None:
            return
        if self._warehouse.embedded:
            yield ok("grants", "all: it is embedded")
            return
        try:
            rows = self._warehouse.rows("SHOW GRANTS FINAL")
        except QueryError:  # an older server does not know FINAL
            rows = self._warehouse.rows("SHOW GRANTS")
        lacking = missing([str(next(iter(row.values()))) for row in rows])
        if not self._settings.interaction_log_path.exists():
            del lacking["ship"]  # nothing is shipped from this host
        read_only = set()
        modes = self._warehouse.rows("SELECT value FROM system.settings WHERE name = 'readonly'")
        if modes and str(modes[0]["value"]) != "0":
            for command in [name for name in lacking if name != "train"]:
                # A setting and no grant: of the user, or of its profile.
                yield warn(
                    "grants",
                    f"the user may not {command}: its setting readonly is {modes[0]['value']}",
                    f"for rankline {command}: ALTER USER … SETTINGS readonly = 0, or run it as another",
                )
                read_only.add(command)
        for command, names in lacking.items():
            if not names:
                continue
            # Not every user should be allowed to delete.
            todo = f"for rankline {command}: GRANT {', '.join(names)} TO the user, or run it as another"
            yield warn("grants", f"the user may not {command}: {', '.join(names)} missing", todo)
        may = [command for command, names in lacking.items() if not names and command not in read_only]
        if not self._readable:
            may = [command for command in may if command != "train"]
        if may:
            yield ok("grants", f"the user may {', '.join(may)}")

    def shipping(self) -> Iterator[Finding]:
        """Check what services on several hosts need of a server's raw tables; of an embedded one shipping makes it."""
        if self._warehouse is None or self._warehouse.embedded:
            return
        if self._settings.interaction_log_path.exists():
            try:
                raw_columns(self._warehouse)
            except InputError as error:
                yield warn("shipping", str(error), "new interactions wait in their log until then")
                return
        tagged = {f"raw.{row['name']}" for row in self._warehouse.rows(sql.load("queries/tagged").text)}
        untagged = [name for name in (RATINGS, WATCHED) if name in self._tables and name not in tagged]
        if untagged:
            yield warn(
                "shipping",
                f"{', '.join(untagged)} without log_id and seq: no service finds what other hosts have shipped",
                "rankline init adds these columns",
            )
        if EXPOSURES in self._tables and not has_manifest(self._warehouse):
            yield warn("shipping", f"{EXPOSURES} without manifest", "rankline init adds this column")

    def clock(self) -> Iterator[Finding]:
        """Compare the clocks: times of rows are by the warehouse's clock, times of runs by this machine's."""
        if self._warehouse is None or self._warehouse.embedded:
            return
        before = time.time()
        remote = self._warehouse.rows("SELECT toUnixTimestamp64Milli(now64(3)) AS at")[0]["at"] / 1000
        after = time.time()
        apart = max(0.0, before - remote, remote - after)
        said = f"{apart:.1f} s apart from the warehouse's"
        yield warn("clock", said, "set both by NTP") if apart > _CLOCK else ok("clock", said)

    def published(self) -> Iterator[Finding]:
        """Check the published table."""
        if self._warehouse is None:
            return
        table, score = self._names.table, f"rankline score{self._names.typed}"
        if table not in self._tables:
            yield warn("published", f"{table} is not there yet", f"{score} publishes it")
            return
        rows = self._warehouse.rows(sql.load("queries/published_summary").text, {"table": self._names.sets})
        if not rows:
            yield fail("published", f"{table} is empty", f"{score}, or rankline rollback --table{self._names.typed}")
        elif len(rows) > 1:
            yield fail("published", f"{table} mixes {len(rows)} sets", f"{score} publishes a whole one")
        else:
            (published,) = rows
            version = published["model_version"] or "unregistered"
            yield ok(
                "published",
                f"{published['n_rows']:,} rows for {published['n_users']:,} users, version {version}, "
                f"{published['generated_at']:%Y-%m-%d %H:%M} UTC",
            )

    def left_behind(self) -> Iterator[Finding]:
        """Check for staged tables: of a running job, of a refused publication, or of a killed job."""
        names = {name for name in self._tables if name.startswith(f"{self._names.table}_staged_")}
        if not names:
            return
        old = sorted(name for name in names if float(self._tables[name]["hours"]) > 24)
        if old:
            yield warn(
                "staged tables",
                f"{len(old)} are older than a day: {', '.join(old[:3])}",
                f"the next rankline score{self._names.typed} drops them",
            )
        else:
            yield ok("staged tables", f"{len(names)}: of a job that runs, or kept for a day ({sorted(names)[0]} …)")

    def locks(self) -> Iterator[Finding]:
        """Check the locks of the published tables."""
        if self._warehouse is None or self._warehouse.embedded:
            return
        for row in self._warehouse.rows(sql.load("queries/publish_locks").text, {"tickets": self._names.tickets}):
            owners = self._warehouse.rows(sql.load("queries/publish_lock_owner").text, {"table": row["name"]})
            owner = owners[0] if owners else None
            if owner is None:
                yield ok("publish lock", "a job is just beginning")
                continue
            where = f"process {owner['pid']}{' on ' + owner['host'].split(' ')[0] if owner['host'] else ''}"
            identity = ProcessIdentity(owner["host"], owner["pid"], owner["process_started"])
            if owner["age"] > self._settings.lock_expiry or identity.dead:
                yield warn("publish lock", f"of a job that is dead ({where})", "the next job clears it away")
            else:
                yield ok("publish lock", f"held by a job that is {owner['what']} ({where})")
