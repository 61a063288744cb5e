"""Options of the command line: the fields of specs, and those that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.settings import Settings

__all__ = [
    "Debug",
    "Experiment",
    "LogFormat",
    "Metric",
    "Model",
    "Reason",
    "VersionFile",
    "options_of",
    "settings_here",
    "writable",
]

_PANELS = {
    "EvaluateSpec": "What to measure",
    "ReadSpec": "Where the interactions come from",
    "ScoreSpec": "What to score",
    "TrainSpec": "What to train",
    "TuneSpec": "How to search",
}


def options_of(
    *specs: type, without: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of the specs as options, each also from ``RANKLINE_<OPTION>``.

    The command is called with the specs, made and checked, in front of its own options. Fields in `without`
    are no options of it; `defaults` are those of the command where they differ from a spec's.
    """

    def offered(spec: type) -> list[Any]:
        return [one for one in fields(spec) if one.name not in without]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters: dict[str, inspect.Parameter] = {}
        for spec in specs:
            hints = get_type_hints(spec)
            for one in offered(spec):
                option = typer.Option(
                    "--" + one.name.replace("_", "-"),
                    envvar=f"RANKLINE_{one.name.upper()}",
                    help=one.metadata["help"],
                    metavar=_metavar(hints[one.name]),
                    parser=_parser(hints[one.name]),
                    show_default=True,
                    rich_help_panel=_PANELS[spec.__name__],
                )
                default = (defaults or {}).get(one.name, one.default)
                # A default goes through the parser like a typed value, so it is given as text.
                parameters[one.name] = inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default="none" if default is None else str(default),
                    annotation=Annotated[Any, option],
                )
        own = list(inspect.signature(function, eval_str=True).parameters.values())[len(specs) :]

        def command(**values: Any) -> None:
            made = [spec(**{one.name: values.pop(one.name) for one in offered(spec)}) for spec in specs]
            function(*made, **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        parameters |= {one.name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own}
        command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]  # Typer reads it
        command.__annotations__ = {name: one.annotation for name, one in parameters.items()}
        return command

    return decorate


def _metavar(hint: Any) -> str:
    """What may be typed, e.g. ``INTEGER|auto``."""
    if get_args(hint) and get_origin(hint) is not None and str(get_origin(hint)).endswith("Literal"):
        return "|".join(map(str, get_args(hint)))
    if get_args(hint):
        return "|".join(_metavar(part) for part in get_args(hint))
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", type(None): "none"}.get(hint, "PATH")


def _parser(hint: Any) -> Callable[[Any], Any]:
    """Text → value of the hinted type; ``none`` is None where that is allowed."""

    def parse(text: Any) -> Any:
        from pydantic import TypeAdapter, ValidationError

        if type(None) in get_args(hint) and str(text).lower() in ("none", ""):
            return None
        try:
            return TypeAdapter(hint).validate_python(text)
        except ValidationError:
            raise typer.BadParameter(f"{text!r} is not {_metavar(hint)}") from None

    return parse


# ---- options that are no part of a spec ---------------------------------------------------------

Debug = Annotated[bool, typer.Option("--debug", envvar="RANKLINE_DEBUG", help="Show tracebacks.")]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format", envvar="RANKLINE_LOG_FORMAT", metavar="text|json", help="json: one object a line, for jobs."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="RANKLINE_MODEL",
        metavar="MODEL",
        help="rankline@champion, rankline/3, runs:/RUN_ID or a folder. Default: the champion, else the newest.",
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        "--experiment-name",
        envvar="RANKLINE_EXPERIMENT_NAME",
        help="MLflow experiment; under `mlflow run` that of its run.",
    ),
]
VersionFile = Annotated[
    str | None,
    typer.Option(
        "--version-file",
        envvar="RANKLINE_VERSION_FILE",
        metavar="PATH",
        help="Write the registered version (rankline/7) to this file, for the next step of a script.",
    ),
]
Metric = Annotated[
    str, typer.Option("--metric", envvar="RANKLINE_METRIC", help="By which metric of each user, e.g. recall_at_10.")
]
Reason = Annotated[
    str | None, typer.Option("--reason", envvar="RANKLINE_REASON", metavar="TEXT", help="Why; recorded with it.")
]


def writable(text: str) -> Path:
    """A path to write to at the end, tried before the work begins."""
    path = Path(text)
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--version-file {text} can't be written ({error.strerror})") from None
    return path


def settings_here() -> Settings:
    """The settings of the environment. Raises UsageError, which repeats no value."""
    from pydantic import ValidationError

    from pipeline.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        # Names and reasons, never values: one of them may be a password.
        bad = "; ".join(f"RANKLINE_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        raise UsageError(bad) from None
