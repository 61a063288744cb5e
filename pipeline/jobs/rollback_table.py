"""`rollback --table`: yesterday's published table is today's again."""

from __future__ import annotations

from pipeline import shelf, sql
from pipeline.jobs.reporter import Reporter
from pipeline.lease import holding
from pipeline.settings import Settings
from pipeline.sources.choice import open_warehouse

__all__ = ["rollback_table_job"]


def rollback_table_job(keep: int, settings: Settings, reporter: Reporter) -> None:
    """Exchange the published set with the one before; the newer one is kept. Raises InputError where there is none."""
    with open_warehouse(settings) as warehouse:
        for name in ("ddl/02_analytics", "ddl/publications"):
            warehouse.ddl(sql.load(name).text)
        with holding(warehouse, "rolling back", reporter.say):
            was, now = shelf.roll_back(warehouse, keep)
        reporter.say(
            f"{shelf.PUBLISHED} in {warehouse.address} is the set of {_words(now)} again; that of {_words(was)} "
            f"is kept as analytics.{was.kept_name}"
        )


def _words(one: shelf.PublishedSet) -> str:
    version = f"version {one.model_version}, " if one.model_version else ""
    return f"{shelf.stamp(one.at_ms)} ({version}run {one.run_id[:8] or 'unknown'})"
