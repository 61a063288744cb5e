"""Fixtures of homes: an empty one, and one with a trained and published sample."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.processes import Home, copy_tree


def once_a_run(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills; the first worker that asks makes it for all, and none changes it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.with_suffix(".made").exists():
            folder.mkdir()
            make(folder)
            folder.with_suffix(".made").touch()
    return folder


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with its tables: making them takes seconds, so it is made once and copied."""

    def make(folder: Path) -> None:
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        client.create_experiment("rankline", artifact_location=(folder / "artifacts").as_uri())
        with sqlite3.connect(folder / "mlflow.db") as db:
            db.execute("VACUUM")

    return once_a_run(tmp_path_factory, "store", make)


def new_home(folder: Path, template: Path) -> Home:
    """A home in that folder, its store a copy of the template's."""
    folder.mkdir(exist_ok=True, parents=True)
    target = folder / "mlflow.db"
    target.write_bytes((template / "mlflow.db").read_bytes())
    with sqlite3.connect(target) as db:
        db.execute("UPDATE experiments SET artifact_location = ?", ((folder / "artifacts").as_uri(),))
    return Home(folder)


@pytest.fixture
def home(tmp_path: Path, store_template: Path) -> Home:
    """Nothing trained yet."""
    return new_home(tmp_path / "home", store_template)


@pytest.fixture
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """The home's store as this process's own: most of what follows needs no process of its own."""
    import mlflow

    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.env["MLFLOW_TRACKING_URI"])
    yield home
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def _trained_sample(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    def make(folder: Path) -> None:
        made = new_home(folder / "home", store_template)
        for command in (("train", "--max-iter", "30"), ("score",)):
            done = made.rankline(*command)
            assert done.returncode == 0, done.stderr

    return once_a_run(tmp_path_factory, "trained", make) / "home"


def _copied(sample: Path, folder: Path) -> Home:
    """A home again, with its addresses."""
    copy_tree(sample, folder)
    with sqlite3.connect(folder / "mlflow.db") as db:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(sample), str(folder)))
    return Home(folder)


@pytest.fixture(scope="session")
def trained(_trained_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The sample, trained and published; for looking at, not for changing."""
    return _copied(_trained_sample, tmp_path_factory.mktemp("trained") / "home")


@pytest.fixture
def trained_copy(_trained_sample: Path, tmp_path: Path) -> Home:
    """The same, to change."""
    return _copied(_trained_sample, tmp_path / "home")
