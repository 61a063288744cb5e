"""The root of the command line. Each file in `pipeline.cli.commands` adds its command to it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.help import GroupedGroup

__all__ = ["app"]

app = typer.Typer(
    name="rankline",
    no_args_is_help=True,
    add_completion=False,
    cls=GroupedGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="rankline train --n-components 20 && rankline score && rankline recommend 1",
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"rankline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From interactions in a warehouse to a table of recommendations, with MLflow."""
