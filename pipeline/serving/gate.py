"""`Gate`: the outermost layer: who may ask, how much, and what all answers carry. Pure ASGI: some 20 µs."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from pipeline.serving.access import Access, is_of_page
from pipeline.serving.metrics import Metrics
from pipeline.serving.problems import MEDIA_TYPE, Code, Problem, fault, problem_body
from pipeline.serving.rate_limit import RateLimit
from pipeline.serving.request_log import RequestLog

__all__ = [
    "ROUTE",
    "Gate",
    "has_no_keys",
    "key_of",
    "may",
    "may_see_details",
    "name_of",
    "request_id_of",
    "send_problem",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
SendProblem = Callable[[Scope, Receive, Send, Problem], Awaitable[None]]

_LOG = logging.getLogger("rankline")
_BODY, _BATCH = 64 << 10, 1 << 20  # bytes
_LARGE = frozenset(("/api/v1/interactions", "/api/v1/recommendations"))
_BODY_SECONDS = 10.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_V1, _PAGE_OF = "/api/v1/", "/page/of/"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
ROUTE = "rankline.route"  # the template of the path, as the routes of GET note it
_ID, _KEY, _NO_KEYS, _NAME = "rankline.request_id", "rankline.key", "rankline.no_keys", "rankline.name"
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
]
_OF_PAGE = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"same-origin"),
    (b"vary", b"Accept"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
]
# Kept by browsers, and asked for anew each time: after an upgrade nobody has the old script beside the new page.
_STATIC = [(name, b"no-cache" if name == b"cache-control" else value) for name, value in _OF_PAGE]


def request_id_of(scope: Scope) -> str:
    """The id of a request: the client's ``X-Request-ID``, if it is one, else a random one."""
    return str(scope.get(_ID, ""))


def may_see_details(scope: Scope) -> bool:
    """Whether the request has the scope `read`, or there are no keys."""
    return may(scope, "read")


def may(scope: Scope, name: str) -> bool:
    """Whether the request has that scope; without keys, everybody who may ask has all but `admin`."""
    key = scope.get(_KEY)
    return (has_no_keys(scope) and name != "admin") if key is None else name in key.scopes


def has_no_keys(scope: Scope) -> bool:
    """Whether there are no keys."""
    return bool(scope.get(_NO_KEYS))


def key_of(scope: Scope) -> str:
    """The id of the request's API key; "" without one."""
    key = scope.get(_KEY)
    return "" if key is None else str(key.id)


def name_of(scope: Scope) -> str:
    """The model that the path named, whose page it is; "" for the first."""
    return str(scope.get(_NAME, ""))


