"""What went wrong lately, as MLflow has it: whether the last training failed, and how often the gate refused."""

from __future__ import annotations

from typing import NamedTuple

import mlflow

from pipeline.tracking import registry
from pipeline.tracking.store_errors import as_server_error

__all__ = ["FailedTraining", "last_training_failure", "refused_in_a_row"]

_LOOKED_AT = 50  # runs and versions
_INTERRUPTED = "interrupted"  # the tag `failure` of a run that somebody ended by Ctrl-C


class FailedTraining(NamedTuple):
    """The run of a training that failed, and when it began, milliseconds since 1970."""

    run_id: str
    began_ms: int


def last_training_failure(model: str = registry.MODEL_NAME) -> FailedTraining | None:
    """The newest training of the model that has ended, if it failed; None if it did not, or somebody interrupted it.

    Raises ServerError.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
        runs = mlflow.search_runs(
            experiments,
            f"params.name = '{model}' and params.algorithm LIKE '%' and attributes.status != 'RUNNING'",
            max_results=_LOOKED_AT,
            order_by=["start_time DESC"],
            output_format="list",
        )
    for run in runs if experiments else []:
        if "mlflow.parentRunId" in run.data.tags:
            continue  # a trial of a search
        interrupted = run.data.tags.get("failure", "") == _INTERRUPTED
        if run.info.status == "FINISHED" or interrupted:
            return None
        return FailedTraining(str(run.info.run_id), int(run.info.start_time))
    return None


def refused_in_a_row(model: str = registry.MODEL_NAME) -> list[str]:
    """The newest versions that the gate refused, one after the other, the newest first. Raises ServerError.

    A version that was never put to the gate is passed over.
    """
    with as_server_error(mlflow.get_tracking_uri()):
        versions = mlflow.MlflowClient().search_model_versions(
            f"name = '{model}'", order_by=["version_number DESC"], max_results=_LOOKED_AT
        )
    refused = []
    for version in versions:
        outcome = dict(version.tags).get("promotion", "")
        if outcome == "refused":
            refused.append(str(version.version))
        elif outcome:
            break
    return refused
