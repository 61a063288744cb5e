"""Interactions from files: CSV, Parquet or JSON, read in blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.blocks_builder import builder_for
from pipeline.data.sources.builder import Columns, InteractionsBuilder, OnBadRows, ReadResult
from pipeline.data.sources.csv import read_csv
from pipeline.data.sources.file_form import FileForm
from pipeline.data.sources.file_names import Format, bare_suffix, files_of, format_of
from pipeline.data.sources.json import read_json
from pipeline.data.sources.lines import open_bytes, refuse_packed
from pipeline.errors import InputError, UsageError

__all__ = ["FileForm", "Format", "ReadFiles", "format_of", "read_file", "read_parquet"]

_BATCH_ROWS = 1 << 16

# As `read_file`, with all that it takes by position.
ReadFiles = Callable[
    [Sequence[Path], Columns, str | None, OnBadRows, Callable[[int], None] | None, FileForm], ReadResult
]


def read_file(
    path: str | os.PathLike[str] | Sequence[Path],
    columns: Columns = Columns(),  # noqa: B008  frozen
    format: str | None = None,
    on_bad_rows: OnBadRows = "error",
    progress: Callable[[int], None] | None = None,
    *,
    form: FileForm = FileForm(),  # noqa: B008  frozen
    option: str = "--input",
    folder: Path | None = None,
) -> ReadResult:
    """The interactions of a file, of a folder of part files, or of several of both, one after the other.

    Parameters
    ----------
    path : CSV and JSON may be gzipped, and come through a pipe
    columns : names of the columns, if they are not the usual ones
    format : ``csv``, ``parquet`` or ``json`` (an array of objects, or one object a line); None: by extension
    on_bad_rows : ``error`` or ``drop``
    progress : called after each block with the number of rows read so far
    form : how text is written
    option : the command-line option of the file, for messages
    folder : where the interactions lie in files; default, in memory

    Raises
    ------
    UsageError : an unknown format, or a form that the format has not
    InputError : a file is missing, can't be read, is not what its format says, or has no rows
    MissingColumnsError, BadRowsError : as `InteractionsBuilder`
    """
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else list(path)
    where = ", ".join(map(str, paths))
    files = files_of(paths, option)
    builder = builder_for(folder, columns, on_bad_rows, where)
    for file in files:
        try:
            kind = format_of(file, format)
        except FileNotFoundError:
            raise InputError(f"{file}: no such file. Correct {option}.") from None
        _check_form(kind, form)
        builder.begin(
            str(file),
            "csv" if kind == "csv" else "file",
            columns,
            "row" if kind == "parquet" else "line",
            one_of_many=len(files) > 1,
        )
        try:
            _read(file, kind, form, builder, progress)
        except FileNotFoundError:
            raise InputError(f"{file}: no such file. Correct {option}.") from None
        except OSError as error:
            raise InputError(f"{file} can't be read: {error.strerror or _one_line(error)}") from None
        except pa.ArrowException as error:
            raise InputError(f"{file} is no good {kind} file ({_one_line(error)}): make or fetch it again") from None
    if not builder.n_rows:
        raise InputError(f"{where} has no rows: it needs at least one interaction")
    return builder.finish()


def _read(
    path: Path,
    kind: Format,
    form: FileForm,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None,
) -> None:
    where = str(path)
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{where} is empty: it needs columns and rows")
    if kind == "parquet":
        read_parquet(path, where, builder, progress)
        return
    with open_bytes(path, form.encoding) as stream:
        if kind == "csv":
            read_csv(stream, form, where, builder, progress, bare_suffix(path))
        else:
            read_json(stream, builder.columns, where, builder, progress)


def _check_form(kind: Format, form: FileForm) -> None:
    """Raise UsageError where the form says something that files of the format do not have."""
    given = [
        option
        for option, value, usual in (
            ("--separator", form.separator, None),
            ("--header", form.header, "auto"),
            ("--encoding", form.encoding, "utf-8"),
        )
        if value != usual and not (kind == "json" and option == "--encoding")
    ]
    if kind != "csv" and given:
        raise UsageError(f"{', '.join(given)}: of CSV files, and this is {kind}; leave it out")


def read_parquet(
    path: Path,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None,
    groups: Sequence[int] | None = None,
) -> None:
    """Give the rows of a Parquet file, or of some row groups, to the builder; only the wanted columns are read."""
    if path.exists() and not path.is_file():
        raise InputError(f"{where} is a pipe, and Parquet is read from its end: save it as a file first")
    with path.open("rb") as raw:
        first = raw.read(6)
    if first.startswith(b"\x1f\x8b"):
        raise InputError(f"{where} is gzip: unpack it (gunzip), Parquet is compressed inside")
    refuse_packed(path, first)
    try:
        # The deprecated times of 96 bits in nanoseconds would wrap around outside the years 1678 to 2261.
        options = {"pre_buffer": False, "buffer_size": 1 << 20, "coerce_int96_timestamp_unit": "us"}
        with pq.ParquetFile(path, **options) as file:
            names = file.schema_arrow.names
            wanted = [names[i] for i in builder.choose(names).positions.values()]
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=wanted):
                builder.add(batch)
                if progress is not None:
                    progress(builder.n_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is no good parquet file ({_one_line(error)}): make or fetch it again") from None


def _one_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]
