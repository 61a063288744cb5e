"""The ASGI application of a worker: routes, errors as problems, the gate around all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.serving.gate import Gate, request_id_of
from pipeline.serving.invalid import invalid
from pipeline.serving.page.app import page_problem, with_page
from pipeline.serving.problems import MEDIA_TYPE, Code, Problem, fault, problem_body
from pipeline.serving.rate_limit import RateLimit
from pipeline.serving.request_log import RequestLog
from pipeline.serving.routes.embedding import embedding_routes
from pipeline.serving.routes.explain import explain_routes
from pipeline.serving.routes.forget import forget_routes
from pipeline.serving.routes.get import Answer, Get
from pipeline.serving.routes.items import item_routes
from pipeline.serving.routes.jobs import job_gets
from pipeline.serving.routes.lists import list_routes
from pipeline.serving.routes.models import model_changes, model_gets
from pipeline.serving.routes.openapi import document
from pipeline.serving.routes.post import post_routes
from pipeline.serving.routes.preferences import preference_gets, preference_puts
from pipeline.serving.routes.state import state_routes
from pipeline.serving.routes.training import training_gets, training_posts
from pipeline.serving.service import Service

__all__ = ["make_app"]


def make_app(service: Service) -> tuple[Gate, FastAPI]:
    """The application of all models, and the part of it that routes for the first."""
    names = service.config.names
    made = [_routes_of(one, names if one is service else ()) for one in service.every]
    options = service.config.options
    limit = RateLimit(options.rate_limit, options.workers)
    log = RequestLog(service.config.log_format, enabled=options.access_log == "yes")
    pages = [with_page(app, one, made[0][1], names) for (app, _), one in zip(made, service.every, strict=True)]
    named = dict(zip(names, pages, strict=True)) if names else {}
    gate = Gate(pages[0], service.access, limit, service.metrics, log, page_problem, named, options.metrics_port)
    return gate, made[0][0]


def _routes_of(service: Service, names: Sequence[str]) -> tuple[FastAPI, Callable[[], dict[str, Any]]]:
    """The routes of one model, and what makes their document, which has those under `names` besides."""
    gets = [*list_routes(service), *item_routes(service), *explain_routes(service), *preference_gets(service)]
    gets += [*embedding_routes(service), *model_gets(service), *training_gets(service), *job_gets(service)]
    gets += state_routes(service)

    @cache
    def documented() -> dict[str, Any]:
        return document(app, gets, names)

    @cache
    def body() -> bytes:
        return orjson.dumps(documented())

    def openapi(scope: object, values: object) -> Answer:
        return Answer(body())

    gets.append(Get("/openapi.json", "This document.", openapi, {"type": "object"}))
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would answer with the Host that was sent
        routes=[get.route for get in gets],
    )
    app.include_router(post_routes(service))
    for make in (preference_puts, training_posts, model_changes, forget_routes):
        app.include_router(make(service))
    app.add_exception_handler(Problem, _answering(_same))
    app.add_exception_handler(RequestValidationError, _answering(invalid))
    app.add_exception_handler(HTTPException, _answering(_http))
    app.add_exception_handler(Exception, _answering(lambda _: fault()))  # else a text; the gate writes the log
    return app, documented


def _answering(problem_of: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        body = problem_body(problem, request_id_of(request.scope))
        return Response(body, problem.status, problem.headers, MEDIA_TYPE)

    return handler


def _same(problem: Problem) -> Problem:
    return problem


def _http(error: HTTPException) -> Problem:
    if isinstance(error.__cause__, Problem):  # FastAPI wraps what reading a body raises
        return error.__cause__
    if error.status_code == 405:
        return Problem(Code.METHOD_NOT_ALLOWED, "This path has other methods", dict(error.headers or {}))
    if error.status_code == 404:
        return Problem(Code.NOT_FOUND, "There is no such path; GET /openapi.json has those that there are")
    return Problem(Code.INVALID_JSON, "The body can't be read")
