"""Reads CSV in blocks for an `InteractionsBuilder`.

Each block of lines is first read with ids as text and scores and times as numbers. A block where that fails
is read again with every cell as text, to find the bad cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.csv_dialect import Dialect, find_dialect, read_head
from pipeline.data.sources.csv_quotes import RecordForm, escaped_quote_line, swallowed_lines
from pipeline.data.sources.file_form import FileForm
from pipeline.data.sources.lines import NOT_UTF8, blocks_of_lines, record_lines
from pipeline.errors import InputError

__all__ = ["read_csv"]

_ROWS_A_TASK = 1 << 20
_MARK = b"\xef\xbb\xbf"
# Arrow separates by one byte: this one stands in for a longer separator.
_UNIT = b"\x1f"


def read_csv(
    stream: IO[bytes],
    form: FileForm,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None = None,
    suffix: str = ".csv",
) -> None:
    """Give every row of a CSV to the builder; a row's number is its line.

    UTF-8, with or without a byte order mark, at the beginning of any line. A line with more or fewer fields than there
    are names of columns is a bad row, and so is one that repeats the header. Raises InputError.
    """
    head = read_head(stream)
    mark = 0
    while head.startswith(_MARK, mark):  # some programs write a mark before the mark
        mark += len(_MARK)
    if not head[mark:]:
        raise InputError(f"{where} is empty: it needs a header line and rows")
    dialect = find_dialect(head[mark:], form, builder.columns, where, suffix)
    reader = _Blocks(dialect, where, builder)
    skipped = mark + dialect.skipped
    for line, block in blocks_of_lines(stream, where, quotes=dialect.quotes, head=head):
        rows = block[skipped:]
        line += block.count(b"\n", 0, skipped)
        skipped = max(skipped - len(block), 0)
        if rows.strip(b"\r\n"):
            reader.add(rows, line)
        if progress is not None:
            progress(builder.n_rows)


class _Blocks:
    """Reads the blocks of rows of one file."""

    def __init__(self, dialect: Dialect, where: str, builder: InteractionsBuilder) -> None:
        self.dialect, self.where, self.builder = dialect, where, builder
        names = dialect.names
        chosen = builder.choose(names, dialect.columns)
        if dialect.note:
            builder.note(f"{where}: {dialect.note}")
        positions = chosen.positions
        # Columns are named by position, so that a name that occurs twice does no harm.
        self.labels = [str(i) for i in range(len(names))]
        self.wanted = {str(i): names[i] for i in positions.values()}
        self.user, self.item = str(positions["user"]), str(positions["item"])
        self.types: dict[str, pa.DataType] = {self.user: pa.string(), self.item: pa.string()}
        if "rating" in positions:
            self.types[str(positions["rating"])] = pa.float64()
        if "event" in positions:
            self.types[str(positions["event"])] = pa.string()
        self.time = str(positions["timestamp"]) if "timestamp" in positions else None
        separator = dialect.separator.encode()
        self.record = RecordForm(
            separator if len(separator) == 1 else _UNIT,
            len(names),
            [positions["user"], positions["item"]],
            [positions[role] for role in ("rating",) if role in positions],
        )
        # Times are read as integers until a block has another value.
        self.time_type = pa.string() if "%" in (dialect.columns.time_format or "") else pa.int64()

    def add(self, block: bytes, line: int) -> None:
        """Add a block of whole records; the first is on line `line`."""
        if self._checked(block, line) and _MARK in block:  # where files were joined
            block = block.removeprefix(_MARK).replace(b"\n" + _MARK, b"\n")
        if self.record.separator != self.dialect.separator.encode():
            if _UNIT in block:
                raise InputError(f"{self.where}: the lines from {line} on hold the character U+001F: take it out")
            block = block.replace(self.dialect.separator.encode(), _UNIT)
        ragged: list[tuple[int, int]] = []
        table = None
        for time_type in dict.fromkeys([self.time_type, pa.string()] if self.time else [None]):
            types = dict(self.types) if self.time is None else {**self.types, self.time: time_type}
            try:
                table = self._parse(block, types, ragged, threads=True)
            except pa.ArrowInvalid:
                continue
            self.time_type = time_type
            break
        if table is None or ragged:
            ragged = []
            try:
                table = self._parse(block, dict.fromkeys(self.wanted, pa.string()), ragged, threads=False)
            except pa.ArrowInvalid as error:
                reason = str(error).split("\n", 1)[0]
                raise InputError(f"{self.where}: the lines from {line} on are not CSV ({reason})") from None
        assert table is not None  # noqa: S101  for the type checker
        self._check_quotes(block, line, table.num_rows + len(ragged))
        self._give(table, block, line, ragged)

    def _give(self, table: pa.Table, block: bytes, line: int, ragged: list[tuple[int, int]]) -> None:
        """Give the table's rows to the builder, and count the others."""
        numbers = _Numbers(block, line, [record for record, _ in ragged], self.dialect.quotes)
        headers = self._headers(table)
        if headers.size:
            self.builder.add_unreadable([(int(n), "it repeats the header") for n in numbers.of_rows(headers)])
            rows = np.delete(np.arange(table.num_rows), headers)
            table = table.take(pa.array(rows))
        else:
            rows = None
        self.builder.add(
            table.rename_columns([self.wanted[c] for c in table.column_names]),
            numbers.of_rows if rows is None else lambda positions: numbers.of_rows(rows[positions]),
        )
        if ragged:
            lines = numbers.of_records(np.array([record for record, _ in ragged]))
            expected = len(self.labels)
            self.builder.add_unreadable(
                [
                    (int(number), f"{fields} field{'s' * (fields != 1)} instead of {expected}")
                    for number, (_, fields) in zip(lines, ragged, strict=True)
                ]
            )

    def _headers(self, table: pa.Table) -> NDArray[np.intp]:
        """Which rows hold the names of the columns, (n,)."""
        user, item = self.wanted[self.user], self.wanted[self.item]
        if user.isdigit() or item.isdigit():  # A row may well have these.
            return np.empty(0, np.intp)
        same = pc.equal(table[self.user], user)
        if not pc.any(same).as_py():
            return np.empty(0, np.intp)
        same = pc.and_(same, pc.equal(pc.utf8_trim_whitespace(table[self.item]), item))
        return np.flatnonzero(same.to_numpy())

    def _parse(
        self, block: bytes, types: dict[str, pa.DataType], ragged: list[tuple[int, int]], threads: bool
    ) -> pa.Table:
        """The wanted columns; records with too many or too few fields go to `ragged` (number, fields)."""

        def note(row: pacsv.InvalidRow) -> str:
            ragged.append(((row.number or 1) - 1, row.actual_columns))
            return "skip"

        quoted = self.dialect.quotes and b'"' in block
        whole = quoted or not threads
        return pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(
                column_names=self.labels, use_threads=threads, block_size=len(block) + 1 if whole else _ROWS_A_TASK
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.record.separator.decode(),
                quote_char='"' if self.dialect.quotes else False,
                newlines_in_values=quoted,
                invalid_row_handler=note,
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(self.wanted), column_types=types, null_values=[""], strings_can_be_null=False
            ),
        )

    def _check_quotes(self, block: bytes, line: int, n_records: int) -> None:
        """Raise InputError for a quoted field with ``\\"`` in it, or with lines that are records of their own."""
        if not self.dialect.quotes or b'"' not in block:
            return
        if (escaped := escaped_quote_line(block, self.record.separator)) is not None:
            raise InputError(
                f'{self.where}: line {line + escaped}: \\" stands in a quoted field, and a CSV doubles a quote that is '
                'text: write "" in place of it'
            )
        if n_records >= block.count(b"\n") + (not block.endswith(b"\n")):
            return
        if (lines := swallowed_lines(block, self.record)) is not None:
            raise InputError(
                f"{self.where}: line {line + lines[0]}: a quoted field goes on to line {line + lines[1]}, over lines "
                'that are rows of their own: close its quote, or double a " that is text (in a .tsv quotes are text)'
            )

    def _checked(self, block: bytes, line: int) -> bool:
        """Whether the block has more than ASCII. Raises InputError where it is not UTF-8.

        All columns are checked: the parser checks only the wanted ones, and passes ragged lines on unchecked.
        """
        if block.isascii():
            return False
        try:
            block.decode()
        except UnicodeDecodeError as fault:
            bad_line = line + block.count(b"\n", 0, fault.start)
            raise InputError(f"{self.where}: line {bad_line} {NOT_UTF8}") from None
        return True


class _Numbers:
    """Line numbers of a block, counted when they are needed."""

    def __init__(self, block: bytes, line: int, ragged: list[int], quotes: bool) -> None:
        self.block, self.line, self.ragged, self.quotes = block, line, ragged, quotes

    def of_records(self, records: NDArray[np.intp]) -> NDArray[np.int64]:
        """Line numbers of records by position, counting those with too many or too few fields."""
        lines = record_lines(self.block, self.line, quotes=self.quotes)
        # With stray quotes our count of records may differ from the parser's; keep the index inside the block.
        result: NDArray[np.int64] = lines[np.minimum(records, lines.size - 1)]
        return result

    def of_rows(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Line numbers of the table's rows by position."""
        if self.ragged:
            n = int(rows.max()) + len(self.ragged) + 1
            rows = np.delete(np.arange(n), [r for r in self.ragged if r < n])[rows]
        return self.of_records(rows)
