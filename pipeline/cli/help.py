"""The texts of `--help`: options grouped by heading, one sentence about the environment, and examples."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.repeated import joined

__all__ = ["EXAMPLES", "HELP_ALL", "VARIABLES", "GroupedCommand", "GroupedGroup", "show_all"]

EXAMPLES = "Examples"
_OTHER = "Other options"
VARIABLES = "Each option may come from the environment: --max-iter from RANKLINE_MAX_ITER."
HELP_ALL = "--help-all"
_ALL = "pipeline.cli.help.all"  # in the context of click: --help-all was typed
_COLUMN = 20  # column in which the help of an option begins
_LEAST = 24  # characters of help that must fit beside a long option, else the help begins on the next line


def show_all(context: typer.Context, wanted: bool) -> None:
    """Print the help of every option, the advanced ones too, and end."""
    if wanted:
        context.meta[_ALL] = True
        typer.echo(context.get_help())
        raise typer.Exit


class GroupedCommand(TyperCommand):
    """A command whose help lists the arguments, then the options by heading; of advanced options the names alone.

    An option of files may be repeated.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises UsageError for a path that is given twice and is taken once."""
        return super().parse_args(ctx, joined(args, getattr(self.callback, "offered", ())))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the headings in the order of their first option; options without a heading come last."""
        arguments: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {}
        advanced: dict[str, list[str]] = {}
        for parameter in self.get_params(ctx):
            heading = getattr(parameter, "rich_help_panel", None) or _OTHER
            if parameter.opts[0] == HELP_ALL:  # named after the options that it shows
                continue
            if getattr(parameter, "hidden", False):
                if ctx.meta.get(_ALL):
                    parameter.hidden = False  # type: ignore[attr-defined]  # it is an option
                else:
                    advanced.setdefault(heading, []).append(parameter.opts[0])
            if (row := _row(parameter, ctx)) is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(row)
            else:
                groups.setdefault(heading, []).append(row)
        other = groups.pop(_OTHER, [])
        for heading, rows in {"Arguments": arguments, **groups, _OTHER: other}.items():
            if rows:
                with formatter.section(heading):
                    _write_rows(rows, formatter)
                    if names := advanced.get(heading):
                        _write_rows([(HELP_ALL, f"has more: {', '.join(names)}")], formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the sentence about the environment, then the examples."""
        if any(getattr(parameter, "envvar", None) for parameter in self.get_params(ctx)):
            formatter.write_paragraph()
            formatter.write_text(VARIABLES)
        _write_examples(self.epilog, formatter)


class GroupedGroup(TyperGroup):
    """A group whose help lists the commands by heading, one line each: all of them on one screen."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the program does, right below the usage."""
        with formatter.indentation():
            formatter.write_text((self.help or "").strip())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        for name in names:
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                text = command.get_short_help_str(formatter.width - width - 6)
                groups.setdefault(heading, []).append((name.ljust(width), text))
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
        options = ", ".join(parameter.opts[0] for parameter in self.get_params(ctx))
        formatter.write_paragraph()
        formatter.write_text(f"Options: {options}. `rankline COMMAND --help` shows a command's.")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        formatter.write(f"{EXAMPLES}:\n")
        for line in (self.epilog or "").splitlines():
            formatter.write(f"  {line}\n")


def _row(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """The option and its help, without its environment variable, the type of a flag, and a default of none."""
    parameter.show_envvar = False
    row = parameter.get_help_record(ctx)
    if row is None:
        return None
    name, text = row
    name = name.replace(" <bool>", "").replace("<str>", "TEXT").replace("<int>", "INTEGER").replace("<float>", "NUMBER")
    if name.endswith("|none"):
        name, text = name.removesuffix("|none"), text.replace("  [default: none]", "")
    return name, text.replace("  [", " [")


def _write_rows(rows: list[tuple[str, str]], formatter: Any) -> None:
    """Write options and their help in two columns; the help of a long option begins further right."""
    indent = " " * formatter.current_indent
    for name, text in rows:
        first = f"{indent}{name}  ".ljust(_COLUMN)
        if len(first) + _LEAST > formatter.width:
            formatter.write(f"{first.rstrip()}\n")
            first = " " * _COLUMN
        lines = wrap(text, formatter.width, initial_indent=first, subsequent_indent=" " * _COLUMN)
        formatter.write("\n".join(lines) + "\n")


def _write_examples(epilog: str | None, formatter: Any) -> None:
    if epilog:
        with formatter.section(EXAMPLES):
            for line in epilog.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
