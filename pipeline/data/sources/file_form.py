"""How a text file is written: its separator, header line and encoding."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FileForm"]


@dataclass(frozen=True)
class FileForm:
    """How a text file is written.

    Attributes
    ----------
    separator : of a CSV; None: by its first line
    header : ``auto``: the first line of a CSV names the columns, unless it is a row; ``off``: it is a row; else the
        names of the columns of a file without a header, with commas between them
    encoding : as Python names it
    """

    separator: str | None = None
    header: str = "auto"
    encoding: str = "utf-8"
