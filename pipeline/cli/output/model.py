"""The types of a command's output: an object for programs, lines and tables for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import RanklineError

__all__ = ["Block", "Cell", "Exact", "Output", "SideBySide", "Styled", "Table"]


@dataclass(frozen=True)
class Styled:
    """A cell with a style on a terminal, such as ``green`` or ``bold red``."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    columns : names of the columns
    rows : cells; None draws a line between two rows
    left : columns that are aligned left; all others hold numbers
    short : columns whose text is cut if the terminal is too narrow
    title : line above the table
    header : whether the names of the columns are shown
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell] | None]
    left: Collection[str] = ()
    short: Collection[str] = ()
    title: str = ""
    header: bool = True


@dataclass(frozen=True)
class Exact:
    """A line that is printed unchanged; its text is already safe for a terminal."""

    text: str


@dataclass(frozen=True)
class SideBySide:
    """Two tables, one to the left of the other."""

    tables: tuple[Table, Table]


Block = str | Exact | Table | SideBySide


@dataclass(frozen=True)
class Output:
    """One result of a command.

    Attributes
    ----------
    event : message of the log line
    data : object that ``--json`` prints, and metadata of the log line
    blocks : lines and tables for a terminal
    failure : error that is raised after the result is shown
    always_blocks : whether the blocks are printed also with ``--log-format json``, because they are data
    exit_status : exit status of a command that ends without an error
    abandon : whether to exit at once, without waiting for a thread that still waits for a server
    """

    event: str
    data: Mapping[str, Any]
    blocks: Sequence[Block] = field(default=())
    failure: RanklineError | None = None
    always_blocks: bool = False
    exit_status: int = 0
    abandon: bool = False