class Gate:
    """Wraps the application.

    Parameters
    ----------
    page_problem : answers with a problem where the page was asked
    named : the applications of models by name: ``/api/v1/NAME/…`` is ``/api/v1/…`` of one of them, ``/page/of/NAME/…``
        is ``/page/…``, and ``/page/of/NAME`` is ``/``
    """

    def __init__(
        self,
        app: App,
        access: Access,
        limit: RateLimit,
        metrics: Metrics,
        log: RequestLog,
        page_problem: SendProblem | None = None,
        named: Mapping[str, App] | None = None,
        metrics_port: int = 0,
    ) -> None:
        self._app, self._access, self._limit, self._metrics, self._log = app, access, limit, metrics, log
        self._page_problem, self._named, self._metrics_port = page_problem, named or {}, metrics_port
        self.draining = False
        self.in_flight = 0

    def _named_app(self, scope: Scope) -> App:
        """The application that the path names, which sees the path without the name; so do keys and limits."""
        path = scope["path"]
        of_page = path.startswith(_PAGE_OF)
        name, slash, rest = path.removeprefix(_PAGE_OF if of_page else _V1).partition("/")
        app = self._named.get(name)
        if app is None or not (of_page or (slash and rest and path.startswith(_V1))):
            return self._app
        if of_page:
            scope[_NAME], scope["path"] = name, f"/page/{rest}" if rest else "/"
        else:
            scope["path"] = _V1 + rest
        return app

    def _admit(self, scope: Scope, receive: Receive, length: int | None) -> Receive:
        """`receive` of a request that may be answered: its body is bounded, its key is in the scope.

        Raises
        ------
        Problem
            Where the path is no path, the key may not ask that, or it asks too often.
        """
        path = scope["path"]
        if _CONTROL.search(path):
            # No id has one. A route's pattern would pass over a last line feed, and what a path needs would differ.
            raise Problem(Code.INVALID_REQUEST, "The path has a control character")
        if self._metrics_port and path != "/metrics" and scope["server"][1] == self._metrics_port:
            raise Problem(Code.NOT_FOUND, "This port has /metrics alone")
        client = (scope.get("client") or ("",))[0]
        scope[_KEY] = self._access.check(scope["method"], path, scope["headers"], client)
        scope[_NO_KEYS] = self._access.has_no_keys
        if scope[_KEY] is not None:
            self._limit.take(scope[_KEY].id)
        if scope["method"] in ("GET", "HEAD"):
            return receive
        return _bounded(receive, _BATCH if path in _LARGE else _BODY, length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        app = self._named_app(scope) if self._named else self._app
        begun = time.perf_counter()
        request_id, traceparent, length = _headers_of(scope)
        scope[_ID] = request_id
        status, version, manifest = 0, "", ""
        own = [(b"x-request-id", request_id.encode()), *_always(scope["path"])]
        if self.draining:
            own.append((b"connection", b"close"))

        async def sending(message: Message) -> None:
            nonlocal status, version, manifest
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.get("headers") or []
                for name, value in headers:
                    if name == b"x-model-version":
                        version = value.decode("latin-1")
                    elif name == b"x-manifest":
                        manifest = value.decode("latin-1")
                message["headers"] = [*headers, *own]
            await send(message)

        self.in_flight += 1
        try:
            receive = self._admit(scope, receive, length)
            await app(scope, receive, sending)
        except Problem as problem:
            if status:
                raise
            if self._page_problem is not None and is_of_page(scope["path"]):
                scope[_NO_KEYS] = self._access.has_no_keys
                await self._page_problem(scope, receive, sending, problem)
            else:
                await send_problem(sending, problem, request_id)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it is, the client gets an answer
            last = traceback.extract_tb(error.__traceback__)[-1]
            _LOG.error(f"request {request_id}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})")
            if status not in (0, 500):
                raise  # the answer had begun: it is broken off
            if not status:
                await send_problem(sending, fault(), request_id)
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - begun
            route = scope.get(ROUTE) or getattr(scope.get("route"), "path", None) or "none"
            self._metrics.request(scope["method"] if route != "none" else "any", route, str(status)).inc()
            self._metrics.seconds(route).observe(seconds)
            self._log.write(scope["method"], route, status, seconds, request_id, (version, manifest), traceparent)


def _always(path: str) -> list[tuple[bytes, bytes]]:
    if not is_of_page(path):
        return _ALWAYS
    return _STATIC if path.startswith("/static/") else _OF_PAGE


def _headers_of(scope: Scope) -> tuple[str, str, int | None]:
    """Request id, traceparent ("" for none), and the length of the body, if it is stated."""
    request_id, traceparent, length = "", "", None
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            request_id = text if _is_id(text) else ""
        elif name == b"traceparent":
            text = value.decode("latin-1")
            traceparent = text if _is_id(text) else ""
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    return request_id or secrets.token_hex(8), traceparent, length


def _is_id(text: str) -> bool:
    # These are logged: a key that somebody sends for an id is not.
    return _REQUEST_ID.fullmatch(text) is not None and "rk_" not in text


def _bounded(receive: Receive, most: int, stated: int | None) -> Receive:
    """`receive` of a body of at most so many bytes, all of which must arrive within some seconds."""
    if stated is not None and stated > most:
        raise _too_large(most)
    until = time.monotonic() + _BODY_SECONDS
    got, whole = 0, False

    async def receiving() -> Message:
        nonlocal got, whole
        if whole:  # the body is there: what comes is a disconnect
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise Problem(
                Code.REQUEST_TIMEOUT, f"The body did not arrive within {_BODY_SECONDS:.0f} s", {"Connection": "close"}
            ) from None
        if message["type"] == "http.request":
            got += len(message.get("body") or b"")
            whole = not message.get("more_body", False)
            if got > most:
                raise _too_large(most)
        return message

    return receiving


def _too_large(most: int) -> Problem:
    return Problem(Code.BODY_TOO_LARGE, f"A body has at most {most:,} bytes here", {"Connection": "close"})


async def send_problem(send: Send, problem: Problem, request_id: str) -> None:
    """Answer with a problem."""
    body = problem_body(problem, request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
