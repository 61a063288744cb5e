"""The page as an ASGI application, and who of it and the API answers a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from pipeline.serving.gate import ROUTE, App, Receive, Scope, Send, has_no_keys, may, request_id_of, send_problem
from pipeline.serving.page import docs, health, models, training, user
from pipeline.serving.page.answers import NAMES, STATIC, check_sent_by_page, of_problem, wants_page
from pipeline.serving.page.log_in import log_in, log_in_page, log_out
from pipeline.serving.problems import Code, Problem
from pipeline.serving.service import Service

__all__ = ["page_problem", "with_page"]

_Handler = Callable[[Request, Service], Awaitable[Response]]


def with_page(api: App, service: Service, document: docs.Document, names: Sequence[str] = ()) -> App:
    """An application that answers for the page of a model, and leaves the rest to the API.

    document : makes the OpenAPI document of the API
    names : all models of the service
    """

    async def api_page(request: Request, service: Service) -> Response:
        return await docs.show(request, service, document)

    routes = (*_ROUTES, ("GET", docs.PATH, api_page))
    page = Router([_route(method, path, handler, service) for method, path, handler in routes], default=_nothing)
    page.routes.append(Mount("/static", _Static(directory=STATIC)))

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        path, scope[NAMES] = scope["path"], names
        if path.startswith(("/page/", "/static/")) or path == docs.PATH or (path == "/" and wants_page(scope)):
            await page(scope, receive, send)
        else:
            await api(scope, receive, send)

    return front


async def page_problem(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    """Answer with a problem: to a person in HTML, to a program that asks for ``/`` in JSON."""
    if scope["path"].startswith("/static/") or (scope["path"] == "/" and not wants_page(scope)):
        await send_problem(send, problem, request_id_of(scope))
    else:
        await of_problem(Request(scope, receive), problem)(scope, receive, send)


def _route(method: str, path: str, handler: _Handler, service: Service) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope[ROUTE] = path
        try:
            if method == "POST":
                check_sent_by_page(request)
            return await handler(request, service)
        except Problem as problem:
            return of_problem(request, problem)

    return Route(path, endpoint, methods=[method], name=f"{method} {path}")


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(Code.NOT_FOUND, "There is no such page")


class _Static(StaticFiles):
    """The files beside the templates; their route is one in the metrics."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file."""
        scope[ROUTE] = "/static/{file}"
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            raise Problem(
                Code.NOT_FOUND if error.status_code == 404 else Code.METHOD_NOT_ALLOWED, "No such file"
            ) from None


# ---- handlers ------------------------------------------------------------------------------------


async def _home(request: Request, service: Service) -> Response:
    if not may(request.scope, "read") and not has_no_keys(request.scope):
        return log_in_page(request)
    return await user.show(request, service)


async def _log_in(request: Request, service: Service) -> Response:
    return await log_in(request, service.access)


async def _log_out(request: Request, service: Service) -> Response:
    return log_out(request, service.access)


_ROUTES: tuple[tuple[str, str, _Handler], ...] = (
    ("GET", "/", _home),
    ("POST", "/page/log-in", _log_in),
    ("POST", "/page/log-out", _log_out),
    ("GET", "/page/search", user.search),
    ("GET", "/page/why", user.why),
    ("POST", "/page/rate", user.rate),
    ("GET", "/page/models", models.show),
    ("GET", "/page/compare", models.compare),
    ("GET", "/page/job", models.job),
    ("POST", "/page/activate", models.activate),
    ("POST", "/page/rollback", models.rollback),
    ("GET", "/page/training", training.show),
    ("GET", "/page/training-state", training.state),
    ("POST", "/page/train", training.begin_training),
    ("GET", "/page/health", health.show),
)
