"""An option is a field of a class of options. The field has the type, the bounds, the default and the help.

    @dataclass(frozen=True)
    class FitOptions(Options):
        max_iter: Annotated[int, Ge(1)] = option(200, "Most iterations.")

From this field are made ``--max-iter``, ``RANKLINE_MAX_ITER``, the parameter ``max_iter`` of MLproject, the key
``max_iter`` of ``rankline.yaml``, and the check of its value. This file imports no heavy library, since
``rankline --help`` reads it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from pipeline.errors import UsageError

__all__ = [
    "AtLeast0",
    "OptionType",
    "Options",
    "Rule",
    "Several",
    "Share",
    "YesNo",
    "as_text",
    "option",
    "section_of",
    "types_of",
]

YesNo = Literal["yes", "no"]
Share = Annotated[float, Ge(0), Le(1)]
AtLeast0 = Annotated[float, Ge(0)]

_NOUNS = {int: "an integer", float: "a number", str: "text", Path: "a path", date: "a day such as 2020-01-31"}
_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH", date: "DAY"}
_BOUNDS = ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt"))


_TYPES: dict[type[Options], dict[str, OptionType]] = {}  # filled by types_of, once for each class


@dataclass(frozen=True)
class Rule:
    """A condition on a value other than a bound.

    Attributes
    ----------
    holds : whether a value meets the condition
    what : what the value must be, for the error message
    pattern : the condition as a regular expression, for JSON Schema
    """

    holds: Callable[[Any], bool]
    what: str
    pattern: str = ""


@dataclass(frozen=True)
class Several:
    """Marks an option that may be given several times. Its value is then a tuple, and one value stays as it is."""


def option(default: Any, help: str, section: str = "", details: str = "", advanced: bool = False) -> Any:
    """The field of an option.

    Parameters
    ----------
    default : value of an option that is not given
    help : one or two sentences, shown by ``--help``
    section : section of ``rankline.yaml``, where it is not that of the class
    details : more sentences, which docs/options.md shows after the help and ``--help`` leaves out
    advanced : whether ``--help`` shows the name alone; ``--help-all`` shows the help, too
    """
    return field(default=default, metadata={"help": help, "section": section, "details": details, "advanced": advanced})


@dataclass(frozen=True)
class OptionType:
    """The values that an option accepts: values of `kind` within `bounds`, `words`, and None if it is `optional`."""

    kind: type | None
    words: tuple[str, ...]
    optional: bool
    bounds: tuple[tuple[str, float], ...]
    rule: Rule | None
    metavar: str
    several: bool = False

    @classmethod
    def of(cls, hint: Any) -> OptionType:
        """The type of an annotation such as ``Annotated[int, Ge(1)] | Literal["auto"] | None``."""
        kind: type | None = None
        words: list[str] = []
        optional, bounds, rule, shown = False, dict[str, float](), None, list[str]()
        several = False
        for part in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            base, *limits = get_args(part) if get_origin(part) is Annotated else (part,)
            if base is NoneType:
                optional = True
            elif get_origin(base) is Literal:
                words += get_args(base)
                shown += get_args(base)
            else:
                kind = base
                shown.append(_METAVARS[base])
            for limit in limits:
                bounds |= {name: getattr(limit, name) for of, name in _BOUNDS if isinstance(limit, of)}
                rule = limit if isinstance(limit, Rule) else rule
                several = several or isinstance(limit, Several)
        return cls(kind, tuple(words), optional, tuple(bounds.items()), rule, "|".join(shown), several)

    def parse(self, text: str) -> Any:
        """The value of a text; ``none`` is None. Does not check bounds. Raises ValueError."""
        if self.optional and text.lower() in ("none", ""):
            return None
        if text in self.words:
            return text
        if self.kind is int:
            return int(re.sub(r"\.0+$", "", text))
        if self.kind is date:
            return date.fromisoformat(text)
        if self.kind is None:
            raise ValueError
        return self.kind(text)

    @property
    def choices(self) -> str:
        """The accepted values in short, such as "INTEGER|auto|none"."""
        return f"{self.metavar}|none" if self.optional else self.metavar

    def refusal(self, value: Any) -> str | None:
        """What the value must be, such as "at least 1, or none"; None if the value is accepted."""
        if self.several and isinstance(value, tuple) and value:
            return next((what for item in value if (what := self.refusal(item))), None)
        if (value is None and self.optional) or (isinstance(value, str) and value in self.words):
            return None
        if self.kind is None:
            return self._or_none(f"one of {self.words}")
        if not self._is_of_kind(value):
            return self._in_words(self.rule.what if self.rule else _NOUNS[self.kind])
        if isinstance(value, float) and not math.isfinite(value):
            return "finite"
        if self.rule and not self.rule.holds(value):
            return self._in_words(self.rule.what)
        return None if self._within(value) else self._in_words(self._range())

    def _is_of_kind(self, value: Any) -> bool:
        if self.kind in (int, float):
            return isinstance(value, int | self.kind) and not isinstance(value, bool)
        return isinstance(value, str | Path if self.kind is Path else self.kind or str)

    def _within(self, value: Any) -> bool:
        holds = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
        return all(holds[name](value, limit) for name, limit in self.bounds)

    def _range(self) -> str:
        ends = dict(self.bounds)
        if "ge" in ends and "le" in ends:
            return f"from {ends['ge']} to {ends['le']}"
        names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        return " and ".join(f"{names[name]} {limit}" for name, limit in self.bounds)

    def _in_words(self, what: str) -> str:
        return self._or_none(" or ".join((*self.words, what)))

    def _or_none(self, what: str) -> str:
        return f"{what}, or none" if self.optional else what

    def as_json_schema(self) -> dict[str, Any]:
        """The type in JSON Schema. ``yes`` and ``no`` may also be booleans, since YAML reads them as such."""
        names = {int: "integer", float: "number"}
        alternatives: list[dict[str, Any]] = []
        if self.words:
            booleans = [True, False] if set(self.words) == {"yes", "no"} else []
            alternatives.append({"enum": [*self.words, *booleans]})
        if self.kind is not None:
            keys = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
            of_kind: dict[str, Any] = {"type": names.get(self.kind, "string")}
            of_kind |= {keys[name]: limit for name, limit in self.bounds}
            if self.kind is date:
                of_kind["format"] = "date"
            if self.rule and self.rule.pattern:
                of_kind["pattern"] = self.rule.pattern
            alternatives.append(of_kind)
        if self.optional:
            alternatives.append({"enum": [None, "none"]})
        return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def types_of(options: type[Options]) -> dict[str, OptionType]:
    """The type of each field of a class of options, by its name."""
    if options not in _TYPES:
        hints = get_type_hints(options, include_extras=True)
        _TYPES[options] = {entry.name: OptionType.of(hints[entry.name]) for entry in fields(options)}
    return _TYPES[options]


def as_text(value: Any) -> str:
    """A value as a user types it and as `mlflow run` logs it: ``none`` for None, else as Python prints it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def section_of(options: type[Options], entry: Field[Any]) -> str:
    """The section of ``rankline.yaml`` that holds a field."""
    return entry.metadata["section"] or options.SECTION


@dataclass(frozen=True)
class Options:
    """A class of options. Raises UsageError with the field's name if a value has the wrong type or is out of bounds."""

    PANEL: ClassVar[str] = ""  # heading of its options in --help
    SECTION: ClassVar[str] = ""  # section of rankline.yaml

    def __post_init__(self) -> None:
        for name, kind in types_of(type(self)).items():
            value = getattr(self, name)
            if what := kind.refusal(value):
                raise UsageError(f"{name} must be {what}, got {value!r}")
