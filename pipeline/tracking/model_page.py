"""Descriptions of the registered model and of its versions in the MLflow UI."""

from __future__ import annotations

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.tracking.registry import CHAMPION, MODEL_NAME
from pipeline.tracking.run import as_server_error

__all__ = ["describe", "refresh"]

# The beginning of a generated description. A description with another beginning was written by a person and stays.
_OURS = "Recommenders trained by Rankline."


def describe(version: str, text: str, model: str = MODEL_NAME) -> None:
    """Set the description of the version, unless it has one, and refresh that of the model."""
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()):
        if text and not client.get_model_version(model, version).description:
            client.update_model_version(model, version, text)
    refresh(model)


def refresh(model: str = MODEL_NAME) -> None:
    """Name the champion and the newest version in the model's description, unless a person has written it."""
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()):
        written = client.get_registered_model(model).description or ""
        if written and not written.startswith(_OURS):
            return
        try:
            champion = client.get_model_version_by_alias(model, CHAMPION)
        except MlflowException:  # there is none yet
            champion = None
        newest = client.search_model_versions(f"name = '{model}'", order_by=["version_number DESC"], max_results=1)
        lines = [f"{_OURS} The batch job and the service use the version with the alias `{CHAMPION}`."]
        lines += ["None is promoted yet."] if champion is None else [f"**Champion**, {_line(champion)}"]
        lines += [
            f"**Newest**, {_line(latest)}"
            for latest in newest
            if champion is None or latest.version != champion.version
        ]
        client.update_registered_model(model, "\n\n".join(lines))


def _line(version: object) -> str:
    text = getattr(version, "description", "") or ""
    return f"version {getattr(version, 'version', '')}" + (f": {text}" if text else "")
