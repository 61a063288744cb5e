"""The warehouse: does it answer, are its tables there, what may its user do, what did dead jobs leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import sql
from pipeline.checkup.finding import Finding, fail, ok, warn
from pipeline.checkup.grants import missing
from pipeline.checkup.holder import holder_of
from pipeline.checkup.timed import Check, Group
from pipeline.errors import LockedError, QueryError, RanklineError, ServerError
from pipeline.forgotten import FORGOTTEN
from pipeline.lease import EXPIRY
from pipeline.owner import Owner
from pipeline.settings import Settings
from pipeline.shelf import PUBLISHED
from pipeline.sources.warehouse import MART
from pipeline.warehouse import Patience, Warehouse, connect

__all__ = ["RAW", "warehouse_group"]

RAW = ("raw.users", "raw.movies", "raw.ratings", "raw.watched_movies")
_HINT = "is the server up, and is that its HTTP port (8123, with TLS 8443)?"
# Seconds: to connect and to wait for an answer, within a check's time; how far clocks may be apart.
_CONNECT, _READ, _CLOCK = 4, 7, 5.0


def warehouse_group(settings: Settings, mask: Callable[[str], str]) -> Group:
    """Its checks, one after another over one connection."""
    look = _Look(settings, mask)
    checks = (
        Check("reachable", look.reachable),
        Check("tables", look.tables),
        Check("grants", look.grants),
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
        self._warehouse: Warehouse | None = None
        self._there: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        if self._warehouse is not None:
            self._warehouse.close()

    def reachable(self) -> Iterator[Finding]:
        """Open it as a command does, but make nothing."""
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
                patience=Patience(0),  # what is wrong now is what is asked for
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
        """raw.*, the mart, and what publishing makes."""
        if self._warehouse is None:
            return
        self._there = {str(row["name"]): row for row in self._warehouse.rows(sql.load("queries/tables_there").text)}
        lost = [name for name in (*RAW, MART) if name not in self._there]
        if lost:
            yield warn(
                "tables",
                f"not there: {', '.join(lost)}",
                "rankline init makes them; with a --query of your own they are not needed",
            )
        there = [name for name in RAW if name in self._there]
        if there:
            counts = ", ".join(f"{name} {self._there[name]['n_rows']:,}" for name in there)
            yield ok("tables", f"{counts} rows")
        if n := self._there.get(FORGOTTEN, {}).get("n_rows"):
            yield ok("forgotten", f"{n:,} user(s) are left out of every list")

    def grants(self) -> Iterator[Finding]:
        """What the user may do, by command."""
        if self._warehouse is None:
            return
        if self._warehouse.embedded:
            yield ok("grants", "all: it is embedded")
            return
        try:
            rows = self._warehouse.rows("SHOW GRANTS FINAL")
        except QueryError:  # an older server
            rows = self._warehouse.rows("SHOW GRANTS")
        lacking = missing([str(next(iter(row.values()))) for row in rows])
        modes = self._warehouse.rows("SELECT value FROM system.settings WHERE name = 'readonly'")
        if modes and str(modes[0]["value"]) != "0":
            for command in ("score", "forget"):
                lacking[command] = [f"readonly = 0 (it is {modes[0]['value']})", *lacking[command]]
        for command, names in lacking.items():
            if not names:
                continue
            # Deleting is not everybody's to do.
            todo = f"for rankline {command}: GRANT {', '.join(names)} TO the user, or run it as another"
            yield warn("grants", f"the user may not {command}: {', '.join(names)} missing", todo)
        may = [command for command, names in lacking.items() if not names]
        if may:
            yield ok("grants", f"the user may {', '.join(may)}")

    def clock(self) -> Iterator[Finding]:
        """The machine's clock and the warehouse's: times of rows are the warehouse's, times of runs the machine's."""
        if self._warehouse is None or self._warehouse.embedded:
            return
        before = time.time()
        theirs = self._warehouse.rows("SELECT toUnixTimestamp64Milli(now64(3)) AS at")[0]["at"] / 1000
        after = time.time()
        apart = max(0.0, before - theirs, theirs - after)
        said = f"{apart:.1f} s apart from the warehouse's"
        yield warn("clock", said, "set both by NTP") if apart > _CLOCK else ok("clock", said)

    def published(self) -> Iterator[Finding]:
        """What readers see."""
        if self._warehouse is None:
            return
        if PUBLISHED not in self._there:
            yield warn("published", f"{PUBLISHED} is not there yet", "rankline score publishes it")
            return
        rows = self._warehouse.rows(sql.load("queries/published_summary").text)
        if not rows:
            yield fail("published", f"{PUBLISHED} is empty", "rankline score, or rankline rollback --table")
        elif len(rows) > 1:
            yield fail("published", f"{PUBLISHED} mixes {len(rows)} sets", "rankline score publishes a whole one")
        else:
            (one,) = rows
            version = one["model_version"] or "unregistered"
            yield ok(
                "published",
                f"{one['n_rows']:,} rows for {one['n_users']:,} users, version {version}, "
                f"{one['generated_at']:%Y-%m-%d %H:%M} UTC",
            )

    def left_behind(self) -> Iterator[Finding]:
        """Staged tables: a running job's, one refused by a check, or a dead one's."""
        names = {name for name in self._there if name.startswith("analytics.recommendations_staged_")}
        if not names:
            return
        old = sorted(name for name in names if float(self._there[name]["hours"]) > 24)
        if old:
            yield warn(
                "staged tables",
                f"{len(old)} are older than a day: {', '.join(old[:3])}",
                "the next rankline score drops them",
            )
        else:
            yield ok("staged tables", f"{len(names)}: of a job that runs, or kept for a day ({sorted(names)[0]} …)")

    def locks(self) -> Iterator[Finding]:
        """Who holds the published tables."""
        if self._warehouse is None or self._warehouse.embedded:
            return
        for row in self._warehouse.rows(sql.load("queries/publish_locks").text):
            found = self._warehouse.rows(sql.load("queries/publish_lock_owner").text, {"table": row["name"]})
            one = found[0] if found else None
            if one is None:
                yield ok("publish lock", "a job is just beginning")
                continue
            where = f"process {one['pid']}{' on ' + one['host'].split(' ')[0] if one['host'] else ''}"
            if one["age"] > EXPIRY or Owner(one["host"], one["pid"], one["process_started"]).dead:
                yield warn("publish lock", f"of a job that is dead ({where})", "the next job clears it away")
            else:
                yield ok("publish lock", f"held by a job that is {one['what']} ({where})")
