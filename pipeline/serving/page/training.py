"""The page's third part: to train, how the training goes, and how good the versions of before were."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.page.answers import form, html, parameter
from pipeline.serving.page.charts import history_chart, loss_chart
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.job_bodies import TrainRequest
from pipeline.serving.routes.jobs import job_table, take
from pipeline.serving.routes.training import begin
from pipeline.serving.service import Service

__all__ = ["begin_training", "show", "state"]


async def show(request: Request, service: Service) -> Response:
    """The training of last, the form, and the history."""
    try:
        models, algorithms = service.snapshots.models(), service.snapshots.algorithms
    except Problem:  # the agent has not been at MLflow yet; a training can be asked for all the same
        models, algorithms = [], ()
    history = history_chart(models)
    return html(request, "training.html.j2", **_state(service), algorithms=algorithms, history=history)


async def state(request: Request, service: Service) -> Response:
    """How it goes."""
    return html(request, "training_state.html.j2", **_state(service))


async def begin_training(request: Request, service: Service) -> Response:
    """Ask for a training."""
    given = await form(request)
    algorithm = parameter(given.get("algorithm"), "algorithm")
    try:
        asked = TrainRequest(
            algorithm=algorithm or None, hyperparameters=_hyperparameters(given.get("hyperparameters", "")) or None
        )
    except ValidationError as error:
        raise Problem(Code.INVALID_REQUEST, str(error.errors()[0]["msg"])) from None
    options = {"options": begin(service, asked)}
    await asyncio.to_thread(take, service, request, "train", options, ("train",))
    return html(request, "training_state.html.j2", **_state(service))


def _hyperparameters(text: str) -> dict[str, Any]:
    """Of lines ``name=value``. Raises Problem."""
    values: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name or not value:
            raise Problem(Code.INVALID_REQUEST, f"{line[:60]!r} must be name=value")
        try:
            values[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            values[name] = value
    return values


def _state(service: Service) -> dict[str, Any]:
    with job_table(service) as table:
        training = service.snapshots.training(table)
    return {"training": training, "chart": loss_chart(training["loss"])}
