"""The API for people: the OpenAPI document as a page without a script, made here, where ``--docs yes`` asks for it.

The usual pages for such documents load themselves from another address, and need a looser policy than this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.page.answers import html
from pipeline.serving.problems import Code, Problem
from pipeline.serving.service import Service

__all__ = ["PATH", "Document", "Field", "Operation", "operations", "show"]

PATH = "/docs"
Document = Callable[[], Mapping[str, Any]]
_ALIASES = "/api/ml/"
_BOUNDS = (("minimum", "from"), ("maximum", "to"), ("minLength", "characters from"), ("maxLength", "characters to"),
           ("minItems", "entries from"), ("maxItems", "entries to"))  # fmt: skip


class Field(NamedTuple):
    """A parameter, or a member of a body. `where`: ``path``, ``query``, ``header`` or ``body``."""

    name: str
    where: str
    kind: str
    required: bool
    text: str


class Operation(NamedTuple):
    """Attributes
    ----------
    aliases : other paths of the same: by the names of a document, or with the ids in the query
    scope : of the key that it needs; "" where everybody may ask
    answers : status → codes of problems, or "" where it is done
    """

    method: str
    path: str
    aliases: Sequence[str]
    summary: str
    scope: str
    fields: Sequence[Field]
    answers: Mapping[str, str]


async def show(request: Request, service: Service, document: Document) -> Response:
    """The page. Raises Problem where it is not asked for."""
    if service.config.options.docs != "yes":
        raise Problem(Code.NOT_FOUND, "There is no such path; GET /openapi.json has those that there are")
    made = document()
    return html(
        request, "docs.html.j2", operations=operations(made, service.config.names), version=made["info"]["version"]
    )


def operations(document: Mapping[str, Any], names: Sequence[str] = ()) -> list[Operation]:
    """What can be asked, in the order of the paths; that of models by name is the same and left out."""
    named = tuple(f"/api/v1/{name}/" for name in names)
    found: dict[tuple[str, str], Operation] = {}
    for path, methods in sorted(document["paths"].items(), key=lambda entry: _order(entry[0])):
        for method, operation in methods.items():
            key = method, operation["summary"]
            if path.startswith(named):
                continue
            if key in found:
                found[key] = found[key]._replace(aliases=(*found[key].aliases, path))
            else:
                found[key] = _operation(document, method, path, operation)
    return sorted(found.values(), key=lambda one: (one.path, one.method))


def _order(path: str) -> tuple[bool, bool, str]:
    """Of several paths of the same: that of the API's own name and with the id in the path comes first."""
    return path.startswith(_ALIASES), "{" not in path, path


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Operation:
    fields = [
        Field(
            parameter["name"],
            parameter["in"],
            _kind(document, parameter["schema"]),
            bool(parameter.get("required")),
            parameter.get("description", ""),
        )
        for parameter in operation.get("parameters", ())
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields += _members(document, content["schema"])
    answers = {
        status: "" if status.startswith("2") else answer["description"]
        for status, answer in sorted(operation["responses"].items())
    }
    scope = operation.get("x-scope") or ""
    return Operation(method.upper(), path, (), operation["summary"], scope, fields, answers)


def _members(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Field]:
    """The members of the object that a body is, or is a list of."""
    schema = _resolved(document, schema)
    if "properties" in schema:
        required = schema.get("required", ())
        return [
            Field(name, "body", _kind(document, member), name in required, member.get("description", ""))
            for name, member in schema["properties"].items()
        ]
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return next((found for one in inner if (found := _members(document, one))), [])


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What values it takes, in words."""
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        kinds = [_kind(document, one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        kind = f"list of {_kind(document, schema.get('items', {}))}"
    else:
        kind = {"string": "text", None: "anything"}.get(schema.get("type"), str(schema.get("type")))
    bounds = [f"{words} {schema[name]:,}" for name, words in _BOUNDS if name in schema]
    if schema.get("default") not in (None, ""):
        bounds.append(f"else {schema['default']}")
    return ", ".join([kind, *bounds])


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
