"""The home that `tests/fixtures/before_move` holds: store, runs and warehouse of the code before its modules moved.

`make.py` beside the files says what is in them.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

from support.processes import Home

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "before_move"
PLACEHOLDER = "/ROOT"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
PENDING: str = EXPECTED["pending"]


def restore_files(folder: Path) -> Path:
    """The runs, the models and the pending training, as if they had been made in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(FIXTURE / "home.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in (folder / "mlruns").rglob("MLmodel"):
        path.write_text(path.read_text().replace(PLACEHOLDER, str(folder)))
    return folder


def restore_store(folder: Path) -> None:
    """The MLflow store, with the folder in every column that names a place."""
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.executescript((FIXTURE / "mlflow.sql").read_text().replace(PLACEHOLDER, str(folder)))


def restore_warehouse(home: Home) -> None:
    """The tables, by their own DDL, and their rows."""
    folder = FIXTURE / "warehouse"
    statements = (folder / "ddl.sql").read_text().rstrip().removesuffix(";").split(";\n\n")
    for path in sorted(folder.glob("*.parquet")):
        statements.append(f"INSERT INTO {path.stem} SELECT * FROM file('{path}', Parquet)")
    for status, _, errors in home.many(*(["sql", statement] for statement in statements)):
        assert status == 0, errors
