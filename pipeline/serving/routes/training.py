"""Trainings: how the last one goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.serving.gate import Scope
from pipeline.serving.problems import Code
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.job_schemas import TRAINING
from pipeline.serving.routes.jobs import job_table
from pipeline.serving.service import Service

__all__ = ["training_gets"]


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
