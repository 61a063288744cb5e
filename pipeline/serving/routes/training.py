"""Trainings: to begin one, and how the last one goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from pipeline.errors import UsageError
from pipeline.serving.gate import Scope
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.job_bodies import TrainRequest
from pipeline.serving.routes.job_schemas import TAKEN, TRAINING
from pipeline.serving.routes.jobs import job_table, take
from pipeline.serving.routes.openapi import answers
from pipeline.serving.service import Service
from pipeline.serving.training_request import asked_options

__all__ = ["training_gets", "training_posts"]


def training_gets(service: Service) -> list[Get]:
    """How the training goes that was asked for last, and the alias."""

    def training(scope: Scope, values: Mapping[str, Any]) -> Answer:
        with job_table(service) as table:
            return json_answer(service.snapshots.training(table))

    return [
        Get(path, "The training that was asked for last, as far as it is.", training, TRAINING, (),
            (Code.JOBS_UNAVAILABLE,))
        for path in ("/api/v1/training", "/api/ml/training-status")
    ]  # fmt: skip


def training_posts(service: Service) -> APIRouter:
    """To train, and the aliases."""
    router = APIRouter()

    def train(request: Request, body: TrainRequest | None = None) -> Response:
        return take(service, request, "train", {"options": begin(service, body or TrainRequest())}, ("train",))

    for path in ("/api/v1/train", "/api/ml/train", "/api/ml/retrain"):
        router.add_api_route(
            path,
            train,
            methods=["POST"],
            status_code=202,
            summary="Train a model on the interactions as configured; one training at a time.",
            responses=answers(TAKEN, (Code.JOB_RUNS, Code.JOBS_UNAVAILABLE), 202),
            operation_id=path.strip("/").replace("/", "_"),
        )
    return router


def begin(service: Service, asked: TrainRequest) -> dict[str, Any]:
    """The options of the training that is asked for. Raises Problem for one that there can't be."""
    try:
        options = asked_options(*asked.asked)
    except UsageError as error:
        raise Problem(Code.INVALID_REQUEST, str(error)) from None
    algorithm = options.get("algorithm")
    if algorithm is not None:
        try:
            known = service.snapshots.algorithms
        except Problem:
            known = ()  # the training will say so
        if known and algorithm.strip().lower().replace("_", "-") not in known:
            raise Problem(Code.INVALID_REQUEST, f"There is no algorithm {algorithm!r}; there are {', '.join(known)}")
    return options
