"""JSON → blocks for an `InteractionsBuilder`: one object a line, or an array of objects.

Arrow parses lines. Python's parser reads arrays, and the blocks that Arrow refuses (an id of another kind, a score
that is not a number): it says on which line something is wrong.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.columns import ROLES, Columns, find_columns
from pipeline.data.sources.json_text import JsonText, refuse
from pipeline.data.sources.lines import BLOCK, NOT_UTF8, blocks_of_lines, record_lines
from pipeline.errors import InputError

__all__ = ["read_json"]

_ROWS = 1 << 16
_LOOKED_AT = 100
# Arrow's parser goes a level down the C stack for each bracket: a hundred thousand end the process.
_DEEPEST = 200
Row = tuple[int, dict[str, Any]]


def read_json(
    stream: IO[bytes],
    columns: Columns,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Give every object to the builder; a row's number is the line on which its object starts.

    A key that an object lacks is null in its row. Raises InputError with the line for text that is not JSON, for a
    value that is not an object, and for a key that appears only in a later block.
    """
    reader = _Reader(columns, where, builder)
    head = stream.read(BLOCK).removeprefix(b"\xef\xbb\xbf")
    start = head.lstrip()
    if not start:
        raise InputError(f"{where} is empty: it needs an array of objects, or one object a line")
    if start[:1] == b"{" and _is_json(start.split(b"\n", 1)[0]):
        for line, block in blocks_of_lines(stream, where, quotes=False, head=head):
            reader.add_lines(block, line)
            if progress is not None:
                progress(builder.n_rows)
        return
    for rows in _objects(head, stream, where):
        reader.add_rows(rows)
        if progress is not None:
            progress(builder.n_rows)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _may_be_deep(block: bytes) -> bool:
    """Whether a line has more than `_DEEPEST` opening brackets, in strings too."""
    opened = block.count(b"{") + block.count(b"[")
    if opened <= block.count(b"\n") + _DEEPEST:  # each line opens one bracket in nearly every block
        return False
    data = np.frombuffer(block, np.uint8)
    starts = np.append(0, np.flatnonzero(data == ord("\n")) + 1)
    brackets = np.flatnonzero((data == ord("{")) | (data == ord("[")))
    return bool(np.diff(np.searchsorted(brackets, np.append(starts, data.size))).max() > _DEEPEST)


