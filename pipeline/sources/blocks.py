"""Arrow blocks → `Interactions`: the one way in, for files and for the warehouse.

Blocks of any size are gathered to about a million rows, checked and encoded a column at a time, and
let go. What stays in memory is 12 bytes a row (20 with times) and each id once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BadRowsError, InputError, UsageError
from pipeline.ids import MAX_ID_LENGTH
from pipeline.interactions import Interactions
from pipeline.sources.codes import IdColumn
from pipeline.sources.columns import ROLES, Columns, find_columns
from pipeline.sources.values import TimeColumn, read_scores

__all__ = ["SAMPLE_ROWS", "Columns", "InteractionsBuilder", "OnBadRows", "Read"]

OnBadRows = Literal["error", "drop"]
Numbering = Callable[[NDArray[np.intp]], NDArray[np.int64]]

SAMPLE_ROWS = 1000
_SHOWN = 5
_GATHER_ROWS = 1 << 20
_GATHER_BYTES = 1 << 27
_LONGEST_TEXT = 100


@dataclass(frozen=True, eq=False)
class Read:
    """What a source gave.

    Attributes
    ----------
    interactions : the good rows, in the order of the source
    n_rows, n_bad : rows in all, and those that were left out
    bad_rows : a sample of these, at most `SAMPLE_ROWS`, the first ones: each a dict for JSON with
        ``row`` or ``line`` (its number; None where only the key is known), ``user_id``, ``item_id``,
        ``rating`` and ``timestamp`` as text (None: null), and ``reason``
    """

    interactions: Interactions
    n_rows: int
    n_bad: int
    bad_rows: list[dict[str, Any]]


class InteractionsBuilder:
    """Gathers blocks with `add`, and gives the interactions with `finish`.

    Parameters
    ----------
    columns : names of the columns, where they are not the usual ones
    on_bad_rows : ``error`` ends in a BadRowsError if one row is bad; ``drop`` leaves bad rows out
    where : what is read, for messages: a file's name, a query
    first_row, row_word : how rows are numbered and called in messages
    infer_ids : text ids that are canonical integers in every kept row become integers

    A row is bad with a null, empty or too long id, a score that is null or not finite and ≥ 0, or a
    time that is null or can't be read. Without a rating column each score is 1; without a timestamp
    column there are no times. How the rows are split into blocks changes nothing.
    """

    def __init__(
        self,
        columns: Columns = Columns(),  # noqa: B008  frozen
        on_bad_rows: OnBadRows = "error",
        where: str = "",
        first_row: int = 1,
        row_word: str = "row",
        *,
        infer_ids: bool = False,
    ) -> None:
        if on_bad_rows not in get_args(OnBadRows):
            raise UsageError(f"Bad rows are met with one of {get_args(OnBadRows)}, got {on_bad_rows!r}")
        self.columns = columns
        self.on_bad_rows = on_bad_rows
        self.where = where
        self.row_word = row_word
        self.infer_ids = infer_ids
        self.n_rows = 0
        self.n_bad = 0
        self._names: dict[str, str] = {}
        self._next = first_row
        self._gathered: list[tuple[list[pa.Array], Numbering]] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._ids: list[IdColumn] = []
        self._times: TimeColumn | None = None
        self._scores: list[NDArray[np.float32]] = []
        self._sample: list[dict[str, Any]] = []

    def add(self, table: pa.Table | pa.RecordBatch, numbers: NDArray[np.int64] | Numbering | None = None) -> None:
        """Take a block. `numbers` are its rows' numbers, or a function from positions to them.

        Raises MissingColumnsError, and InputError where a column's type can't be used.
        """
        found = find_columns(table.schema.names, self.columns, self.where)
        names = {role: table.schema.names[i] for role, i in found.items()}
        if not self._names:
            self._names = names
            self._ids = [IdColumn(names[role], self.infer_ids) for role in ROLES[:2]]
            self._times = TimeColumn() if "timestamp" in names else None
        elif names != self._names:
            raise InputError(
                f"{self._place()}Columns change on the way: {list(self._names.values())} at first, "
                f"{list(names.values())} from {self.row_word} {self._next} on. Give every row the same columns."
            )
        if not table.num_rows:
            return
        picked = [table.column(i) for i in found.values()]
        if self._gathered and [c.type for c in picked] != [c.type for c in self._gathered[0][0]]:
            self._flush()
        self._gathered.append((picked, _numbering(numbers, self._next)))
        self.n_rows += table.num_rows
        self._next += table.num_rows
        self._gathered_rows += table.num_rows
        self._gathered_bytes += sum(column.nbytes for column in picked)
        if self._gathered_rows >= _GATHER_ROWS or self._gathered_bytes >= _GATHER_BYTES:
            self._flush()

    def add_unreadable(self, rows: Sequence[tuple[int, str]]) -> None:
        """Count rows that never became values, such as a line with too few fields: (number, reason) each."""
        self._flush()
        self.n_rows += len(rows)
        self._next += len(rows)
        self.n_bad += len(rows)
        room = max(SAMPLE_ROWS - len(self._sample), 0)
        self._sample += [self._bad_row(number, {}, reason) for number, reason in rows[:room]]

    def finish(self) -> Read:
        """The interactions of all blocks; call it once. No rows at all give none, and no error.

        Raises BadRowsError where rows are bad and `on_bad_rows` is ``error``.
        """
        self._flush()
        self._raise_bad()
        if not self._names:
            empty = Interactions.of([], [])
            return Read(empty, self.n_rows, self.n_bad, self._sample)
        scores = _joined(self._scores)
        (users, user_ids), (items, item_ids) = self._ids[0].finish(), self._ids[1].finish()
        at, late = self._times.finish() if self._times is not None else (None, None)
        interactions = Interactions(users, items, scores, user_ids, item_ids, at)
        if late is not None:
            self._drop_late(interactions, late)
            self._raise_bad()
            interactions = interactions.take(~late).compact()
        return Read(interactions, self.n_rows, self.n_bad, sorted(self._sample, key=_number))

    def _flush(self) -> None:
        """Check and encode what was gathered."""
        gathered, self._gathered = self._gathered, []
        self._gathered_rows = self._gathered_bytes = 0
        if not gathered:
            return
        columns = {role: _chunked([picked[i] for picked, _ in gathered]) for i, role in enumerate(self._names)}
        try:
            users, user_words, bad_users = self._ids[0].read(columns["user"])
            items, item_words, bad_items = self._ids[1].read(columns["item"])
            bad = {"user": bad_users, "item": bad_items}
            if "rating" in columns:
                scores, bad["rating"] = read_scores(columns["rating"], self._names["rating"])
            else:
                scores = np.ones(users.size, np.float32)
            if self._times is not None:
                times, counted, bad["timestamp"] = self._times.read(columns["timestamp"], self._names["timestamp"])
        except InputError as error:
            raise InputError(f"{self._place()}{error}") from None
        except pa.ArrowException as error:
            raise InputError(f"{self._place()}Values can't be read: {_one_line(error)}") from None
        marks = [mask for mask in bad.values() if mask is not None]
        good = None
        if marks:
            wrong = np.logical_or.reduce(marks)
            n_bad = int(np.count_nonzero(wrong))
            if n_bad:
                good = ~wrong
                self.n_bad += n_bad
                self._take_sample(columns, bad, wrong, gathered)
        if self.n_bad and self.on_bad_rows == "error":
            return  # What follows is only counted.
        self._ids[0].keep(users, user_words, good)
        self._ids[1].keep(items, item_words, good)
        self._scores.append(scores if good is None else scores[good])
        if self._times is not None:
            self._times.keep(times, counted, good)

    def _take_sample(
        self,
        columns: dict[str, pa.ChunkedArray],
        bad: dict[str, NDArray[np.bool_] | None],
        wrong: NDArray[np.bool_],
        gathered: list[tuple[list[pa.Array], Numbering]],
    ) -> None:
        start = 0
        for picked, numbering in gathered:
            end = start + len(picked[0])
            rows = start + np.flatnonzero(wrong[start:end])[: max(SAMPLE_ROWS - len(self._sample), 0)]
            if rows.size:
                for row, number in zip(rows.tolist(), numbering(rows - start).tolist(), strict=True):
                    values = {role: _python(column[row]) for role, column in columns.items()}
                    role = next(role for role, mask in bad.items() if mask is not None and mask[row])
                    reason = f"{self._names[role]} {_WHY[role](values[role])}"
                    self._sample.append(self._bad_row(number, values, reason))
            start = end

    def _drop_late(self, x: Interactions, late: NDArray[np.bool_]) -> None:
        self.n_bad += int(np.count_nonzero(late))
        for row in np.flatnonzero(late)[: max(SAMPLE_ROWS - len(self._sample), 0)]:
            values = {
                "user": x.user_ids.values[x.users[row]].item(),
                "item": x.item_ids.values[x.items[row]].item(),
                "rating": x.scores[row].item(),
            }
            reason = f"{self._names['timestamp']} is outside the years 1 to 9999"
            self._sample.append(self._bad_row(None, values, reason))

    def _bad_row(self, number: int | None, values: dict[str, Any], reason: str) -> dict[str, Any]:
        names = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}
        return {
            self.row_word: number,
            **{names[role]: _text(values.get(role)) for role in ROLES},
            "reason": reason,
        }

    def _raise_bad(self) -> None:
        if not self.n_bad or self.on_bad_rows != "error":
            return
        shown = []
        for row in sorted(self._sample, key=_number)[:_SHOWN]:
            number = row[self.row_word]
            key = f"{self.row_word} {number}" if number is not None else f"user {row['user_id']}, item {row['item_id']}"
            shown.append(f"{key} ({row['reason']})")
        more = ", …" if self.n_bad > len(shown) else ""
        raise BadRowsError(
            f"{self._place()}{self.n_bad} of {self.n_rows} rows can't be used: {', '.join(shown)}{more}. "
            "Correct them, or --on-bad-rows drop leaves them out."
        )

    def _place(self) -> str:
        return f"{self.where}: " if self.where else ""


def _number(row: dict[str, Any]) -> float:
    number = next(iter(row.values()))
    return float("inf") if number is None else number


def _numbering(numbers: NDArray[np.int64] | Numbering | None, first: int) -> Numbering:
    if numbers is None:
        return lambda rows: rows.astype(np.int64) + first
    if callable(numbers):
        return numbers
    return lambda rows: numbers[rows]


def _chunked(columns: list[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    chunks = [chunk for c in columns for chunk in (c.chunks if isinstance(c, pa.ChunkedArray) else [c])]
    return pa.chunked_array(chunks, type=columns[0].type)


def _joined(chunks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The chunks in one array, each let go once it is copied."""
    joined = np.empty(sum(chunk.size for chunk in chunks), np.float32)
    start = 0
    chunks.reverse()
    while chunks:
        chunk = chunks.pop()
        joined[start : start + chunk.size] = chunk
        start += chunk.size
    return joined


