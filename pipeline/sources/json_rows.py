"""JSON → blocks for an `InteractionsBuilder`: one object a line, or an array of objects.

Lines go through Arrow's parser; a block that it refuses (an id of another kind, a score that is no
number) and all arrays go through Python's, which says on which line something is wrong.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from pipeline.errors import InputError
from pipeline.sources.blocks import InteractionsBuilder
from pipeline.sources.columns import ROLES, Columns, find_columns
from pipeline.sources.lines import BLOCK, LONGEST, blocks_of_lines, record_lines

__all__ = ["read_json"]

_ROWS = 1 << 16
_LOOKED_AT = 100
# Arrow's parser goes a level down the C stack for each bracket: a hundred thousand end the process.
_DEEPEST = 200
_SPACE = re.compile(r"[ \t\r\n]*")
Row = tuple[int, dict[str, Any]]


def read_json(
    stream: IO[bytes],
    columns: Columns,
    where: str,
    builder: InteractionsBuilder,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Give every object to the builder; rows are numbered by the line on which they start.

    A key that some objects lack is null there. Raises InputError, with the line, for what is no
    JSON, no object, or a key that turns up only later.
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
    """Whether a line opens more brackets than an object of values has, within texts or not."""
    opened = block.count(b"{") + block.count(b"[")
    if opened <= block.count(b"\n") + _DEEPEST:  # of each line its own, in nearly every block
        return False
    data = np.frombuffer(block, np.uint8)
    starts = np.append(0, np.flatnonzero(data == ord("\n")) + 1)
    brackets = np.flatnonzero((data == ord("{")) | (data == ord("[")))
    return bool(np.diff(np.searchsorted(brackets, np.append(starts, data.size))).max() > _DEEPEST)


class _Reader:
    """Objects → tables with the same columns from first to last."""

    def __init__(self, columns: Columns, where: str, builder: InteractionsBuilder) -> None:
        self.columns, self.where, self.builder = columns, where, builder
        self.names: dict[str, str] = {}

    def add_lines(self, block: bytes, line: int) -> None:
        """One object a line, the first of them on `line`."""
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
        """The block by Arrow, each column of the kind that its first values have; None where that fails."""
        if _may_be_deep(block):
            return None
        fields: dict[str, pa.DataType] = {}
        try:
            head = [json.loads(text) for text in block.split(b"\n", _LOOKED_AT)[:_LOOKED_AT] if text.strip()]
            for name, value in ((name, value) for row in head for name, value in row.items()):
                kind = {str: pa.string(), int: pa.int64(), float: pa.float64()}.get(type(value))
                if kind is not None:
                    # A number without a fraction may be followed by one with.
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
        # The parser goes by white space, not by lines: it must have found as many objects as lines.
        return table if table.num_rows == block.count(b"\n") + (not block.endswith(b"\n")) else None

    def _rows(self, block: bytes, line: int) -> Iterator[Row]:
        for number, text in enumerate(block.split(b"\n"), line):
            if text.strip():
                try:
                    row = json.loads(text)
                except UnicodeDecodeError:
                    raise InputError(f"{self.where}: line {number} is not UTF-8 text: save the file as UTF-8") from None
                except (ValueError, RecursionError) as error:
                    _refuse(self.where, number, getattr(error, "msg", str(error)))
                yield number, _object(row, self.where, number)

    def add_rows(self, rows: list[Row]) -> None:
        """Objects with their lines."""
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        self._settle(names, rows[0][0])
        columns = {}
        for role, name in self.names.items():
            values = [row.get(name) for _, row in rows]
            columns[name] = self._ids(values, name, rows) if role in ROLES[:2] else _cells(values)
        self.builder.add(pa.table(columns), np.array([number for number, _ in rows]))

    def _settle(self, names: list[str], line: int) -> None:
        """Fix the columns by the first block; a later one may lack keys, but not bring a new one that counts."""
        known = list(self.names.values())
        names = list(dict.fromkeys([*known, *names]))
        now = {role: names[i] for role, i in find_columns(names, self.columns, self.where).items()}
        if not self.names:
            self.names = now
        elif now != self.names:
            new = [name for name in now.values() if name not in known]
            raise InputError(
                f"{self.where}: the key {new[0]!r} turns up only after line {line}: give it to every object"
            )

    def _ids(self, values: list[Any], name: str, rows: list[Row]) -> pa.Array:
        """Ids are all integers (1.0 too, as pandas writes them) or all text."""
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return pa.nulls(len(values))
        if kinds in ({int}, {str}):
            try:
                return pa.array(values, pa.int64() if kinds == {int} else pa.large_string())
            except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
                pass  # The loop below says which line it is.
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
    """Numbers as they are where all are; else the text of each cell, for the builder to judge."""
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
    except RecursionError:  # it may be read just so and be too deep to write
        return f"{type(value).__name__}s in {type(value).__name__}s"


def _object(row: Any, where: str, line: int) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{where}: line {line} holds {_as_json(row)[:40]}, and a row is an object: {{…}}")
    return row


def _refuse(where: str, line: int, reason: str) -> NoReturn:
    raise InputError(f"{where}: line {line} is not JSON ({reason}): correct it, or make the file again")


def _objects(head: bytes, stream: IO[bytes], where: str) -> Iterator[list[Row]]:
    """The objects of an array, or of objects one after the other, with the lines they start on.

    The text is decoded a piece at a time; an object that is cut by the end of a piece is tried again
    with the next one.
    """
    scan, decode = json.JSONDecoder().raw_decode, codecs.getincrementaldecoder("utf-8")().decode
    pieces = itertools.chain([head], iter(lambda: stream.read(BLOCK), b""), [b""])
    text, at, counted, line = "", 0, 0, 1  # `line` is that of text[counted]
    opened = closed = comma = False
    rows: list[Row] = []
    size = 0  # of the text that the rows were

    def more() -> bool:
        nonlocal text, at, counted, line
        piece = next(pieces, None)
        if piece is None:
            return False
        line += text.count("\n", counted, at)
        text, at, counted = text[at:], 0, 0
        try:
            text += decode(piece, not piece)
        except UnicodeDecodeError as error:
            number = line + text.count("\n") + piece.count(b"\n", 0, error.start)
            raise InputError(f"{where}: line {number} is not UTF-8 text: save the file as UTF-8") from None
        return True

    def here(position: int) -> int:
        return line + text.count("\n", counted, position)

    more()
    at = _skip(text, 0)
    if text[at : at + 1] == "[":
        opened, at = True, at + 1
    expects_object = True
    while True:
        at = _skip(text, at)
        if at == len(text) or len(rows) >= _ROWS or size >= BLOCK:
            if rows:
                yield rows
                rows, size = [], 0
            if at < len(text) or more():
                continue
            break
        mark = text[at]
        if closed:
            _refuse(where, here(at), "there is more after the end of the array")
        elif opened and mark == "]" and not comma:
            closed, at = True, at + 1
        elif opened and not expects_object:
            if mark != ",":
                _refuse(where, here(at), "a comma is missing")
            expects_object, comma, at = True, True, at + 1
        else:
            try:
                value, end = scan(text, at)
            except (ValueError, RecursionError) as error:
                position, reason = getattr(error, "pos", at), getattr(error, "msg", str(error))
                number = here(position)
                if len(text) - at <= LONGEST and more():
                    continue
                _refuse(where, number, reason)
            line, counted = here(at), at
            rows.append((line, _object(value, where, line)))
            size += end - at
            at, expects_object, comma = end, False, False
    if opened and not closed:
        _refuse(where, here(at), "the array has no end")


def _skip(text: str, at: int) -> int:
    """Position of the next character that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at
