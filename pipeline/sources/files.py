"""Interactions from a file: CSV, Parquet or JSON, streamed block by block."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, UsageError
from pipeline.sources.blocks import Columns, InteractionsBuilder, OnBadRows, Read
from pipeline.sources.columns import find_columns
from pipeline.sources.csv_rows import read_csv
from pipeline.sources.json_rows import read_json
from pipeline.sources.lines import open_bytes

__all__ = ["Format", "format_of", "read_file"]

Format = Literal["csv", "parquet", "json"]

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_BATCH_ROWS = 1 << 16


def read_file(
    path: str | os.PathLike[str],
    columns: Columns = Columns(),  # noqa: B008  frozen
    format: str | None = None,
    on_bad_rows: OnBadRows = "error",
    progress: Callable[[int], None] | None = None,
    *,
    header: bytes | None = None,
    option: str = "--input",
) -> Read:
    """The interactions of a file.

    Parameters
    ----------
    path : CSV and JSON may be gzipped
    columns : names of the columns, where they are not the usual ones
    format : ``csv``, ``parquet`` or ``json`` (an array of objects, or one object a line); None: by extension
    on_bad_rows : ``error`` or ``drop``
    progress : called after each block with the number of rows read so far
    header : of a CSV whose first line is a row: the line that would name its columns
    option : what names the file on the command line, for messages

    Raises
    ------
    UsageError : an unknown format
    InputError : the file is missing, can't be read, is not what its format says, or has no rows
    MissingColumnsError, BadRowsError : as `InteractionsBuilder`
    """
    path = Path(path)
    where = str(path)
    kind = format_of(path, format)
    word = "row" if kind == "parquet" else "line"
    builder = InteractionsBuilder(columns, on_bad_rows, where, row_word=word, infer_ids=kind == "csv")
    try:
        if path.is_dir():
            raise InputError(f"{where} is a folder: {option} takes one file")
        if path.stat().st_size == 0:
            raise InputError(f"{where} is empty: it needs columns and rows")
        if kind == "parquet":
            _read_parquet(path, columns, where, builder, progress)
        else:
            with open_bytes(path) as stream:
                if kind == "csv":
                    read_csv(stream, columns, where, builder, progress, header)
                else:
                    read_json(stream, columns, where, builder, progress)
    except FileNotFoundError:
        raise InputError(f"{where}: no such file. Correct {option}.") from None
    except OSError as error:
        raise InputError(f"{where} can't be read: {error.strerror or _one_line(error)}") from None
    except pa.ArrowException as error:
        raise InputError(f"{where} is no good {kind} file ({_one_line(error)}): make or fetch it again") from None
    if not builder.n_rows:
        raise InputError(f"{where} has no rows: it needs at least one interaction")
    return builder.finish()


def format_of(path: Path, given: str | None) -> Format:
    """What kind of file it is: as given, else by its extension. Raises UsageError, InputError."""
    formats = get_args(Format)
    if given is not None:
        if given not in formats:
            raise UsageError(f"--format is one of {', '.join(formats)}, got {given!r}")
        return next(f for f in formats if f == given)
    suffixes = [s.lower() for s in path.suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    if last and last[0] in _EXTENSIONS:
        return _EXTENSIONS[last[0]]
    raise InputError(
        f"{path}: the extension does not say what it is (known: {', '.join(_EXTENSIONS)}; "
        f".gz after those of CSV and JSON). Say it with --format {'|'.join(formats)}."
    )


def _read_parquet(
    path: Path,
    columns: Columns,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None,
) -> None:
    """Give every row of a Parquet file to the builder, the wanted columns alone."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            names = file.schema_arrow.names
            wanted = [names[i] for i in find_columns(names, columns, where).values()]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                builder.add(batch)
                if progress is not None:
                    progress(builder.n_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is no good parquet file ({_one_line(error)}): make or fetch it again") from None


def _one_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]
