"""`init`, `sample` and `sql`: commands on the warehouse alone, which do not import MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.data.sources.sample import load_sample
from pipeline.data.sources.warehouse import init
from pipeline.jobs.inputs import open_warehouse
from pipeline.settings import Settings

__all__ = ["SampleResult", "init_job", "sample_job", "sql_job"]


@dataclass(frozen=True)
class SampleResult:
    """The number of added rows by table (0 where the rows existed), and the warehouse's address."""

    added: dict[str, int]
    address: str


def init_job(settings: Settings) -> list[str]:
    """Create missing tables and update the mart to its SQL file. Returns a sentence for each change."""
    with open_warehouse(settings) as warehouse:
        return list(init(warehouse))


def sample_job(settings: Settings) -> SampleResult:
    """Load the sample. A second call adds no rows."""
    with open_warehouse(settings) as warehouse:
        return SampleResult(dict(load_sample(warehouse)), warehouse.address)


def sql_job(statement: str, settings: Settings) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one statement; returns column names and rows (both empty for a statement without a result)."""
    with open_warehouse(settings) as warehouse:
        return warehouse.run(statement.rstrip().rstrip(";"))
