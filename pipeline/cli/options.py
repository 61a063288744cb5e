"""Options of the command line: those made from the classes of options, and others that several commands share."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.first_use import first_use
from pipeline.cli.help import HELP_ALL, show_all
from pipeline.cli.other_names import with_other_names
from pipeline.cli.parameters import is_argument, parameter_of
from pipeline.errors import UsageError
from pipeline.options.base import Options, as_text

if TYPE_CHECKING:
    from pipeline.config import ConfigFile
    from pipeline.settings import Settings

__all__ = [
    "Config",
    "Debug",
    "Experiment",
    "LogFormat",
    "Metric",
    "Model",
    "Reason",
    "VersionFile",
    "forget_config",
    "options_of",
    "read_config",
    "said_by_other_names",
    "settings_here",
    "writable",
]


_config: ContextVar[ConfigFile | None] = ContextVar("_config", default=None)
_context: ContextVar[typer.Context | None] = ContextVar("_context", default=None)
_said: ContextVar[Sequence[str]] = ContextVar("_said", default=())


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Read the file of --config and make its values the defaults of the command. Raises UsageError."""
    _context.set(context)
    if path is None:
        _config.set(None)
        return None
    from pipeline.config import ConfigFile

    config = ConfigFile.read(path)
    _config.set(config)
    if os.environ.get("MLFLOW_RUN_ID"):
        typer.echo(f"mlflow run passes every option: {path} sets those that have their default value", err=True)
    offered: Collection[Any] = getattr(context.command.callback, "offered", ())
    context.default_map = {
        entry.option.field.name: as_text(entry.value)
        for entry in config.values.values()
        if (entry.option.of, entry.option.field.name) in offered
    }
    return path


def forget_config() -> None:
    """Forget the file of an earlier command in this process, and what was said of its variables."""
    _config.set(None)
    _said.set(())


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="RANKLINE_CONFIG",
        is_eager=True,
        callback=read_config,
        metavar="PATH",
        help="A rankline.yaml, below typed options and variables.",
    ),
]


_HelpAll = Annotated[
    bool,
    typer.Option(
        HELP_ALL, is_eager=True, callback=show_all, help="Show every option with its help.", show_default=False
    ),
]


def options_of(
    *specs: type[Options], without: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the fields of classes of options as options, and ``--config``.

    Each option can also come from ``RANKLINE_<OPTION>``. The command is called with one checked instance of each
    class, then with its own options.

    Parameters
    ----------
    specs : classes of options
    without : names of fields that the command does not have; a field of an earlier class is not offered again
    defaults : defaults of the command that differ from those of the classes
    """

    offered = _offered(specs, without)
    parameters = {
        entry.name: parameter_of(spec, entry, (defaults or {}).get(entry.name, entry.default))
        for spec, entries in offered.items()
        for entry in entries
    }

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[len(specs) :]

        def command(**values: Any) -> None:
            values.pop("config")  # its callback has read the file
            values.pop("help_all", None)
            said: list[str] = []
            made = [
                _made(spec, {entry.name: values.pop(entry.name) for entry in offered[spec]}, said.append)
                for spec in specs
            ]
            _said.set(said)
            function(*made, **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        # `read_config` looks here which options the command has.
        command.offered = {(spec, entry.name) for spec in specs for entry in offered[spec]}  # type: ignore[attr-defined]
        # Arguments come before the options.
        arguments = {parameter.name: parameter for parameter in own if is_argument(parameter)}
        rest = {parameter.name: parameter for parameter in own if parameter.name not in arguments}
        if any(entry.metadata["advanced"] for entries in offered.values() for entry in entries):
            rest["help_all"] = inspect.Parameter(
                "help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_HelpAll
            )
        rest["config"] = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)
        in_order = {
            name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in (arguments | parameters | rest).items()
        }
        command.__signature__ = inspect.Signature(list(in_order.values()))  # type: ignore[attr-defined]  # Typer reads it
        command.__annotations__ = {name: parameter.annotation for name, parameter in in_order.items()}
        return command

    return decorate


def _offered(specs: Sequence[type[Options]], without: Collection[str]) -> dict[type[Options], list[Field[Any]]]:
    """The fields that a command has as options; of two classes with a field of one name the first one has it."""
    taken = set(without)
    offered = {}
    for spec in specs:
        offered[spec] = [entry for entry in fields(spec) if entry.name not in taken]
        taken |= {entry.name for entry in offered[spec]}
    return offered


def _made(spec: type[Options], values: dict[str, Any], say: Callable[[str], None]) -> Options:
    """One class of options, of what was typed, the file of --config, and variables by other names."""
    values = _below_mlflow_run(spec, values)
    return spec(**with_other_names(spec, values, _unsaid(spec, values), say))


def _unsaid(spec: type[Options], values: Mapping[str, Any]) -> set[str]:
    """Options that nothing says: neither typed, nor in a variable of ours, nor in the file."""
    context, config = _context.get(), _config.get()
    if not os.environ.get("MLFLOW_RUN_ID"):
        sources = {} if context is None else {name: context.get_parameter_source(name) for name in values}
        return {name for name, source in sources.items() if source is not None and source.name == "DEFAULT"}
    from_file = {} if config is None else config.values_of(spec)
    defaults = {entry.name: entry.default for entry in fields(spec)}
    ours = {name for name in values if os.environ.get(f"RANKLINE_{name.upper()}")}
    return {name for name, value in values.items() if value == defaults[name]} - ours - from_file.keys()


def said_by_other_names() -> Sequence[str]:
    """What is to be said of variables by other names that count in this command."""
    return _said.get()


def _below_mlflow_run(spec: type[Options], values: dict[str, Any]) -> dict[str, Any]:
    """The values of one class of options; under `mlflow run`, those of the file of --config in place of defaults.

    `mlflow run` types every option of the entry point, so a value that is the default was hardly meant.
    """
    config = _config.get()
    if config is None or not os.environ.get("MLFLOW_RUN_ID"):
        return values
    defaults = {entry.name: entry.default for entry in fields(spec)}
    from_file = config.values_of(spec)
    return {
        name: from_file[name] if name in from_file and value == defaults[name] else value
        for name, value in values.items()
    }


# ---- options outside the classes of options ------------------------------------------------------

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
        envvar=["RANKLINE_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_NAME"],
        help="Experiment of the run in MLflow.",
    ),
]
VersionFile = Annotated[
    str | None,
    typer.Option(
        "--version-file",
        envvar="RANKLINE_VERSION_FILE",
        metavar="PATH",
        help="Write the version (rankline/7) here, for a script.",
    ),
]
Metric = Annotated[
    str, typer.Option("--metric", envvar="RANKLINE_METRIC", help="By which metric of each user, e.g. recall_at_10.")
]
Reason = Annotated[
    str | None, typer.Option("--reason", envvar="RANKLINE_REASON", metavar="TEXT", help="Why; recorded with it.")
]


def writable(text: str) -> Path:
    """The path of --version-file, opened once so that a path that can't be written is refused before the work."""
    path = Path(text)
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--version-file {text} can't be written ({error.strerror})") from None
    return path


def settings_here() -> Settings:
    """The settings of the environment and of the file of --config. Raises UsageError, which shows no value."""
    from pydantic import ValidationError

    from pipeline.settings import Settings

    try:
        settings = Settings.with_config(_config.get())
    except ValidationError as error:
        # Show names and reasons but no values, since a value may be a password.
        bad = "; ".join(
            f"RANKLINE_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()
        )
        raise UsageError(bad) from None
    if line := first_use(settings):
        logging.getLogger("rankline").info(line)
    return settings
