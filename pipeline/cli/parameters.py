"""A field of a class of options as a parameter of a command, and its text as a value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field
from typing import Annotated, Any, get_args

import typer
from typer.models import ArgumentInfo

from pipeline.cli.repeated import SEPARATOR
from pipeline.options.base import Options, OptionType, as_text, types_of

__all__ = ["is_argument", "parameter_of"]


def parameter_of(spec: type[Options], entry: Field[Any], default: Any) -> inspect.Parameter:
    """A field of a class of options as a parameter that Typer reads."""
    kind = types_of(spec)[entry.name]
    option = typer.Option(
        "--" + entry.name.replace("_", "-"),
        envvar=f"RANKLINE_{entry.name.upper()}",
        help=entry.metadata["help"],
        metavar=kind.metavar,
        hidden=entry.metadata["advanced"],
        parser=_parser(kind),
        show_default=default is not None,
        rich_help_panel=spec.PANEL,
    )
    # Typer parses a default like a typed value, so it is given as text.
    return inspect.Parameter(
        entry.name, inspect.Parameter.KEYWORD_ONLY, default=as_text(default), annotation=Annotated[Any, option]
    )


def is_argument(parameter: inspect.Parameter) -> bool:
    """Whether it is an argument, and no option."""
    return any(isinstance(part, ArgumentInfo) for part in get_args(parameter.annotation))


def _parser(kind: OptionType) -> Callable[[Any], Any]:
    """A function from text to a value of the type; ``none`` is None if None is allowed. The class checks bounds.

    Of several values it gives a tuple.
    """

    def parse(text: Any) -> Any:
        values = str(text).split(SEPARATOR)
        try:
            return kind.parse(values[0]) if len(values) == 1 else tuple(map(kind.parse, values))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not {kind.choices}") from None

    return parse
