"""The data that the champion was trained on, read from its run and its ``metadata.json``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

from pipeline.data.id_map import IdMap
from pipeline.data.profile import ReferenceData, Source
from pipeline.errors import ArtifactError, InputError
from pipeline.models.factor_model import METADATA, load_ids
from pipeline.models.fold_in.way import cold_rows
from pipeline.tracking import champion, registry
from pipeline.tracking.run import as_server_error
from pipeline.tracking.store import store_in_use

__all__ = ["champion_data"]


def champion_data(model: str = registry.MODEL_NAME) -> ReferenceData | None:
    """The training data of the registered model's champion; None where no version is champion.

    Raises ArtifactError where its ids can't be read or fail verification, InputError where its run does not exist.
    """
    version = champion.champion(model)
    if version is None:
        return None
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            data = mlflow.MlflowClient().get_run(version.run_id).data
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise InputError(f"the run of {version.label} is no longer in {store_in_use()}") from None
            raise
    with tempfile.TemporaryDirectory(prefix="rankline-") as scratch:
        try:
            with registry.signature_named(version):
                users, items, meta = load_ids(registry.download(version, Path(scratch), (METADATA,)))
        except OSError as error:
            raise ArtifactError(f"the {METADATA} of {version.label} can't be read ({error.strerror})") from None
    new = cold_rows(meta, len(items), "new_rows")
    # Items that nobody had are not lost when nobody has them.
    items = IdMap(np.delete(items.values, new)) if new.size else items
    parameters = meta.get("parameters")
    bounds = ("min_interactions", "max_interactions")
    return ReferenceData(
        f"{version.label}, the champion",
        Source(data.tags.get("source", ""), data.tags.get("source_address", ""), data.tags.get("query_digest") or None),
        users,
        items,
        _whole(data.params, "n_interactions"),
        isinstance(parameters, Mapping) and any(parameters.get(name) is not None for name in bounds),
        _number(data.params, "mean_score"),
    )


def _number(params: Mapping[str, str], name: str) -> float | None:
    with suppress(ValueError):
        value = float(params.get(name, ""))
        return value if np.isfinite(value) else None
    return None


def _whole(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
