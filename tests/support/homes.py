"""Fixtures of homes: an empty one, and one with a trained and published sample."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from support.processes import Home, copy_tree


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with its tables: making them takes seconds, so it is made once and copied."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    client.create_experiment("rankline", artifact_location=(folder / "artifacts").as_uri())
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.execute("VACUUM")
    return folder


def _home(folder: Path, template: Path) -> Home:
    folder.mkdir(exist_ok=True, parents=True)
    target = folder / "mlflow.db"
    target.write_bytes((template / "mlflow.db").read_bytes())
    with sqlite3.connect(target) as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((folder / "artifacts").as_uri(),))
    return Home(folder)


@pytest.fixture
def home(tmp_path: Path, store_template: Path) -> Home:
    """Nothing trained yet."""
    return _home(tmp_path / "home", store_template)


@pytest.fixture(scope="session")
def _trained_sample(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Home:
    made = _home(tmp_path_factory.mktemp("trained") / "home", store_template)
    done = made.rankline("train", "--max-iter", "30")
    assert done.returncode == 0, done.stderr
    done = made.rankline("score")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def trained(_trained_sample: Home) -> Home:
    """The sample, trained and published; for looking at, not for changing."""
    return _trained_sample


@pytest.fixture
def trained_copy(_trained_sample: Home, tmp_path: Path) -> Home:
    """The same, to change."""
    folder = copy_tree(_trained_sample.folder, tmp_path / "home")
    with sqlite3.connect(folder / "mlflow.db") as db:
        old, new = str(_trained_sample.folder), str(folder)
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
    return Home(folder)
