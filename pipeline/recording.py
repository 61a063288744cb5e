"""What is kept on this machine goes into its run: the same way at once and later, and any number of times the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from pipeline import registry
from pipeline.artifact import FactorModel
from pipeline.errors import ArtifactError
from pipeline.kept import Kept
from pipeline.tracking import Run

__all__ = ["record", "register"]


def record(run: Run, kept: Kept) -> str:
    """Log everything but the version; returns the recommender's URI.

    Raises
    ------
    ArtifactError
        What is kept makes no model.
    ServerError
        The store fails.
    """
    facts, at_ms = kept.facts, int(kept.facts["at_ms"])
    if facts["rename"]:
        run.tags({"mlflow.runName": facts["name"]})
    run.params(facts["params"])
    run.tags(facts["tags"])
    if facts["dataset"] is not None:
        run.dataset(**facts["dataset"])
    run.metrics(facts["metrics"], at_ms)
    for name, values in facts["curves"].items():
        run.curve(name, values, at_ms)
    run.folder(kept.model)
    run.folder(kept.files)
    model = FactorModel.load(kept.model, mapped=True)
    if facts["estimator"] is not None:
        _log_estimator(run, _estimator(facts, model))
    uri = _log_recommender(run, kept.model, model)
    run.describe(facts["description"])
    return uri


def register(run: Run, kept: Kept, model_uri: str) -> str:
    """Make the model a version, once for a run; returns the version. Last: it exists only when all behind it does."""
    tags = dict(kept.facts["version_tags"])
    version = run.repeated("registering the model", lambda: registry.register(model_uri, tags, run.id))
    run.tags({"model_version": version})
    return version


def _estimator(facts: Any, model: FactorModel) -> Any:
    """The fitted `sklearn.decomposition.NMF`, of the factors and of what is kept beside them."""
    from pipeline.models.sklearn_nmf import FittedFactors, as_estimator

    try:
        kept = facts["estimator"]
        losses = np.array(facts["curves"].get("loss", []), np.float64)
        w, h = (np.array(side) for side in (model.user_factors, model.item_factors))
        fitted = FittedFactors(w, h, losses, kept["converged"], kept["error"])
        return as_estimator(fitted, kept["params"], h.shape[1])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"What is kept of the estimator makes none ({error})") from None


def _log_estimator(run: Run, estimator: Any, name: str = "nmf_model") -> None:
    """In skops format (never pickle), unless it is there."""
    import mlflow.sklearn

    def once() -> None:
        if _whole_model(run, name) is None:
            with _quiet():
                mlflow.sklearn.log_model(
                    estimator,
                    name=name,
                    serialization_format="skops",
                    pip_requirements=_versions("mlflow", "scikit-learn", "skops", "numpy", "scipy"),
                )

    run.repeated("logging a model", once)


def _log_recommender(run: Run, artifacts: Path, model: FactorModel, name: str = "recommender") -> str:
    """The pyfunc from code, unless it is there; returns its URI."""
    import mlflow.pyfunc
    import pandas as pd

    from pipeline import pyfunc

    code = Path(pyfunc.__file__)

    def once() -> str:
        there = _whole_model(run, name)
        if there is not None:
            return there
        with _quiet():
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(code),
                artifacts={"model": str(artifacts)},
                code_paths=[str(code.parent)],
                signature=pyfunc.signature_for(model.users.kind, model.items.kind),
                input_example=pd.DataFrame({"user_id": model.users.values[:1]}),
                pip_requirements=_versions("mlflow", "numpy", "scipy", "pandas"),
            )
        return str(info.model_uri)

    return run.repeated("logging a model", once)


def _whole_model(run: Run, name: str) -> str | None:
    """The URI of the run's model of that name, if it is whole; one that was cut off is deleted."""
    client, whole = mlflow.MlflowClient(), None
    for model in client.search_logged_models([run.experiment_id], f"source_run_id = '{run.id}' AND name = '{name}'"):
        if str(model.status) == "READY":
            whole = str(model.model_uri)
        else:
            client.delete_logged_model(model.model_id)
    return whole


def _versions(*packages: str) -> list[str]:
    """Installed versions as pip requirements."""
    from importlib.metadata import version

    return [f"{package}=={version(package)}" for package in packages]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's warnings, which speak to developers, not to who trains a model."""
    log = logging.getLogger("mlflow")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
