"""The output of `sql`: rows as a table, TSV or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.cli.output.escape import printable, printable_json
from pipeline.cli.output.model import Block, Exact, Table

__all__ = ["row_blocks"]


def row_blocks(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: str = "") -> list[Block]:
    """The rows as a table, tsv or json; by default a table on a terminal, else tsv."""
    form = form or ("table" if sys.stdout.isatty() else "tsv")
    if not columns:
        return []
    if form == "table":
        return [Table(columns, [[str(value) for value in row] for row in rows], left=columns)]
    if form == "tsv":
        # A tab would end the value: `printable` makes it a space.
        return [Exact("\t".join(printable(str(value)) for value in row)) for row in (columns, *rows)]
    objects = (dict(zip(columns, row, strict=True)) for row in rows)
    return [Exact(printable_json(json.dumps(entry, default=str, ensure_ascii=False))) for entry in objects]
