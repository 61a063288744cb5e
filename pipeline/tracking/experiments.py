"""Experiments in the registry: a tag of the registered model each, and aliases that keep the versions while it runs.

The tag is ``rankline.experiment.NAME``. Aliases are set before the tag says that it runs, and removed after it says
that it is stopped: a process that is killed in between leaves a version that is kept for longer, and never one that is
deleted too early. The same command again goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.experiments.definition import ARMS, Experiment, alias_of
from pipeline.tracking.champion_lock import champion_lock
from pipeline.tracking.registry import MODEL_NAME
from pipeline.tracking.store import as_server_error, is_file, locked_store

__all__ = [
    "PREFIX",
    "by_name",
    "experiment",
    "experiments",
    "experiments_in",
    "running",
    "start",
    "stop",
    "versions_in_use",
]

PREFIX = "rankline.experiment."


def experiments_in(tags: Mapping[str, str]) -> list[Experiment]:
    """The experiments in the tags of a registered model, the newest first. Raises InputError for a damaged one."""
    found = []
    for key, value in tags.items():
        if key.startswith(PREFIX):
            try:
                found.append(Experiment.parse(value))
            except InputError as error:
                raise InputError(f"{error} (the tag {key} of the registered model)") from None
    return sorted(found, key=lambda one: (-one.started, one.name))


def experiments(model: str = MODEL_NAME) -> list[Experiment]:
    """All experiments of a registered model, the newest first; [] where there is no such model."""
    with as_server_error(mlflow.get_tracking_uri()):
        return experiments_in(_tags(model))


def by_name() -> dict[str, list[Experiment | None]]:
    """Name → the experiments of that name, of every registered model; None for one that can't be read."""
    found: dict[str, list[Experiment | None]] = {}
    with as_server_error(mlflow.get_tracking_uri()):
        models = mlflow.search_registered_models()
    for key, value in ((key, value) for model in models for key, value in dict(model.tags).items()):
        if key.startswith(PREFIX):
            try:
                one: Experiment | None = Experiment.parse(value)
            except InputError:
                one = None
            found.setdefault(key.removeprefix(PREFIX), []).append(one)
    return found


def experiment(name: str, model: str = MODEL_NAME) -> Experiment:
    """One by its name. Raises InputError where there is none."""
    known = experiments(model)
    for one in known:
        if one.name == name:
            return one
    there = f"there are {', '.join(one.name for one in known)}" if known else "there is none yet"
    raise InputError(f"No experiment {name!r} of {model}: {there}; rankline experiment start begins one")


def running(model: str = MODEL_NAME) -> Experiment | None:
    """The experiment that runs, if one does."""
    return next((one for one in experiments(model) if one.running), None)


def start(new: Experiment, model: str = MODEL_NAME) -> Experiment:
    """Begin an experiment; one of the same name that is the same in all but salt and time has begun before.

    Raises InputError for a name that was used before, while another one runs, and for a version that is not there.
    """
    with _alone(model):
        client = mlflow.MlflowClient()
        for one in experiments_in(_tags(model)):
            if one.name == new.name:
                if one.running and _planned(one) == _planned(new):
                    _keep(client, one, model)
                    return one
                how = "runs already, with other settings" if one.running else "has been"
                raise InputError(f"The experiment {new.name} {how}: what was seen of it stays; take another name")
            if one.running:
                raise InputError(
                    f"The experiment {one.name} of {model} runs, and one runs at a time: rankline experiment stop "
                    f"{one.name} ends it"
                )
        _keep(client, new, model)
        client.set_registered_model_tag(model, PREFIX + new.name, new.text)
        return new


def stop(ended: Experiment, model: str = MODEL_NAME) -> None:
    """Write down that an experiment is stopped, and let its versions go."""
    with _alone(model):
        client = mlflow.MlflowClient()
        client.set_registered_model_tag(model, PREFIX + ended.name, ended.text)
        there = client.get_registered_model(model).aliases
        for arm in ARMS:
            if alias_of(ended.name, arm) in there:
                client.delete_registered_model_alias(model, alias_of(ended.name, arm))


def versions_in_use(model: str = MODEL_NAME) -> dict[str, str]:
    """Version → the experiment that runs with it."""
    return {version: one.name for one in experiments(model) if one.running for version in one.versions}


def _keep(client: mlflow.MlflowClient, one: Experiment, model: str) -> None:
    """Set the aliases of the arms. Raises InputError for a version that is not there."""
    for arm, version in zip(ARMS, one.versions, strict=True):
        try:
            client.set_registered_model_alias(model, alias_of(one.name, arm), version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise InputError(f"There is no {model}/{version} for the arm {arm}") from None


def _planned(one: Experiment) -> tuple[object, ...]:
    return (one.versions, one.split, one.metric, one.min_effect, one.alpha, one.power, one.min_days, one.relevant_from)


def _tags(model: str) -> dict[str, str]:
    try:
        return dict(mlflow.MlflowClient().get_registered_model(model).tags)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


@contextmanager
def _alone(model: str) -> Iterator[None]:
    """Hold the lock of the champion: of two experiments that begin at once, one begins."""
    uri = mlflow.get_tracking_uri()
    with as_server_error(uri), locked_store(uri), champion_lock(not is_file(uri), model):
        yield
