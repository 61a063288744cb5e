"""Prints tables on stdout: at most as wide as the terminal, in a pipe at full width."""

from __future__ import annotations

import sys

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from pipeline.cli.output.escape import printable
from pipeline.cli.output.model import Cell, SideBySide, Styled, Table

__all__ = ["print_table"]

_PIPE_WIDTH = 1000
_GAP, _BETWEEN = 3, 3  # characters between two tables, and between two columns of a table
_LEAST = 8  # characters that a cut text keeps


def print_table(block: Table | SideBySide) -> None:
    """Print a table, or two next to each other."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as printed:
        console.print(_shown(block, console))
    # Rich fills each line up to the width of the longest, which is a page of blanks beside one long cell.
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in printed.get().splitlines()))


def _shown(block: Table | SideBySide, console: Console) -> RenderableType:
    if isinstance(block, Table):
        return _rich(block, console.width)
    first, second = block.tables
    available = console.width - _GAP
    left = max(min(_width(first), available // 2), available - _width(second))
    grid = RichTable.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    grid.add_row(_rich(first, left), _rich(second, available - left))
    return grid


def _rich(table: Table, width: int) -> RenderableType:
    """The table for rich. If it is wider than `width`, titles of columns are broken, and `table.short` is cut."""
    narrow = _width(table) > width
    made = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=table.header,
        pad_edge=False,
        header_style="bold",
    )
    for name in table.columns:
        is_number = name not in table.left
        made.add_column(
            "\n".join(_title(name, narrow)),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    excess = _width(table, narrow) - width
    most = {name: max(size - excess, _LEAST) for name, size in _sizes(table, narrow).items() if name in table.short}
    for number, row in enumerate(table.rows):
        if row is None:
            continue
        cells = [_cell(value) for value in row]
        for name, cell in zip(table.columns, cells, strict=True):
            if name in most:
                cell.truncate(most[name], overflow="ellipsis")
        after = table.rows[number + 1] if number + 1 < len(table.rows) else ()
        made.add_row(*cells, end_section=after is None)
    if not table.title:
        return made
    # Its own line above the table: a title of the table would be folded to the width of a narrow one.
    return Group(Text(printable(table.title), style="bold"), made)


def _title(name: str, narrow: bool) -> list[str]:
    """The lines of a column's title: one, or where the table is narrow one for each word."""
    return printable(name).split(" ") if narrow else [printable(name)]


def _sizes(table: Table, narrow: bool = False) -> dict[str, int]:
    """The width that each column needs to show all of its cells."""
    rows = [[_cell(value).cell_len for value in row] for row in table.rows if row is not None]
    if table.header:
        rows.append([max(map(cell_len, _title(name, narrow))) for name in table.columns])
    return {name: max((row[number] for row in rows), default=0) for number, name in enumerate(table.columns)}


def _width(table: Table, narrow: bool = False) -> int:
    return sum(_sizes(table, narrow).values()) + _BETWEEN * (len(table.columns) - 1)


def _cell(value: Cell) -> Text:
    if isinstance(value, Styled):
        return Text(printable(value.text), style=value.style)
    return Text(printable(value))
