"""Which files an option names, and the format of each by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pipeline.data.sources.csv_dialect import is_row_with_tabs
from pipeline.data.sources.lines import open_bytes
from pipeline.errors import InputError, UsageError

__all__ = ["Format", "bare_suffix", "files_of", "format_of"]

Format = Literal["csv", "parquet", "json"]

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".rating": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_LONGEST_LINE = 1 << 16
_SMALL = 1 << 10  # bytes; a packed file of nothing is smaller


def files_of(paths: Sequence[Path], option: str = "--input") -> list[Path]:
    """The files, with those of a folder in the place of the folder, by name.

    Of a folder, names that begin with a dot or an underline are passed over, as Spark does, and so are empty files.
    Raises InputError for a folder without files or with folders in it, and for a file that is named twice.
    """
    files = []
    for path in paths:
        files += _parts(path, option) if path.is_dir() else [Path("/dev/stdin") if str(path) == "-" else path]
    known: set[Path] = set()
    for file in files:
        if (real := file.resolve()) in known:
            raise InputError(f"{file} is given twice: its rows would count twice, so leave one {option} out")
        known.add(real)
    return files


def _parts(folder: Path, option: str) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.name[0] not in "._")
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from None
    if folders := [entry.name for entry in entries if entry.is_dir()]:
        raise InputError(
            f"{folder} is a folder that holds folders ({folders[0]}, …): {option} takes a folder of files; give "
            f"each of them with its own {option}"
        )
    parts = [entry for entry in entries if not _is_empty(entry)]
    if not parts:
        raise InputError(
            f"{folder} is a folder without files of rows: {option} takes a file, or a folder of part files"
        )
    return parts


def _is_empty(file: Path) -> bool:
    """Whether there is nothing in the file, gunzipped."""
    if not (size := file.stat().st_size) or size > _SMALL or file.suffix.lower() != ".gz":
        return not size
    try:
        with open_bytes(file) as stream:
            return not stream.read(1)
    except (InputError, OSError):
        return False  # the read says what is wrong


def bare_suffix(path: Path) -> str:
    """The extension in lower case, without that of a packed file: ``.csv`` of ``x.csv.gz``; "" where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] and suffixes[-1] in _PACKED else suffixes[-1:]
    return last[0] if last else ""


def format_of(path: Path, given: str | None) -> Format:
    """The format of a file: as given, else by its extension. Raises UsageError, InputError, FileNotFoundError.

    A file with another extension is read, too, if its first line can only be a row: user, item, rating, time and tabs.
    """
    formats = get_args(Format)
    if given is not None:
        if given not in formats:
            raise UsageError(f"--format is one of {', '.join(formats)}, got {given!r}")
        return next(f for f in formats if f == given)
    if (suffix := bare_suffix(path)) in _EXTENSIONS:
        return _EXTENSIONS[suffix]
    if path.is_file() and _is_rows_with_tabs(path):
        return "csv"
    if not path.exists():
        raise FileNotFoundError(path)
    raise InputError(
        f"{path}: the extension does not say what it is (known: {', '.join(_EXTENSIONS)}; "
        f".gz after those of CSV and JSON). Say it with --format {'|'.join(formats)}."
    )


def _is_rows_with_tabs(path: Path) -> bool:
    try:
        with open_bytes(path) as stream:
            first = stream.readline(_LONGEST_LINE)
    except OSError:
        return False
    return is_row_with_tabs(first.removeprefix(b"\xef\xbb\xbf").decode(errors="replace"))
