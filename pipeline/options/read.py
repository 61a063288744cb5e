"""Where the interactions come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pipeline.errors import UsageError
from pipeline.options.base import Options, Rule, Several, option
from pipeline.options.columns import RowOptions, refuse_addresses

__all__ = ["ReadOptions", "Source"]

Source = Literal["auto", "warehouse", "file"]


def _is_source_name(text: str) -> bool:
    return bool(text.strip()) and len(text) <= 200 and text.isprintable()


@dataclass(frozen=True)
class _SourceOptions(Options):
    source: Source = option(
        "auto",
        "auto: the warehouse; --input where none is named, or none answers.",
    )
    query: Path | None = option(None, "Your .sql: user_id, item_id, score[, at]. Default: the mart.")
    input: Annotated[Path, Several()] | None = option(
        None,
        "A CSV, Parquet or JSON file, a folder of such, or -.",
        details="- is a pipe. CSV and JSON may be gzipped. It may be given several times: the files are "
        "read one after the other, each file with its own header.",
    )
    source_name: Annotated[str, Rule(_is_source_name, "1 to 200 printable characters")] | None = option(
        None,
        "What to call the source. Default: the warehouse's address and the query's file, or the folder of --input.",
        details="A model of another source than the published set is published only with --accept-changes yes.",
        advanced=True,
    )


@dataclass(frozen=True)
class ReadOptions(RowOptions, _SourceOptions):
    """Where the interactions come from. Raises UsageError for invalid and conflicting values."""

    PANEL: ClassVar[str] = "Where the interactions come from"
    SECTION: ClassVar[str] = "source"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "file" and self.input is None:
            raise UsageError("--source file needs --input PATH")
        if self.source == "warehouse" and self.input is not None:
            raise UsageError("--source warehouse reads no --input; leave one of them out")
        refuse_addresses("input", self.input)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files and folders of --input."""
        return self.input if isinstance(self.input, tuple) else () if self.input is None else (self.input,)
