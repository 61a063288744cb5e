"""How a CSV is written, by its first lines: the separator, the names of the columns, and whether quotes quote."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from pipeline.data.sources import lines
from pipeline.data.sources.columns import Columns, find_columns
from pipeline.data.sources.file_form import FileForm
from pipeline.errors import InputError, MissingColumnsError

__all__ = ["NAMES", "Dialect", "find_dialect", "is_row_with_tabs", "read_head"]

# The columns of a file without a header.
NAMES = ("user_id", "item_id", "rating", "timestamp")
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_KNOWN = (",", ";", "\t", "|", "::")
_WORDS = {"tab": "\t", r"\t": "\t", "space": " "}
_EXCEL = re.compile(rb'"?sep=([^\r\n"])"?\r?\n?')
# A column more is memory in every block, even if it is not read.
_MOST_COLUMNS = 100_000
_MOST_NUMBERED = 4


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written.

    Attributes
    ----------
    separator : one character or more
    names : of the columns
    quotes : whether a field may stand between double quotes
    skipped : bytes before the first row
    columns : that hold for this file
    note : a sentence, where names were given to columns without any
    """

    separator: str
    names: list[str]
    quotes: bool
    skipped: int
    columns: Columns
    note: str = ""


def read_head(stream: IO[bytes]) -> bytes:
    """The beginning of the stream: two whole records at least, or all there is."""
    head = b""
    while len(head) <= lines.LONGEST:
        data = stream.read(lines.BLOCK)
        head += data
        if not data:
            break
        first = lines.first_break(head)
        if head[first - 1 : first] == b"\n" and head.find(b"\n", first) >= 0:
            break
    return head


def is_row_with_tabs(line: str) -> bool:
    """Whether the line is user, item, rating and perhaps time, with tabs: the form of the public test files."""
    fields = line.rstrip("\r\n").split("\t")
    return len(fields) in (3, 4) and all(_NUMBER.fullmatch(field) for field in fields[2:])


def find_dialect(head: bytes, form: FileForm, columns: Columns, where: str, suffix: str) -> Dialect:
    """The dialect of a CSV that begins with `head`, without a byte order mark.

    Parameters
    ----------
    suffix : of the file's name, without ``.gz``: a ``.tsv`` is separated by tabs, a ``.rating`` has no header

    Raises
    ------
    InputError : the first line is no CSV
    MissingColumnsError : its columns are not those that are needed; the message says what else it may be
    """
    given = None if form.separator is None else _WORDS.get(form.separator, form.separator)
    start = 0
    if excel := _EXCEL.match(head):
        start = excel.end()
        given = given or excel[1].decode(errors="replace")
    # Where quotes are text, the first record is the first line; else it may go on.
    end = head.find(b"\n", start) + 1 or len(head)
    text = _decoded(head[start:end], where)
    separator = given or _best_separator(text, form, columns, suffix)
    if _quotes(separator, text):
        end = lines.first_break(head, start)
        text = _decoded(head[start:end], where)
        separator = given or _best_separator(text, form, columns, suffix)
    if not text.strip():
        number = 1 + head.count(b"\n", 0, start)
        raise InputError(f"{where}: line {number} is empty, and it should name the columns")
    fields = _fields(text, separator, where)
    quotes = _quotes(separator, text)
    if form.header == "off":
        names = _without_names(fields, columns)
        return Dialect(separator, names, quotes, start, columns, _note(names))
    if form.header != "auto":
        names = _given_names(form.header, fields, where)
        return Dialect(separator, names, quotes, start, columns)
    try:
        find_columns(fields, columns, where)
    except MissingColumnsError as error:
        row = is_row_with_tabs(text) if separator == "\t" else _is_plain_row(fields)
        if not row and suffix != ".rating":
            raise _with_hint(error, fields, separator) from None
        names = list(NAMES[: len(fields)] if row else NAMES)
        return Dialect(separator, names, quotes, start, columns.without_names(), _note(names))
    return Dialect(separator, fields, quotes, end, columns)


