"""Turns Arrow blocks into `Interactions`. Files and the warehouse are both read this way.

Blocks of any size are collected to about a million rows, checked and encoded column by column, and then
released. 12 bytes per row (20 with times) and each id once stay in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.sources.bad_rows import SAMPLE_ROWS, BadRow, BadRows, reason
from pipeline.data.sources.blocks import (
    Block,
    Numbering,
    ReadResult,
    chunked,
    joined,
    numbering,
    one_line,
    python_value,
)
from pipeline.data.sources.columns import ROLES, ChosenColumns, Columns, choose_columns, find_columns
from pipeline.data.sources.event_weights import weigh
from pipeline.data.sources.id_column import IdColumn, IdForm
from pipeline.data.sources.times import TimeColumn
from pipeline.data.sources.values import read_scores
from pipeline.errors import InputError, UsageError

__all__ = ["SAMPLE_ROWS", "Columns", "InteractionsBuilder", "OnBadRows", "ReadResult"]

OnBadRows = Literal["error", "drop"]


class InteractionsBuilder:
    """Collects blocks with `add` and returns the interactions with `finish`.

    Parameters
    ----------
    columns : names of the columns, if they are not the usual ones, and how their values are read
    on_bad_rows : ``error`` raises BadRowsError if a row is bad; ``drop`` leaves bad rows out
    where : the name of the source in messages: a file, a query
    row_word : the word for a row in messages
    infer_ids : text ids that are canonical integers in every kept row become integers

    A row is bad if an id is null, empty or too long, if the score is null, negative or not finite, or if the
    time is null or can't be read. Without a rating column each score is 1; without a timestamp
    column there are no times. The division into blocks does not change the result.
    """

    gather_rows, gather_bytes = 1 << 20, 1 << 27  # what is collected before it is encoded

    def __init__(
        self,
        columns: Columns = Columns(),  # noqa: B008  frozen
        on_bad_rows: OnBadRows = "error",
        where: str = "",
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
        self.form: IdForm = "csv" if infer_ids else "query"
        self.n_rows = 0
        self._bad = BadRows()
        self._chosen: ChosenColumns | None = None
        self._names: dict[str, str] = {}
        self._next = 1
        self._file = (0, "")
        self._notes: list[str] = []
        self._gathered: list[Block] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._ids: list[IdColumn] = []
        self._times: TimeColumn | None = None
        self._scores: Any = self._new_chunks()

    def _new_chunks(self) -> Any:
        """An empty list for the values of the blocks."""
        return []

    @property
    def n_bad(self) -> int:
        """Rows that are not among the interactions."""
        return len(self._bad)

    def begin(
        self, file: str, form: IdForm, columns: Columns, row_word: str, *, one_of_many: bool = False, first: int = 1
    ) -> None:
        """Go on with another file, whose rows are numbered from `first`."""
        self._flush()
        if self._times is not None:
            try:
                self._times.next_file()
            except InputError as error:
                raise InputError(f"{self._place()}{error}") from None
        self.columns, self.form, self.row_word = columns, form, row_word
        self._file = (self._file[0] + 1, file if one_of_many else "")
        self._next = first
        for ids in self._ids:
            ids.form = form

    def note(self, sentence: str) -> None:
        """Add a sentence to the notes of the result."""
        self._notes.append(sentence)

    def choose(self, names: Sequence[str], columns: Columns | None = None) -> ChosenColumns:
        """The columns of a file by all of its names. Raises MissingColumnsError and InputError.

        `columns` holds from here on, instead of those given before.
        """
        self.columns = columns or self.columns
        chosen = choose_columns(names, self.columns, self._file[1] or self.where)
        self._chosen = self._chosen or chosen
        return chosen

    def add(self, table: pa.Table | pa.RecordBatch, numbers: NDArray[np.int64] | Numbering | None = None) -> None:
        """Add a block. `numbers` are its rows' numbers, or a function from positions to numbers.

        Raises MissingColumnsError, and InputError if a column's type can't be used.
        """
        if self._chosen is None:
            self.choose(table.schema.names)
        positions = find_columns(table.schema.names, self.columns, self._file[1] or self.where)
        names = {role: table.schema.names[i] for role, i in positions.items()}
        if not self._names:
            self._names = names
            self._ids = [IdColumn(names[role], self.form, self._new_chunks()) for role in ROLES[:2]]
            if "timestamp" in names:
                self._times = TimeColumn(names["timestamp"], self.columns.time_format, self._new_chunks())
        elif names != self._names:
            raise InputError(
                f"{self._place()}Columns change on the way: {list(self._names.values())} at first, "
                f"{list(names.values())} from {self._file[1]}{' ' * bool(self._file[1])}{self.row_word} {self._next} "
                "on. Give every row the same columns."
            )
        if not table.num_rows:
            return
        picked = [table.column(i) for i in positions.values()]
        if self._gathered and [c.type for c in picked] != [c.type for c in self._gathered[0].picked]:
            self._flush()
        self._gathered.append(Block(picked, numbering(numbers, self._next), self._file))
        self.n_rows += table.num_rows
        self._next += table.num_rows
        self._gathered_rows += table.num_rows
        self._gathered_bytes += sum(column.nbytes for column in picked)
        if self._gathered_rows >= self.gather_rows or self._gathered_bytes >= self.gather_bytes:
            self._flush()

    def add_unreadable(self, rows: Sequence[tuple[int, str]]) -> None:
        """Count bad rows that have no values, such as a line with too few fields: (number, reason) each."""
        self._flush()
        self.n_rows += len(rows)
        self._next += len(rows)
        refused = self.on_bad_rows == "error"
        for number, why in rows[: self._bad.room(refused)]:
            self._bad.take(BadRow(number, {}, why, file=self._file), refused)
        self._bad.count(len(rows), refused)

    def finish(self) -> ReadResult:
        """The interactions of all blocks; call it once. Without rows the result is empty.

        Raises BadRowsError if rows are bad and `on_bad_rows` is ``error``.
        """
        self._flush()
        self._bad.raise_refused(self.n_rows, self.where, self.row_word)
        if not self._names:
            return self._result(Interactions.of([], []))
        scores = joined(self._scores)
        try:
            (users, user_ids), (items, item_ids) = self._ids[0].finish(), self._ids[1].finish()
            times, late = self._times.finish() if self._times is not None else (None, None)
        except InputError as error:
            raise InputError(f"{self._place()}{error}") from None
        interactions = Interactions(users, items, scores, user_ids, item_ids, times)
        if self._times is not None and self._times.note:
            self.note(self._times.note)
        if late is not None:
            self._drop_late(interactions, late)
            self._bad.raise_refused(self.n_rows, self.where, self.row_word)
            interactions = interactions.take(~late).compact()
        return self._result(interactions)

    def _result(self, interactions: Interactions) -> ReadResult:
        notes = tuple(dict.fromkeys(self._notes))
        return ReadResult(interactions, self.n_rows, self.n_bad, self._bad.sample(self.row_word), self._chosen, notes)

    def _flush(self) -> None:
        """Check and encode the collected blocks."""
        gathered, self._gathered = self._gathered, []
        self._gathered_rows = self._gathered_bytes = 0
        if not gathered:
            return
        columns = {role: chunked([block.picked[i] for block in gathered]) for i, role in enumerate(self._names)}
        negative = None
        try:
            users, user_words, bad_users = self._ids[0].read(columns["user"])
            items, item_words, bad_items = self._ids[1].read(columns["item"])
            bad = {"user": bad_users, "item": bad_items}
            if "rating" in columns:
                scores, bad["rating"], negative = read_scores(columns["rating"], self._names["rating"])
            elif "event" in columns:
                scores, bad["event"] = weigh(columns["event"], self.columns.event_weights or {})
            else:
                scores = np.ones(users.size, np.float32)
            if self._times is not None:
                times, counted, bad["timestamp"] = self._times.read(columns["timestamp"])
        except InputError as error:
            raise InputError(f"{self._place()}{error}") from None
        except pa.ArrowException as error:
            raise InputError(f"{self._place()}Values can't be read: {one_line(error)}") from None
        marks = {role: mask for role, mask in bad.items() if mask is not None}
        good = self._leave_out(marks, negative, scores, columns, gathered)
        if self._bad.n_refused:
            return  # Further bad rows are only counted.
        self._ids[0].keep(users, user_words, good)
        self._ids[1].keep(items, item_words, good)
        self._scores.append(scores if good is None else scores[good])
        if self._times is not None:
            self._times.keep(times, counted, good)

    def _leave_out(
        self,
        marks: dict[str, NDArray[np.bool_]],
        negative: NDArray[np.bool_] | None,
        scores: NDArray[np.float32],
        columns: dict[str, pa.ChunkedArray],
        gathered: list[Block],
    ) -> NDArray[np.bool_] | None:
        """Count the bad rows and take a sample of them; which rows are good (None: all)."""
        if not marks and negative is None:
            return None
        wrong = np.logical_or.reduce([*marks.values(), np.zeros(scores.size, bool)])
        self._count(wrong, marks, self.on_bad_rows, columns, gathered)
        if negative is not None:
            negative = negative & ~wrong
            on_negative = self.columns.on_negative or self.on_bad_rows
            if on_negative == "zero":
                scores[negative] = 0
            else:
                self._count(negative, {"rating": negative}, on_negative, columns, gathered)
                wrong = wrong | negative
        return ~wrong if wrong.any() else None

    def _count(
        self,
        wrong: NDArray[np.bool_],
        marks: dict[str, NDArray[np.bool_]],
        how: str,
        columns: dict[str, pa.ChunkedArray],
        gathered: list[Block],
    ) -> None:
        refused = how == "error"
        self._bad.count(int(np.count_nonzero(wrong)), refused)
        start = 0
        for block in gathered:
            end = start + len(block.picked[0])
            rows = start + np.flatnonzero(wrong[start:end])[: self._bad.room(refused)]
            if rows.size:
                for row, number in zip(rows.tolist(), block.numbering(rows - start).tolist(), strict=True):
                    values = {role: python_value(column[row]) for role, column in columns.items()}
                    role = next(role for role, mask in marks.items() if mask[row])
                    why = reason(role, self._names[role], values[role])
                    fault = "time" if role == "timestamp" else "negative" if why.endswith("below 0") else ""
                    self._bad.take(BadRow(number, values, why, fault, block.file), refused)
            start = end

    def _drop_late(self, x: Interactions, late: NDArray[np.bool_]) -> None:
        refused = self.on_bad_rows == "error"
        for row in np.flatnonzero(late)[: self._bad.room(refused)]:
            values = {
                "user": x.user_ids.values[x.users[row]].item(),
                "item": x.item_ids.values[x.items[row]].item(),
                "rating": x.scores[row].item(),
            }
            why = f"{self._names['timestamp']} is outside the years 1 to 9999"
            self._bad.take(BadRow(None, values, why, "time"), refused)
        self._bad.count(int(np.count_nonzero(late)), refused)

    def _place(self) -> str:
        where = self._file[1] or self.where
        return f"{where}: " if where else ""
