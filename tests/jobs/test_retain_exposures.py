"""`retain` and A/B tests: what was logged of those that ended long ago goes, and nothing that one that runs needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretStr
from support.processes import Home
from support.stored_evaluations import add_version, stored_evaluation

from pipeline.errors import RefusedError
from pipeline.experiments.definition import Experiment
from pipeline.jobs import retain as retain_module
from pipeline.jobs.retain import RetainRequest, RetainResult, retain
from pipeline.models.factor_model import FactorModel
from pipeline.options import RetainOptions
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.shipping.exposures import make_tables
from pipeline.tracking import experiments
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

NOW = datetime(2013, 11, 30, 2, tzinfo=UTC)  # a simulated past: the engine's clock is years ahead


def ms(days_ago: float) -> int:
    return int((NOW - timedelta(days=days_ago)).timestamp() * 1000)


def of(name: str, began: float, ended: float | None) -> Experiment:
    state = "running" if ended is None else "stopped"
    stopped = None if ended is None else ms(ended)
    return Experiment(name, ("1", "1"), (5000, 5000), "salt", ms(began), state=state, stopped=stopped)


def show(warehouse: Warehouse, name: str, *days_ago: float) -> None:
    """A list a day, and an outcome an hour later."""
    at = [datetime.fromtimestamp(ms(day) / 1000, UTC) for day in days_ago]
    requests = [f"{name}{day}" for day in days_ago]
    common = {"request_id": requests, "user_id": pa.repeat("1", len(at))}
    shown = {**common, "experiment": pa.repeat(name, len(at)), "at": pa.array(at, pa.timestamp("ms", "UTC"))}
    warehouse.insert("analytics.exposures", pa.table(shown))
    done = pa.array([one + timedelta(hours=1) for one in at], pa.timestamp("ms", "UTC"))
    warehouse.insert("analytics.outcomes", pa.table({**common, "item_id": pa.repeat("7", len(at)), "at": done}))


def left(warehouse: Warehouse) -> tuple[dict[str, int], int]:
    rows = warehouse.rows("SELECT experiment AS e, count() AS n FROM analytics.exposures GROUP BY e ORDER BY e")
    return {row["e"]: row["n"] for row in rows}, warehouse.rows("SELECT count() AS n FROM analytics.outcomes")[0]["n"]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(
    here: Home, rng: np.random.Generator, make_model: Callable[..., FactorModel], embedded: Warehouse,
    embedded_dsn: str, said: list[str],
) -> Callable[..., RetainResult]:  # fmt: skip
    """`retain` over a store with two models, of which each has tests."""
    model = make_model(rng)
    add_version(here, model, stored_evaluation(np.full(4, 0.3)))
    here.client().create_registered_model("shop")
    for name, one in (
        ("rankline", of("old", 200, 100)),
        ("rankline", of("late", 200, 100)),
        ("rankline", of("young", 120, 80)),
        ("rankline", of("both", 300, 250)),
        ("shop", of("both", 130, None)),
    ):
        here.client().set_registered_model_tag(name, experiments.PREFIX + one.name, one.text)
    here.client().set_registered_model_tag("shop", experiments.PREFIX + "damaged", "{}")
    make_tables(embedded)

    def go(**options: object) -> RetainResult:
        dry_run = bool(options.pop("dry_run", False))
        settings = Settings(warehouse=SecretStr(embedded_dsn), live_dir=Path(here.folder) / "live")
        return retain(RetainRequest(settings, Reporter(said.append, silent), NOW, RetainOptions(**options), dry_run))

    return go


def test_what_ended_long_ago_goes_by_the_jobs_own_clock(run: Callable[..., RetainResult], embedded: Warehouse) -> None:
    show(embedded, "old", 200, 150, 101)
    show(embedded, "late", 101, 10)  # shipped by a host after the end
    show(embedded, "young", 119, 81)
    show(embedded, "both", 290, 120)  # of two models, of which one still runs
    show(embedded, "damaged", 280)
    show(embedded, "another store's", 299)
    before = left(embedded)
    planned = run(dry_run=True)
    assert planned.exposures.by_experiment == {"old": 3}
    assert left(embedded) == before
    done = run()
    assert done.exposures == planned.exposures
    # The outcomes of "old" stay as long as an older list does.
    assert left(embedded) == ({name: n for name, n in before[0].items() if name != "old"}, before[1])
    assert "3 row(s) of A/B tests that ended" in done.sentence
    assert run().exposures.by_experiment == {}
    embedded.command("TRUNCATE TABLE analytics.exposures")
    show(embedded, "young", 110)
    done = run()
    # Older than 131 days: the test that runs began 130 days ago, and hosts' clocks may differ by a day.
    assert done.exposures.n_outcomes == 5
    assert left(embedded) == ({"young": 1}, before[1] - 5 + 1)
    assert run(keep_exposures_days=1e9).exposures.n_outcomes == 0


def test_who_may_not_delete_keeps_them_and_says_so(
    run: Callable[..., RetainResult], embedded: Warehouse, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show(embedded, "old", 150)

    def refuse(*_: object) -> None:
        raise RefusedError("a grant is missing")

    monkeypatch.setattr(retain_module, "delete_exposures", refuse)
    assert run().exposures.by_experiment == {}
    assert left(embedded)[0] == {"old": 1}
    assert said == ["what was logged of A/B tests that ended stays: a grant is missing"]


def test_without_the_tables_there_is_nothing_to_do(run: Callable[..., RetainResult], embedded: Warehouse) -> None:
    embedded.command("DROP TABLE analytics.outcomes")
    assert run().exposures.by_experiment == {}
