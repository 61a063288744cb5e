"""Options that are given several times: all of them are taken, or files are refused. Typer would take the last one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.errors import UsageError
from pipeline.options.base import Options, types_of

__all__ = ["SEPARATOR", "joined"]

# Between the values of one option: no path and no address holds it.
SEPARATOR = "\0"


def joined(arguments: Sequence[str], offered: Collection[tuple[type[Options], str]]) -> list[str]:
    """The arguments with all values of an option in its first place, with `SEPARATOR` between them.

    Raises UsageError for an option that takes one path and is given two.
    """
    from pathlib import Path

    several = {
        f"--{name.replace('_', '-')}": types_of(spec)[name].several
        for spec, name in offered
        if types_of(spec)[name].kind is Path or types_of(spec)[name].several
    }
    result: list[str] = []
    places: dict[str, int] = {}  # of an option's value in `result`
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            result += [argument, *rest]
            break
        option, equals, value = argument.partition("=")
        if option not in several:
            result.append(argument)
            continue
        if not equals and (given := next(rest, None)) is None:
            result.append(argument)  # Typer says that its value is missing.
            break
        value = value if equals else str(given)
        if option not in places:
            result += [option, value]
            places[option] = len(result) - 1
        elif several[option]:
            result[places[option]] += SEPARATOR + value
        else:
            raise UsageError(f"{option} takes one file, and is given twice: {result[places[option]]} and {value}")
    return result
