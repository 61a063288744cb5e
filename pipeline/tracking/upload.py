"""Logs a pending run to MLflow. `train` and `resume` share this code; logging a run twice changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow

from pipeline.errors import ArtifactError
from pipeline.evaluation.metric_names import HEADLINE, current_names
from pipeline.models.factor_model import FactorModel
from pipeline.models.registry import REBUILT_ESTIMATOR, rebuild_estimator
from pipeline.models.saved_model import SavedModel, load_saved_model
from pipeline.tracking import model_page, registry
from pipeline.tracking.outbox import PendingRun
from pipeline.tracking.run import Run

__all__ = ["recommender_parts", "record", "register"]


def record(run: Run, pending: PendingRun) -> str:
    """Log everything but the version; returns the recommender's URI.

    Raises
    ------
    ArtifactError
        The pending run holds no valid model.
    ServerError
        The store fails.
    """
    facts, at_ms = pending.facts, int(pending.facts["at_ms"])
    if facts["rename"]:
        run.tags({"mlflow.runName": facts["name"]})
    run.params(facts["params"])
    run.tags(facts["tags"])
    if facts["dataset"] is not None:
        run.dataset(**facts["dataset"])
    run.folder(pending.model)
    run.folder(pending.files)
    model = load_saved_model(pending.model, mapped=True)
    if facts["estimator"] is not None:
        _log_estimator(run, _estimator(facts, model))
    uri = _log_recommender(run, pending.model, model)
    _log_metrics(run, facts, at_ms, uri)
    run.describe(facts["description"])
    return uri


def _log_metrics(run: Run, facts: Any, at_ms: int, recommender_uri: str) -> None:
    """Log the metrics of the run and of its recommender.

    They are logged after the models: MLflow asks for every metric of the run, one request each, when it logs a model.
    """
    # The UI shows metrics in the order of logging. A pending run may be old and have the old names of metrics.
    metrics = current_names(facts["metrics"])
    model_id = recommender_uri.rpartition("/")[2]
    run.metrics({name: value for name, value in metrics.items() if name in HEADLINE}, at_ms, model_id)
    for name, values in facts["curves"].items():
        run.curve(name, values, at_ms)
    run.metrics({name: value for name, value in metrics.items() if name not in HEADLINE}, at_ms, model_id)


def register(run: Run, pending: PendingRun, model_uri: str) -> str:
    """Register the model, once for a run; returns the version. It is the last step, so a version is always complete."""
    tags, name = dict(pending.facts["version_tags"]), pending.registered_model
    version = run.retry("registering the model", lambda: registry.register(model_uri, tags, run.id, name))
    text = str(pending.facts.get("version_description", ""))  # older pending runs have none
    run.retry("describing the model", lambda: model_page.describe(version, text, name))
    run.tags({"model_version": version})
    return version


def _estimator(facts: Any, model: SavedModel) -> Any:
    """Rebuild the fitted scikit-learn estimator from the factors and the saved parameters."""
    if not isinstance(model, FactorModel):
        raise ArtifactError(f"The saved estimator belongs to a model of factors, not of kind {model.kind}")
    try:
        return rebuild_estimator(facts["estimator"], facts["curves"].get("loss", []), model)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"The saved estimator can't be rebuilt ({error})") from None


def _log_estimator(run: Run, estimator: Any, name: str = REBUILT_ESTIMATOR) -> None:
    """Log the estimator in skops format (never pickle), unless the run has it already."""
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

    run.retry("logging a model", once)


def _log_recommender(run: Run, artifacts: Path, model: SavedModel, name: str = "recommender") -> str:
    """Log the pyfunc model, unless the run has it already; returns its URI."""
    from mlflow.models import Model

    def once() -> str:
        logged_uri = _whole_model(run, name)
        if logged_uri is not None:
            return logged_uri
        with _quiet(), TemporaryDirectory() as folder:
            parts = recommender_parts(artifacts, model, Path(folder))
            # What `mlflow.pyfunc.log_model` does, but it can't be told to leave out the validation.
            info = Model.log(None, _Pyfunc, name=name, validate_serving_input=False, **parts)
        return str(info.model_uri)

    return run.retry("logging a model", once)


class _Pyfunc:
    """`mlflow.pyfunc` for `Model.log`, without the validation of the example.

    For that MLflow loads the model a second time, as large as it is, and at most logs a warning.
    """

    @staticmethod
    def save_model(*, path: str, mlflow_model: Any, validate_serving_input: bool, **parts: Any) -> None:
        """Save the model, of `recommender_parts`."""
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(path=path, mlflow_model=mlflow_model, **parts)


def recommender_parts(artifacts: Path, model: SavedModel, scratch: Path) -> dict[str, Any]:
    """The arguments for MLflow to save the recommender: the saved model, the code for scoring, and the signature.

    The code is written to the folder `scratch`.
    """
    import pandas as pd

    from pipeline.tracking import model_code, pyfunc

    return {
        "python_model": str(Path(__file__).with_name("model_loader.py")),
        "artifacts": {"model": str(artifacts), "code": str(model_code.write_package(scratch / "code"))},
        "signature": pyfunc.signature_for(model.users.kind, model.items.kind),
        "input_example": pd.DataFrame({"user_id": model.users.values[:1]}),
        "pip_requirements": _versions("mlflow", "numpy", "scipy", "pandas"),
    }


def _whole_model(run: Run, name: str) -> str | None:
    """The URI of the run's logged model of that name, if it is complete. Incomplete ones are deleted."""
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
    """Silence MLflow's warnings, which are meant for developers."""
    log = logging.getLogger("mlflow")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
