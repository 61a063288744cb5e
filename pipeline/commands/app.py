"""The command line's root, on which each file beside this one puts its command."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline import __version__

__all__ = ["app"]

app = typer.Typer(
    name="rankline",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From the interactions in a warehouse to a table of recommendations, recorded in MLflow.",
    epilog="Example: rankline train --n-components 20 && rankline score && rankline recommend 1",
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
    """From the interactions in a warehouse to a table of recommendations, recorded in MLflow."""