def _python(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # A time that Python's datetime can't hold, text that is not UTF-8.
        if isinstance(scalar, pa.DictionaryScalar):
            return _python(scalar.value)
        return scalar.as_buffer().to_pybytes() if hasattr(scalar, "as_buffer") else str(scalar.value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _quoted(value: Any) -> str:
    return ascii((_text(value) or "")[:40]) if isinstance(value, str | bytes) else str(value)


def _one_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]


def _why_id(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "is missing"
    if value == "" or value == b"":
        return "is empty"
    if "\0" in str(value):
        return "holds a NUL character"
    if isinstance(value, bytes):
        return "is not UTF-8"
    return f"is longer than {MAX_ID_LENGTH} characters"


def _why_score(value: Any) -> str:
    if value is None or value == "":
        return "is missing"
    try:
        number = float(value)
    except ValueError:
        return f"{_quoted(value)} is not a number"
    if number < 0 and number != -np.inf:
        return f"{_quoted(value)} is below 0"
    return f"{_quoted(value)} is not finite"


def _why_time(value: Any) -> str:
    if value is None or value == "":
        return "is missing"
    return f"{_quoted(value)} is not a time"


_WHY: dict[str, Callable[[Any], str]] = {
    "user": _why_id,
    "item": _why_id,
    "rating": _why_score,
    "timestamp": _why_time,
}
