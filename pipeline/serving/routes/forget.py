"""To forget a user: at once in all answers, and then in the warehouse."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from pipeline.serving.problems import Code, Problem
from pipeline.serving.routes.job_schemas import TAKEN
from pipeline.serving.routes.jobs import take
from pipeline.serving.routes.openapi import answers
from pipeline.serving.service import Service

__all__ = ["forget_routes"]

_USER = r"^[^\x00-\x1f\x7f]+$"


def forget_routes(service: Service) -> APIRouter:
    """By path, and by query for ids with a slash."""
    router = APIRouter()

    async def by_path(
        request: Request, user_id: Annotated[str, InPath(min_length=1, max_length=256, pattern=_USER)]
    ) -> Response:
        return await _forget(service, request, user_id)

    async def by_query(
        request: Request, user_id: Annotated[str, Query(min_length=1, max_length=256, pattern=_USER)]
    ) -> Response:
        return await _forget(service, request, user_id)

    for path, handler in (("/api/v1/users/{user_id}", by_path), ("/api/v1/users", by_query)):
        router.add_api_route(
            path,
            handler,
            methods=["DELETE"],
            status_code=202,
            summary="Forget a user: from now on unknown in all answers; the job deletes their rows in the warehouse.",
            responses=answers(TAKEN, (Code.LOG_UNAVAILABLE, Code.JOBS_UNAVAILABLE), 202),
            operation_id=f"forget_{handler.__name__}",
        )
    return router


async def _forget(service: Service, request: Request, text: str) -> Response:
    """The tombstone is on disk before this answers."""
    if service.writer is None:
        raise Problem(Code.LOG_UNAVAILABLE, "Nobody was forgotten: the log of new interactions can't be opened")
    try:
        user = str(service.model.served().user(text))  # as the model spells ids
    except Problem:
        user = text
    await service.writer.forget(user)
    return await asyncio.to_thread(take, service, request, "forget", {"user": user})
