"""The line that says where an installed wheel puts its files: said before the first of them is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import first_use as module
from pipeline.cli.first_use import first_use
from pipeline.settings import Settings


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, as an installed wheel sees it."""
    monkeypatch.setattr(module, "CHECKOUT", None)
    monkeypatch.setattr(module, "PROJECT_ROOT", tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "RANKLINE_WAREHOUSE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_it_names_the_folder_and_what_goes_there(empty: Path) -> None:
    said = first_use(Settings())
    assert said is not None
    assert said.startswith(f"files go into {empty}: mlflow.db, mlruns, unlogged, data/warehouse (")
    assert "MLFLOW_TRACKING_URI and RANKLINE_WAREHOUSE name other places" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["mlflow.db", "mlruns", "unlogged", "data/warehouse"])
def test_nothing_is_said_where_there_is_something(empty: Path, name: str) -> None:
    (empty / name).mkdir(parents=True)
    assert first_use(Settings()) is None


def test_what_lies_elsewhere_is_not_named(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKLINE_WAREHOUSE", "clickhouse://host")
    said = first_use(Settings())
    assert said is not None
    assert "data/warehouse" not in said
    assert "RANKLINE_WAREHOUSE" not in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert first_use(Settings()) is None


def test_a_checkout_has_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RANKLINE_WAREHOUSE", raising=False)
    assert first_use(Settings()) is None
