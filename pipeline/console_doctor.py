"""What `doctor` shows: a table in a terminal, plain lines elsewhere, one object for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.console import Console

if TYPE_CHECKING:
    from pipeline.jobs.doctor import Checkup

__all__ = ["show_checkup"]

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_checkup(console: Console, result: Checkup, as_json: bool = False) -> None:
    """Each finding, and how many of a kind there are."""
    if as_json:
        sys.stdout.write(json.dumps(result.as_json(), ensure_ascii=False) + "\n")
        return
    if console.json:
        console.result(f"doctor: {result.status}", result.as_json())
        return
    counts = Counter(one.status for one in result.findings)
    said = ", ".join(f"{counts[status]} {status}" for status in ("ok", "warn", "fail") if counts[status])
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for number, one in enumerate(result.findings):
            first = number == 0 or result.findings[number - 1].group != one.group
            detail = Text(one.detail)
            if one.todo:
                detail.append(f"\n→ {one.todo}", style="dim")
            status = Text(one.status, style=_STYLE[one.status])
            table.add_row(Text(one.group if first else "", style="bold"), status, Text(one.name), detail)
        console.print(table)
    else:
        for one in result.findings:
            todo = f" → {one.todo}" if one.todo else ""
            console.print(f"{one.status:<4}  {one.group}: {one.name}: {one.detail}{todo}")
    console.print(said)
