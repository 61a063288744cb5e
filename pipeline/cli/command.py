"""The steps that all commands share: parse the options, run the job, print the output.

A command's file declares the command's options, calls its job and returns the result as an `Output`. This
module adds ``--json``, ``--log-format``, ``--debug``, the settings and the progress bars, and prints the output.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.app import app
from pipeline.cli.help import GroupedCommand
from pipeline.cli.options import Debug, LogFormat, options_of, said_by_other_names, settings_here
from pipeline.cli.output.console import Console
from pipeline.cli.output.model import Output
from pipeline.options import Names, Options
from pipeline.options.names import DEFAULT

if TYPE_CHECKING:
    from pipeline.runtime.progress import Reporter
    from pipeline.settings import Settings

__all__ = ["MODELS", "OPERATE", "RECOMMENDATIONS", "WAREHOUSE", "Invocation", "Outputs", "command"]

# The headings of `rankline --help`.
WAREHOUSE, MODELS, RECOMMENDATIONS, OPERATE = "The warehouse", "Models", "Recommendations", "Operate"

Outputs = Output | Sequence[Output]

_Json = Annotated[
    bool, typer.Option("--json", envvar="RANKLINE_JSON", help="Print the result as one JSON object, and nothing else.")
]


@dataclass(frozen=True)
class Invocation:
    """One call of a command.

    Attributes
    ----------
    reporter : reports the progress of a job on stderr
    debug : whether ``--debug`` was given
    log_format : ``text`` or ``json``
    names : of the model that ``--name`` gives; the default of a command that has no such option
    """

    reporter: Reporter
    debug: bool
    names: Names = DEFAULT
    log_format: str = "text"

    @cached_property
    def settings(self) -> Settings:
        """The settings of the environment, read when they are asked for."""
        return settings_here().named(self.names)


def command(
    name: str,
    *,
    panel: str,
    examples: str | tuple[str, ...],
    specs: tuple[type[Options], ...] = (),
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    json_option: bool = True,
    named: bool = False,
) -> Callable[[Callable[..., Outputs]], Callable[..., Outputs]]:
    """Add a function to the command line as a command.

    The function is called with an `Invocation`, then the specs, then its own options.

    Parameters
    ----------
    specs, without, defaults : see `pipeline.cli.options.options_of`
    json_option : whether the command has ``--json``
    named : whether the command has ``--name``
    """

    def decorate(function: Callable[..., Outputs]) -> Callable[..., Outputs]:
        def framed(*made: Any, log_format: str, debug: bool, as_json: bool = False, **own: Any) -> None:
            console = Console(log_format, as_json)
            names, *given = made if named else (DEFAULT, *made)
            with console.working() as reporter:
                for line in said_by_other_names():
                    reporter.say(line)
                outputs = function(Invocation(reporter, debug, names, log_format), *given, **own)
            for output in [outputs] if isinstance(outputs, Output) else outputs:
                console.show(output)
                _end(output)

        run, *parameters = inspect.signature(function, eval_str=True).parameters.values()
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, default, annotation in (
                *([("as_json", False, _Json)] if json_option else []),
                ("log_format", "text", LogFormat),
                ("debug", False, Debug),
            )
        ]
        made_of: tuple[type[Options], ...] = (Names, *specs) if named else specs
        parameters = [run.replace(name="names"), *parameters] if named else parameters
        parameters = [parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters]
        framed.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]  # options_of reads it
        # Typer reads these.
        framed.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *shared)}
        framed.__name__, framed.__doc__ = function.__name__, function.__doc__
        lines = (examples,) if isinstance(examples, str) else examples
        with_options = options_of(*made_of, without=without, defaults=defaults)(framed) if made_of else framed
        app.command(name, cls=GroupedCommand, rich_help_panel=panel, epilog="\n".join(lines))(with_options)
        return function

    return decorate


def _end(output: Output) -> None:
    """End the command as the output asks: by an error, an exit status, or at once."""
    if output.abandon:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(output.exit_status)
    if output.failure is not None:
        raise output.failure
    if output.exit_status:
        raise typer.Exit(output.exit_status)
