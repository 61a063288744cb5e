"""CSV → blocks for an `InteractionsBuilder`.

Each block of lines is first read as if all were well: ids as text, scores and times as numbers. Only
a block where that fails is read again with every cell as text, so that its bad cells can be told.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.sources.blocks import InteractionsBuilder
from pipeline.sources.columns import Columns, find_columns
from pipeline.sources.lines import blocks_of_lines, first_break, record_lines

__all__ = ["read_csv"]

_ROWS_A_TASK = 1 << 20
# Each takes memory in every block, wanted or not.
_MOST_COLUMNS = 100_000


def read_csv(
    stream: IO[bytes],
    columns: Columns,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None = None,
    header: bytes | None = None,
) -> None:
    """Give every row of a CSV to the builder; rows are numbered by their line.

    The first line names the columns, unless `header` is given: then it is a row, too.

    Comma, or semicolon or tab where the header has no comma; UTF-8, with or without a byte order
    mark. A line with more or fewer fields than the header is a bad row. Raises InputError.
    """
    reader: _Blocks | None = None
    for line, block in blocks_of_lines(stream, where, quotes=True):
        if reader is None:
            block = block.removeprefix(b"\xef\xbb\xbf")
            end = first_break(block) if header is None else 0
            reader = _Blocks(block[:end] if header is None else header, columns, where, builder)
            line += block.count(b"\n", 0, end)
            block = block[end:]
        if block.strip(b"\r\n"):
            reader.add(block, line)
        if progress is not None:
            progress(builder.n_rows)
    if reader is None:
        raise InputError(f"{where} is empty: it needs a header line and rows")


class _Blocks:
    """Reads the blocks that follow one header."""

    def __init__(self, header: bytes, columns: Columns, where: str, builder: InteractionsBuilder) -> None:
        self.where, self.builder = where, builder
        self._check_utf8(header, 1)
        text = header.decode()
        if not text.strip():
            raise InputError(f"{where}: line 1 is empty, and it should name the columns")
        self.delimiter = next((d for d in ",;\t" if d in text), ",")
        try:
            names = [name.strip() for name in next(csv.reader([text], delimiter=self.delimiter), [])]
        except csv.Error:  # Most often lines that end in carriage returns alone.
            raise InputError(f"{where}: line 1 is no CSV header: save the file with ordinary line ends") from None
        if len(names) > _MOST_COLUMNS:
            raise InputError(
                f"{where}: line 1 names {len(names):,} columns, and {_MOST_COLUMNS:,} are the most: cut some"
            )
        found = find_columns(names, columns, where)
        # The columns go by their position, so that a name that comes twice does no harm elsewhere.
        self.labels = [str(i) for i in range(len(names))]
        self.wanted = {str(i): names[i] for i in found.values()}
        self.types: dict[str, pa.DataType] = {str(found["user"]): pa.string(), str(found["item"]): pa.string()}
        if "rating" in found:
            self.types[str(found["rating"])] = pa.float64()
        self.time = str(found["timestamp"]) if "timestamp" in found else None
        # Whole numbers until a block holds something else.
        self.time_type = pa.int64()

    def add(self, block: bytes, line: int) -> None:
        """One block of whole records, the first of them on `line`."""
        self._check_utf8(block, line)
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
        numbers = _Numbers(block, line, [record for record, _ in ragged])
        assert table is not None  # noqa: S101  for the type checker
        self.builder.add(table.rename_columns([self.wanted[c] for c in table.column_names]), numbers.of_rows)
        if ragged:
            lines = numbers.of_records(np.array([record for record, _ in ragged]))
            expected = len(self.labels)
            rows = [
                (int(number), f"{fields} field{'s' * (fields != 1)} instead of {expected}")
                for number, (_, fields) in zip(lines, ragged, strict=True)
            ]
            self.builder.add_unreadable(rows)

    def _parse(
        self, block: bytes, types: dict[str, pa.DataType], ragged: list[tuple[int, int]], threads: bool
    ) -> pa.Table:
        """The wanted columns; records with too many or too few fields go to `ragged` (number, fields)."""

        def note(row: pacsv.InvalidRow) -> str:
            ragged.append(((row.number or 1) - 1, row.actual_columns))
            return "skip"

        quoted = b'"' in block
        whole = quoted or not threads
        return pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(
                column_names=self.labels, use_threads=threads, block_size=len(block) + 1 if whole else _ROWS_A_TASK
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=quoted, invalid_row_handler=note
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(self.wanted), column_types=types, null_values=[""], strings_can_be_null=False
            ),
        )

    def _check_utf8(self, block: bytes, line: int) -> None:
        """Of all columns: the parser checks the wanted ones alone, and shows a ragged line unchecked."""
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError as fault:
                at = line + block.count(b"\n", 0, fault.start)
                raise InputError(f"{self.where}: line {at} is not UTF-8 text: save the file as UTF-8") from None


class _Numbers:
    """Line numbers of a block, counted only when asked for."""

    def __init__(self, block: bytes, line: int, ragged: list[int]) -> None:
        self.block, self.line, self.ragged = block, line, ragged

    def of_records(self, records: NDArray[np.intp]) -> NDArray[np.int64]:
        """Of records by position, those with too many or too few fields counted too."""
        lines = record_lines(self.block, self.line, quotes=True)
        # Stray quotes can make our count of records differ from the parser's: stay in the block.
        result: NDArray[np.int64] = lines[np.minimum(records, lines.size - 1)]
        return result

    def of_rows(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Of the table's rows by position."""
        if self.ragged:
            n = int(rows.max()) + len(self.ragged) + 1
            rows = np.delete(np.arange(n), [r for r in self.ragged if r < n])[rows]
        return self.of_records(rows)
