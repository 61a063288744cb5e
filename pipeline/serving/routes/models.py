"""Versions: which there are, how good they are, and which is to be the champion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.serving.gate import Scope
from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.get import Answer, Get, json_answer
from pipeline.serving.routes.job_schemas import HISTORY, MODELS, OF_CHAMPION
from pipeline.serving.service import Service

__all__ = ["model_gets"]


def model_gets(service: Service) -> list[Get]:
    """What is read of versions, and the aliases."""

    def models(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return json_answer({"models": service.snapshots.models(served_version(service))})

    def metrics(scope: Scope, values: Mapping[str, Any]) -> Answer:
        return json_answer(_of_champion(service))

    def history(scope: Scope, values: Mapping[str, Any]) -> Answer:
        names = ("version", "created_at", "metrics", "baselines")
        found = reversed(service.snapshots.models())
        return json_answer({"history": [{name: model[name] for name in names} for model in found]})

    codes = (Code.NOT_KNOWN_YET,)
    return [
        Get(base + path, summary, answer, schema, (), codes)
        for path, summary, answer, schema in (
            ("/models", "All versions, the newest first.", models, MODELS),
            ("/metrics", "The champion's metrics beside its baselines'.", metrics, OF_CHAMPION),
            ("/metrics/history", "Metrics of all versions, the oldest first.", history, HISTORY),
        )
        for base in ("/api/v1", "/api/ml")
    ]


def served_version(service: Service) -> str:
    """The version that this worker answers with; "" without one."""
    try:
        return service.model.served().pointer.version
    except Problem:
        return ""


def _of_champion(service: Service) -> dict[str, Any]:
    """The champion's metrics; while none is promoted, those of what is served, else of the newest."""
    found = service.snapshots.models(served_version(service))
    if not found:
        raise Problem(Code.NOT_KNOWN_YET, "No version is registered in MLflow yet")
    best = max(found, key=lambda model: (model["champion"], model["served"], int(model["version"])))
    return {name: best[name] for name in ("version", "metrics", "baselines")}
