"""`init`, `sample` and `sql`: the warehouse itself; no MLflow is imported for these."""

from __future__ import annotations

from typing import Any

from pipeline.jobs.reporter import Reporter
from pipeline.settings import Settings
from pipeline.sources.choice import open_warehouse
from pipeline.sources.sample import load_sample
from pipeline.sources.warehouse import init

__all__ = ["init_job", "sample_job", "sql_job"]


def init_job(settings: Settings, reporter: Reporter) -> None:
    """Make the tables that are missing and bring the mart up to its SQL file."""
    with open_warehouse(settings) as warehouse:
        for sentence in init(warehouse):
            reporter.say(sentence)


def sample_job(settings: Settings, reporter: Reporter) -> None:
    """Load the sample; twice leaves the same rows."""
    with open_warehouse(settings) as warehouse:
        added = load_sample(warehouse)
        total = sum(added.values())
        detail = ", ".join(f"{n} into {name}" for name, n in added.items() if n)
        reporter.say(
            f"loaded the MovieLens sample into {warehouse.address}: {detail}"
            if total
            else f"the MovieLens sample is in {warehouse.address} already: nothing to add"
        )


def sql_job(statement: str, settings: Settings) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement; returns column names and rows (both empty for a statement without a result)."""
    with open_warehouse(settings) as warehouse:
        return warehouse.run(statement.rstrip().rstrip(";"))
