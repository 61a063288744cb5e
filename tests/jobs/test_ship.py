"""`ship` and what trainings and batches do with the log before they read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.errors import InteractionLogError
from pipeline.interaction_log import Columns, Interaction, InteractionLog
from pipeline.jobs.ship import drain, logged_pairs, ship_job
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]


@pytest.fixture
def settings(tmp_path: Path, embedded_dsn: str) -> Settings:
    return Settings(warehouse=SecretStr(embedded_dsn), live_dir=tmp_path / "live")


def test_without_a_log_nothing_is_done_or_said(embedded: Warehouse, settings: Settings) -> None:
    said: list[str] = []
    drain(embedded, settings, Reporter(said.append, silent))
    assert ship_job(settings, Reporter(said.append, silent)).shipped is None
    assert list(logged_pairs(settings, "int", "int")) == []
    assert said == []
    assert not settings.live_path.exists()


def test_a_log_that_cannot_be_read_is_said_and_stops_no_job(embedded: Warehouse, settings: Settings) -> None:
    settings.live_path.mkdir()
    settings.interaction_log_path.write_text("no database " * 100)
    said: list[str] = []
    drain(embedded, settings, Reporter(said.append, silent))
    assert len(said) == 1
    assert "new interactions were not shipped, and are not read" in said[0]
    with pytest.raises(InteractionLogError, match="no interaction log"):
        ship_job(settings, Reporter(said.append, silent))


def test_pairs_are_of_the_models_kinds(settings: Settings) -> None:
    with InteractionLog.open(settings.interaction_log_path, columns=Columns("String", "Int64")) as log:
        log.append([Interaction("7", 1), Interaction("x", 2), Interaction("7", 3)])
    ((users, items),) = logged_pairs(settings, "int", "str")
    assert (users.tolist(), items.tolist()) == ([7, 7], ["1", "3"])
