"""What is wrong with a request's body, in words for those who sent it: a field as they wrote it, and one sentence.

pydantic names the branches of its unions and its own types. Here a fault has a path within the body, and one sentence;
of the branches of a union those count that come nearest to what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError

from pipeline.serving.problems import Code, Problem

__all__ = ["invalid", "problem_of"]

_SHOWN, _LONGEST = 20, 80
# The value is of another type than this branch wants: of a union, another branch may fit better.
_OTHER_TYPE: Mapping[str, str] = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
_MESSAGES: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is no field here",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_pattern_mismatch": "must be text without control characters, and not blank",  # what our patterns ask for
    "string_unicode": "must be text that UTF-8 can hold",
    "too_short": "must have at least {min_length} element(s)",
    "too_long": "must have at most {max_length} element(s)",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "value_error": "{error}",
}
_TIME = "must be a time: ISO 8601, or seconds since 1970"


class _Fault(NamedTuple):
    field: str
    kind: str
    context: Mapping[str, Any]
    message: str  # pydantic's

    @property
    def is_other_type(self) -> bool:
        return self.kind in _OTHER_TYPE

    @property
    def said(self) -> str:
        if self.kind.startswith(("datetime", "date_", "timezone")):
            return _TIME
        form = _MESSAGES.get(self.kind)
        if form is None:
            return self.message.replace("Input should ", "must ").replace("Value error, ", "")
        return form.format_map(self.context)


def invalid(error: RequestValidationError) -> Problem:
    """The problem to answer with. Values are not repeated, which may be large or secret."""
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return Problem(Code.INVALID_JSON, "The body is no JSON")
    return problem_of(error.errors(), error.body)


def problem_of(errors: Sequence[Mapping[str, Any]], body: Any) -> Problem:
    """The problem of pydantic's errors in `body`, each at a place that begins with ``body``."""
    listed = [
        {"field": field, "message": _message(faults)}
        for field, faults in _by_field([_fault(fault, body) for fault in errors]).items()
    ][:_SHOWN]
    said = "; ".join(f"{fault['field'] or 'the body'} {fault['message']}" for fault in listed)
    return Problem(Code.INVALID_REQUEST, said[:1000], errors=listed)


def _fault(fault: Mapping[str, Any], body: Any) -> _Fault:
    kind, (place, *path) = str(fault["type"]), fault["loc"]
    field = _path(path, body, kind) if place == "body" else "-".join(map(str, path))
    return _Fault(field, kind, fault.get("ctx") or {}, str(fault["msg"]))


def _path(parts: Sequence[str | int], value: Any, kind: str) -> str:
    """``interactions[3].rating``: the parts that are in what was sent; the others name branches of a union."""
    path = ""
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
        elif isinstance(part, str) and isinstance(value, dict) and (part in value or (is_last and kind == "missing")):
            path, value = f"{path}.{part[:_LONGEST]}" if path else part[:_LONGEST], value.get(part)
    return path


def _by_field(faults: Sequence[_Fault]) -> dict[str, list[_Fault]]:
    """The faults of each field, without those of branches that want a value of another type than one that fits more."""
    fields = dict.fromkeys(fault.field for fault in faults)
    kept: dict[str, list[_Fault]] = {}
    for field in fields:
        here = [fault for fault in faults if fault.field == field]
        closer = [fault for fault in here if not fault.is_other_type]
        # A branch that fits the value has its faults further in.
        deeper = any(other != field and other.startswith(field) and _is_below(field, other) for other in fields)
        if closer or not deeper:
            kept[field] = closer or here
    return kept


def _is_below(field: str, other: str) -> bool:
    return not field or other[len(field)] in ".["


def _message(faults: Sequence[_Fault]) -> str:
    if all(fault.is_other_type for fault in faults):
        return "must be " + " or ".join(dict.fromkeys(_OTHER_TYPE[fault.kind] for fault in faults))
    return "; ".join(dict.fromkeys(fault.said for fault in faults))
