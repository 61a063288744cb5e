"""Parameters of GET requests: stated once, for parsing and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from pipeline.serving.problems import Code, Problem

__all__ = ["Parameter", "parse"]

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a query.

    Attributes
    ----------
    kind : int, bool or str
    default : value if it is not given; `required` has none
    low, high : bounds of an integer, or of the length of a text
    choices : the values that there are; empty: any
    stands_for : the parameter that this is another name of
    """

    name: str
    kind: type
    help: str
    default: Any = None
    low: int = 0
    high: int = 256
    choices: tuple[str, ...] = ()
    required: bool = False
    stands_for: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        schema: dict[str, Any]
        if self.kind is bool:
            schema = {"type": "boolean"}
        elif self.kind is int:
            schema = {"type": "integer", "minimum": self.low, "maximum": self.high}
        elif self.choices:
            schema = {"type": "string", "enum": list(self.choices)}
        else:
            schema = {"type": "string", "minLength": self.low, "maxLength": self.high}
        return schema if self.default is None else {**schema, "default": self.default}

    def value(self, text: str) -> Any:
        """The value of a text. Raises ValueError, which says what it must be."""
        if self.kind is bool:
            if text.lower() not in _BOOLEANS:
                raise ValueError("must be true or false")
            return _BOOLEANS[text.lower()]
        if self.kind is int:
            number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
            if number is None or not self.low <= number <= self.high:
                raise ValueError(f"must be an integer from {self.low} to {self.high}")
            return number
        if self.choices and text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        if not self.low <= len(text) <= self.high or not text.isprintable():
            raise ValueError(f"must be text of {self.low} to {self.high} characters")
        return text


def parse(query: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The values by name. Raises Problem, which names every parameter that is wrong, unknown, missing or doubled."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {p.name: p.default for p in parameters if not p.stands_for}
    given: set[str] = set()
    errors = []
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except (UnicodeError, ValueError):
        raise Problem(Code.INVALID_REQUEST, "The query can't be read: it is name=value&…, percent-encoded") from None
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            errors.append({"field": name[:80], "message": f"there is no such parameter; there are {', '.join(known)}"})
            continue
        target = parameter.stands_for or name
        if target in given:
            errors.append({"field": name, "message": "is given twice"})
        given.add(target)
        try:
            values[target] = parameter.value(text)
        except ValueError as error:
            errors.append({"field": name, "message": str(error)})
    errors += [{"field": p.name, "message": "is missing"} for p in parameters if p.required and p.name not in given]
    if errors:
        said = "; ".join(f"{error['field']} {error['message']}" for error in errors)
        raise Problem(Code.INVALID_REQUEST, said[:1000], errors=errors[:50])
    return values