def _decoded(line: bytes, where: str) -> str:
    if b"\0" in line[:2]:
        raise InputError(f"{where}: every other byte of line 1 is 0, as in UTF-16: --encoding utf-16-le, or utf-16-be")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise InputError(f"{where}: line 1 {lines.NOT_UTF8}") from None


def _quotes(separator: str, line: str) -> bool:
    """Whether quotes hold a field together: where tabs or :: separate, only if the first field has them."""
    return separator not in ("\t", "::") or _is_quoted(line.split(separator, 1)[0])


def _best_separator(line: str, form: FileForm, columns: Columns, suffix: str) -> str:
    """The separator under which the line names the columns, else the commonest; tabs in a .tsv."""
    bare = re.sub(r'"[^"]*"', "", line)
    if suffix in (".tsv", ".tab") and "\t" in bare:
        return "\t"
    counts = {separator: bare.count(separator) for separator in _KNOWN if separator in bare}
    by_count = sorted(counts, key=lambda separator: -counts[separator])
    given_names = form.header not in ("auto", "off")
    for separator in by_count:
        fields = _split(line, separator)
        if len(fields) == form.header.count(",") + 1 if given_names else _has_columns(fields, columns):
            return separator
    return by_count[0] if by_count else ","


def _has_columns(fields: Sequence[str], columns: Columns) -> bool:
    try:
        find_columns(fields, columns)
    except MissingColumnsError:
        return False
    except InputError:
        return True
    return True


def _split(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        fields = line.rstrip("\r\n").split(separator)
        return [field.strip() for field in fields]
    if separator == "\t" and not _quotes(separator, line):
        return [field.strip() for field in line.rstrip("\r\n").split("\t")]
    rows = csv.reader([line], delimiter=separator, skipinitialspace=separator != "\t")
    try:
        return [name.strip() for name in next(rows, [])]
    except csv.Error:
        return []


def _is_quoted(field: str) -> bool:
    field = field.strip()
    return len(field) > 1 and field[0] == field[-1] == '"'


def _fields(line: str, separator: str, where: str) -> list[str]:
    fields = _split(line, separator)
    if not fields:  # Usually because lines end in carriage returns only.
        raise InputError(f"{where}: line 1 is no CSV header: save the file with ordinary line ends")
    if len(fields) > _MOST_COLUMNS:
        raise InputError(f"{where}: line 1 names {len(fields):,} columns, and {_MOST_COLUMNS:,} are the most: cut some")
    return fields


def _given_names(header: str, fields: Sequence[str], where: str) -> list[str]:
    names = [name.strip() for name in header.split(",")]
    if len(names) != len(fields):
        raise InputError(
            f"{where}: its first line has {len(fields)} fields, and --header names {len(names)} columns: "
            "name every column, or give the --separator"
        )
    return names


def _without_names(fields: Sequence[str], columns: Columns) -> list[str]:
    """user_id, item_id, … for up to four columns; else, or where columns are named, their numbers."""
    if len(fields) <= _MOST_NUMBERED and not any(map(columns.named, ("user", "item", "rating", "timestamp"))):
        return list(NAMES[: len(fields)])
    return [str(number) for number in range(1, len(fields) + 1)]


def _note(names: Sequence[str]) -> str:
    return f"the first line is a row: its columns are taken for {', '.join(names)} (--header names others)"


def _is_plain_row(fields: Sequence[str]) -> bool:
    """Whether these can only be user, item, rating and time: four numbers, the last of them seconds or finer."""
    if len(fields) != len(NAMES) or not all(_NUMBER.fullmatch(field) for field in fields):
        return False
    return float(fields[3]) >= 10**8 > float(fields[2])


def _with_hint(error: MissingColumnsError, fields: Sequence[str], separator: str) -> MissingColumnsError:
    """The error, which asks whether line 1 is a row, or whether there is another separator."""
    if any(_NUMBER.fullmatch(field) for field in fields):
        hint = "Is line 1 a row? --header user_id,item_id,… names the columns of a file that has no header."
    elif len(fields) == 1:
        hint = "Separators that are known: comma, semicolon, tab, | and ::; --separator gives another."
    else:
        return error
    return MissingColumnsError(error.missing, error.columns, error.where, hint)
