"""`Get`: a route of GET that costs little: a plain ASGI endpoint, and its entry in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from starlette.routing import Route

from pipeline.serving.gate import ROUTE, Receive, Scope, Send
from pipeline.serving.problems import Code
from pipeline.serving.routes.parameters import Parameter, parse
from pipeline.serving.served_model import ServedBy

__all__ = ["Answer", "Get", "WaitingGet", "json_answer", "send_answer"]


class Answer(NamedTuple):
    """A whole answer. `by` is the model that made it; None for none."""

    body: bytes
    by: ServedBy | None = None
    status: int = 200
    media_type: bytes = b"application/json"


def json_answer(value: Any, by: ServedBy | None = None, status: int = 200) -> Answer:
    """An answer of a JSON-able value."""
    return Answer(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), by, status)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send it."""
    headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body))]
    if answer.by is not None:
        headers += [(b"x-model-version", answer.by.version), (b"x-manifest", answer.by.manifest)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


@dataclass(eq=False)
class Get:
    """A route.

    Attributes
    ----------
    path : with parameters in braces, as FastAPI's
    summary : one sentence, for the document
    answer : makes the answer of the scope and the parsed parameters; raises Problem
    schema : JSON Schema of the answer
    problems : codes that it may answer with, besides those of every route
    media_type : of the answer
    """

    path: str
    summary: str
    answer: Callable[[Scope, Mapping[str, Any]], Answer]
    schema: Mapping[str, Any]
    parameters: Sequence[Parameter] = ()
    problems: Sequence[Code] = ()
    media_type: str = "application/json"
    path_parameters: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope[ROUTE] = self.path
        values = parse(scope["query_string"], self.parameters)
        await send_answer(send, self.answer(scope, values))

    @property
    def route(self) -> Route:
        """The route of Starlette."""
        return Route(self.path, self, methods=["GET"], name=self.path)


@dataclass(eq=False)
class WaitingGet(Get):
    """A route whose answer has to be waited for: `waiting` makes it, and `answer` is not called."""

    waiting: Callable[[Scope, Mapping[str, Any]], Awaitable[Answer]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope[ROUTE] = self.path
        values = parse(scope["query_string"], self.parameters)
        made = self.answer(scope, values) if self.waiting is None else await self.waiting(scope, values)
        await send_answer(send, made)
