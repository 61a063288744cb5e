"""The OpenAPI document: FastAPI's, with the plain routes of GET entered from what they parse with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pipeline import __version__
from pipeline.serving.access import scope_of
from pipeline.serving.problems import MEDIA_TYPE, Code, status_of
from pipeline.serving.routes.get import Get
from pipeline.serving.routes.schemas import PROBLEM

__all__ = ["answers", "document"]

# Every route may answer with these.
_ALWAYS = (Code.NOT_AUTHENTICATED, Code.NOT_ALLOWED, Code.INVALID_REQUEST, Code.TOO_MANY_REQUESTS, Code.TOO_BUSY)
_OF_BODIES = (Code.BODY_TOO_LARGE, Code.REQUEST_TIMEOUT)
_V1 = "/api/v1/"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def answers(schema: Mapping[str, Any], codes: Sequence[Code], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route of POST or PUT, as FastAPI takes them."""
    return {**_good(schema, statuses or (200,)), **_bad((*codes, *_OF_BODIES))}


def document(app: FastAPI, gets: Sequence[Get], names: Sequence[str] = ()) -> dict[str, Any]:
    """The whole document, with the paths under the names of models."""
    made = get_openapi(
        title="Rankline",
        version=__version__,
        summary="Lists by the champion, now.",
        routes=app.routes,
    )
    for get in gets:
        made["paths"].setdefault(get.path, {})["get"] = _operation(get)
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            operation.get("responses", {}).pop("422", None) if method == "get" else None
            needed = scope_of(method.upper(), path)
            operation["security"] = [{}] if needed is None else [{"key": []}, {}]
            operation["x-scope"] = needed
            operation["responses"].update({str(s): a for s, a in _bad(_ALWAYS).items()} | operation["responses"])
            if method != "get":  # FastAPI describes a body of its own, which is not what is answered
                operation["responses"]["422"] = _bad((Code.INVALID_REQUEST, Code.INVALID_JSON))[422]
    for name in names:
        made["paths"] |= _named(made["paths"], name, names)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return made


def _named(paths: Mapping[str, Any], name: str, names: Sequence[str]) -> dict[str, Any]:
    """The paths that a model has under its name."""
    own = [path for path in paths if path.startswith(_V1) and path.removeprefix(_V1).partition("/")[0] not in names]
    return {
        f"{_V1}{name}/{path.removeprefix(_V1)}": {
            method: {**operation, "operationId": f"{name}_{operation['operationId']}"}
            for method, operation in paths[path].items()
        }
        for path in own
    }


def _operation(get: Get) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in get.path_parameters.items()
    ]
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.help,
            "schema": parameter.schema,
        }
        for parameter in get.parameters
    ]
    good = _good(get.schema, (200,), get.media_type)
    responses = {str(status): answer for status, answer in {**good, **_bad(get.problems)}.items()}
    return {
        "summary": get.summary,
        "operationId": "get_" + get.path.strip("/").replace("/", "_").replace("{", "").replace("}", ""),
        "parameters": parameters,
        "responses": responses,
    }


def _good(
    schema: Mapping[str, Any], statuses: Sequence[int], media_type: str = "application/json"
) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": "Done", "content": {media_type: {"schema": dict(schema)}}} for status in statuses}


def _bad(codes: Sequence[Code]) -> dict[int | str, dict[str, Any]]:
    """Status → answer, whose description names the codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(status_of(code), []).append(code.value)
    return {
        status: {"description": ", ".join(names), "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
        for status, names in sorted(by_status.items())
    }
