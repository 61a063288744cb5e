"""Options of a model behind its name: ``ease:regularization=500:transform=binary``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import UsageError
from pipeline.models.base import Algorithm
from pipeline.options import TrainOptions
from pipeline.options.base import types_of

__all__ = ["named_values", "with_values"]


def named_values(algorithm: Algorithm, texts: Sequence[str], where: str) -> dict[str, Any]:
    """Options and their values, of texts such as ``n_components=50``; `where` begins the message of an error.

    Raises UsageError for an option that the model does not have, and for a wrong value.
    """
    return dict(_value(algorithm, text, where) for text in texts)


def with_values(options: TrainOptions, values: Mapping[str, Any], where: str) -> TrainOptions:
    """`options` with these values. Raises UsageError where one is out of bounds."""
    try:
        return replace(options, **values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _value(algorithm: Algorithm, text: str, where: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    option = name.strip().lstrip("-").replace("-", "_")
    known = {known.lower(): known for known in algorithm.options}
    if not equals or option.lower() not in known:
        able = ", ".join(sorted(algorithm.options)) or "none"
        raise UsageError(
            f"{where}: after the name come options of {algorithm.display_name}, such as "
            f"NAME:option=value, and {text!r} is none; it has: {able}"
        )
    option = known[option.lower()]
    kind = types_of(TrainOptions)[option]
    try:
        return option, kind.parse(value.strip())
    except ValueError:
        raise UsageError(f"{where}: {option} must be {kind.choices}, got {value.strip()!r}") from None