class _Reader:
    """Turns objects into tables that all have the same columns."""

    def __init__(self, columns: Columns, where: str, builder: InteractionsBuilder) -> None:
        self.columns, self.where, self.builder = columns, where, builder
        self.names: dict[str, str] = {}

    def add_lines(self, block: bytes, line: int) -> None:
        """Add a block of one object a line; its first line is number `line`."""
        table = self._parse(block)
        if table is None:
            rows = self._rows(block, line)
            while some := list(itertools.islice(rows, _ROWS)):
                self.add_rows(some)
        elif table.num_rows:
            self._settle(table.column_names, line)
            picked = {name: table[name] for name in self.names.values()}
            self.builder.add(pa.table(picked), lambda rows: record_lines(block, line, quotes=False)[rows])

    def _parse(self, block: bytes) -> pa.Table | None:
        """The block parsed by Arrow, each column with the type of its first values; None if Arrow refuses it."""
        if _may_be_deep(block):
            return None
        fields: dict[str, pa.DataType] = {}
        try:
            head = [json.loads(text) for text in block.split(b"\n", _LOOKED_AT)[:_LOOKED_AT] if text.strip()]
            for name, value in ((name, value) for row in head for name, value in row.items()):
                kind = {str: pa.string(), int: pa.int64(), float: pa.float64()}.get(type(value))
                if kind is not None:
                    # A whole number may be followed by one with a fraction.
                    fields[name] = (
                        pa.float64() if {fields.get(name, kind), kind} == {pa.int64(), pa.float64()} else kind
                    )
            names = self.names or {
                role: list(fields)[i] for role, i in find_columns(list(fields), self.columns).items()
            }
            schema = pa.schema([(name, fields[name]) for name in names.values()])
            if "rating" in names and fields[names["rating"]] == pa.int64():
                schema = schema.set(schema.names.index(names["rating"]), pa.field(names["rating"], pa.float64()))
            table = pajson.read_json(
                pa.BufferReader(block),
                read_options=pajson.ReadOptions(block_size=len(block) + 1),
                parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
            )
        except (ValueError, RecursionError, KeyError, AttributeError, InputError, pa.ArrowException):
            return None  # Python's parser says why.
        # Arrow separates objects by white space, not by lines: there must be as many objects as lines.
        return table if table.num_rows == block.count(b"\n") + (not block.endswith(b"\n")) else None

    def _rows(self, block: bytes, line: int) -> Iterator[Row]:
        for number, text in enumerate(block.split(b"\n"), line):
            if text.strip():
                try:
                    row = json.loads(text)
                except UnicodeDecodeError:
                    raise InputError(f"{self.where}: line {number} {NOT_UTF8}") from None
                except (ValueError, RecursionError) as error:
                    refuse(self.where, number, getattr(error, "msg", str(error)))
                yield number, _object(row, self.where, number)

    def add_rows(self, rows: list[Row]) -> None:
        """Add objects with their line numbers."""
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        self._settle(names, rows[0][0])
        columns = {}
        for role, name in self.names.items():
            values = [row.get(name) for _, row in rows]
            columns[name] = self._ids(values, name, rows) if role in ROLES[:2] else _cells(values)
        self.builder.add(pa.table(columns), np.array([number for number, _ in rows]))

    def _settle(self, names: list[str], line: int) -> None:
        """Choose the columns from the first block. A later block may lack keys, but not add one."""
        known = list(self.names.values())
        names = list(dict.fromkeys([*known, *names]))
        if not self.names:
            self.names = dict(self.builder.choose(names).names)
            return
        now = {role: names[i] for role, i in find_columns(names, self.columns, self.where).items()}
        if now != self.names:
            new = [name for name in now.values() if name not in known]
            raise InputError(
                f"{self.where}: the key {new[0]!r} turns up only after line {line}: give it to every object"
            )

    def _ids(self, values: list[Any], name: str, rows: list[Row]) -> pa.Array:
        """The ids: all integers (1.0 counts as one, since pandas writes it) or all text."""
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return pa.nulls(len(values))
        if kinds in ({int}, {str}):
            try:
                return pa.array(values, pa.int64() if kinds == {int} else pa.large_string())
            except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
                pass  # The loop below says on which line the bad id is.
        values = [int(v) if isinstance(v, float) and v.is_integer() and abs(v) < 2**53 else v for v in values]
        text = next((isinstance(v, str) for v in values if v is not None), False)
        for value, (number, _) in zip(values, rows, strict=True):
            if value is None or (isinstance(value, str) and text):
                continue
            if isinstance(value, bool | list | dict | float):
                raise InputError(f"{self.where}: line {number}: {name!r} is no id: ids are integers or strings")
            if isinstance(value, str) != text:
                raise InputError(
                    f"{self.where}: column {name!r} holds integers in some rows and text in others "
                    f"(line {number}): make its ids all the same"
                )
            if not -(2**63) <= value < 2**63:
                raise InputError(
                    f"{self.where}: line {number}: {name!r} passes 64 signed bits: pass such ids as strings"
                )
        try:
            return pa.array(values, pa.large_string() if text else pa.int64())
        except UnicodeEncodeError:
            raise InputError(f"{self.where}: an id near line {rows[0][0]} is not valid Unicode") from None


def _cells(values: list[Any]) -> pa.Array:
    """Numbers if all values are numbers; else the text of each, which the builder checks."""
    kinds = {type(value) for value in values} - {type(None)}
    try:
        if kinds <= {int}:
            return pa.array(values, pa.int64())
        if kinds <= {int, float}:
            return pa.array(values, pa.float64())
    except (OverflowError, pa.ArrowInvalid):
        pass
    texts = [
        None if v is None else v if isinstance(v, str) else repr(v) if isinstance(v, float) else _as_json(v)
        for v in values
    ]
    return pa.array([t if t is None else t.encode(errors="replace").decode() for t in texts], pa.large_string())


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # a value that can just be read may be too deep to write
        return f"{type(value).__name__}s in {type(value).__name__}s"


def _object(row: Any, where: str, line: int) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{where}: line {line} holds {_as_json(row)[:40]}, and a row is an object: {{…}}")
    return row


def _objects(head: bytes, stream: IO[bytes], where: str) -> Iterator[list[Row]]:
    """The objects of an array, or of objects one after the other, in lists, each with the line it starts on."""
    text = JsonText(head, stream, where)
    text.read_more()
    text.skip_space()
    in_array = text.take("[")
    array_ended = after_comma = False
    expects_object = True
    rows: list[Row] = []
    size = 0  # characters of text that `rows` took
    while True:
        text.skip_space()
        if text.at_end or len(rows) >= _ROWS or size >= BLOCK:
            if rows:
                yield rows
                rows, size = [], 0
            if not text.at_end or text.read_more():
                continue
            break
        if array_ended:
            text.refuse_here("there is more after the end of the array")
        if in_array and not after_comma and text.take("]"):
            array_ended = True
        elif in_array and not expects_object:
            if not text.take(","):
                text.refuse_here("a comma is missing")
            expects_object = after_comma = True
        elif (parsed := text.take_value()) is not None:
            line, value, length = parsed
            rows.append((line, _object(value, where, line)))
            size += length
            expects_object = after_comma = False
    if in_array and not array_ended:
        text.refuse_here("the array has no end")
