"""A new MLflow store in a file: whole, or not there."""

from __future__ import annotations

from pathlib import Path

import mlflow

__all__ = ["make_store"]


def make_store(path: Path) -> None:
    """Make the store's tables beside `path` and put them there at a stroke; one that is there stays as it is.

    MLflow makes them in place, by some fifty steps that are no transaction: killed between two, it can neither
    use nor mend what is there. Called by one process at a time (`tracking.locked_store`).
    """
    if path.exists() and path.stat().st_size:
        return
    partial = path.with_name(path.name + ".partial")
    for old in path.parent.glob(partial.name + "*"):  # its journals too
        old.unlink()
    mlflow.MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)
