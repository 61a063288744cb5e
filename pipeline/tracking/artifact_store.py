"""Where the artifacts of runs go: the folder of an experiment, and whether anything can be written there."""

from __future__ import annotations

import hashlib
import importlib
import re
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import RefusedError
from pipeline.runtime.files import advice_for, reason_of
from pipeline.runtime.redact import address_of_store

__all__ = ["artifact_folder", "check_artifact_store", "local_folder"]

_LONGEST = 100  # characters of a folder's name


def artifact_folder(store: Path, experiment: str) -> Path:
    """The folder of an experiment's artifacts: beside the store's file, in ``mlruns``, and never outside of that."""
    name = re.sub(r"[^\w .@+-]", "_", experiment)[:_LONGEST]
    if name != experiment or not name.strip(". "):
        # Two experiments never share a folder.
        name = f"{name.strip('. ')}-{hashlib.sha256(experiment.encode()).hexdigest()[:12]}"
    return store.parent / "mlruns" / name


def local_folder(location: str) -> Path | None:
    """The folder on this machine that an artifact address names; None for any other artifact store."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def check_artifact_store(location: str) -> None:
    """Raise RefusedError where nothing can be written to the artifact store, before hours are spent on a model.

    A store that is not on this machine is not asked: only its client has to be installed, and it raises ImportError.
    """
    folder = local_folder(location)
    if folder is None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(location)
        _import_client(location)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RefusedError(
            f"The artifact store {address_of_store(location)} can't be written ({reason_of(error)}); "
            f"{advice_for(error)}: --experiment-name NAME makes an experiment beside the store"
        ) from None


def _import_client(location: str) -> None:
    """MLflow imports the client of an artifact store when it first needs it, which is after the fit."""
    client = {"s3": "boto3", "gs": "google.cloud.storage", "wasbs": "azure.storage.blob"}.get(urlsplit(location).scheme)
    if client is not None:
        importlib.import_module(client)
