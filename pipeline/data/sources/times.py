"""Times of any form → (n,) datetime64[ms] in UTC, built block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.sources.time_numbers import (
    UNITS,
    Lookalikes,
    own_milliseconds,
    to_milliseconds,
    unit_of,
    unit_of_word,
)
from pipeline.data.sources.values import NUMBER, is_text, plain, to_numpy
from pipeline.errors import InputError

__all__ = ["TimeColumn"]

_DATE = (
    r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-9]))"
)
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_UNZONED = f"^{_DATE}(?:[T ]{_CLOCK})?$"
_ZONED = f"^{_DATE}[T ]{_CLOCK}{_ZONE}$"


class TimeColumn:
    """Times of any form → (n,) datetime64[ms] in UTC, built block by block.

    Understood are Arrow timestamps (any unit; a zone is applied, none means UTC) and dates, ISO 8601
    text (``UTC`` and ``GMT`` may stand for its Z), and numbers, in text too, since 1970-01-01: seconds, or
    milliseconds (from 1e11 on), microseconds (from 1e14 on) or nanoseconds (from 1e17 on). The unit is that of most
    of the column's numbers other than 0; a number of another unit is read in its own where that is a time from 1980
    to 2099, and `note` says how many there are. Parts of a millisecond are cut off.

    Numbers that all look like years, days and the like are refused at the end.

    Parameters
    ----------
    name : the column's name, for messages
    form : how the times are written, instead: a pattern of strptime, or the unit of its numbers as a word
    chunks : an empty list, or what takes its place, for the values of the blocks
    """

    def __init__(self, name: str = "timestamp", form: str | None = None, chunks: Any = None) -> None:
        self.name = name
        self.pattern = form if form is not None and "%" in form else None
        self.unit = unit_of_word(form) if form is not None and self.pattern is None else None
        self.note = ""
        self._lookalikes = Lookalikes() if form is None else None
        self._chunks: Any = [] if chunks is None else chunks
        self._counted: list[NDArray[np.bool_] | bool] = []  # of each block, which of its values are numbers
        self._votes = np.zeros(len(UNITS), np.int64)

    def read(self, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None]:
        """``(values, counted, bad)``, each (n,): milliseconds, or where `counted` numbers whose unit is open."""
        column = plain(column)
        kind = column.type
        if pa.types.is_timestamp(kind):
            values, bad = to_numpy(column.cast(pa.int64()))
            factor, divisor = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}[kind.unit]
            values, wrong = to_milliseconds(values, divisor, factor)
            return values, False, _either(bad, wrong)
        if pa.types.is_date(kind):
            return self.read(column.cast(pa.timestamp("s" if pa.types.is_date32(kind) else "ms")))
        if self.pattern is not None and not pa.types.is_null(kind):
            return self._read_pattern(column, self.pattern)
        if pa.types.is_integer(kind):
            if pa.types.is_uint64(kind):
                column = pc.if_else(pc.less(column, pa.scalar(2**63, kind)), column, pa.scalar(None, kind))
            values, bad = to_numpy(column.cast(pa.int64()))
            return values, True, bad
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
            values, bad = to_numpy(column.cast(pa.float64()), np.nan)
            finite = np.isfinite(values)
            return values, True, None if finite.all() else ~finite
        if is_text(kind):
            return self._read_text(column)
        raise InputError(
            f"Column {self.name!r} holds {kind}, and a time is a timestamp, a date, ISO text or a number: "
            "cast it, or leave it out (--timestamp-column off)"
        )

    def _read_pattern(
        self, column: pa.ChunkedArray, pattern: str
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None]:
        import pandas as pd  # slow to import, and few need it

        if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
            whole = pc.equal(pc.floor(column), column)
            column = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64(), safe=False)
        words = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
        if isinstance(words, pa.ChunkedArray):
            words = words.unify_dictionaries().combine_chunks()
        texts = pc.utf8_trim_whitespace(words.dictionary)
        if "." not in pattern:  # 20200105.0 is how a column of numbers with a gap leaves pandas
            texts = pc.replace_substring_regex(texts, r"^([0-9]+)\.0+$", r"\1")
        texts = texts.to_pandas().astype(object)
        times = pd.to_datetime(texts, format=pattern, errors="coerce", utc=True).dt.tz_localize(None)
        moments = np.append(times.to_numpy("datetime64[ms]"), np.datetime64("NaT"))
        codes = pc.fill_null(words.indices, -1).to_numpy(zero_copy_only=False)
        values = moments[codes]
        bad = np.isnat(values)
        return np.where(bad, 0, values.astype(np.int64)), False, bad if bad.any() else None

    def _read_text(
        self, column: pa.ChunkedArray
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None]:
        column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        if (read := self._cast_text(column)) is not None:
            return read
        # "2019-10-01 00:00:00 UTC", and blanks before an offset.
        column = pc.replace_substring_regex(column, r"[ \t]*(?:UTC|GMT|Z)$", "Z")
        column = pc.replace_substring_regex(column, r"(:[0-9.]+)[ \t]+([+-][0-9]{2}:?[0-9]{2})$", r"\1\2")
        if (read := self._cast_text(column)) is not None:
            return read
        nothing = pa.scalar(None, column.type)
        counted = pc.fill_null(pc.match_substring_regex(column, NUMBER), False)
        numbers = pc.if_else(counted, column, nothing).cast(pa.float64())
        # The parser takes six decimals and no more; 02-29 of a common year is left for it to refuse.
        column = pc.replace_substring_regex(column, r"(\.[0-9]{6})[0-9]+", r"\1")
        column = pc.if_else(_no_such_day(column), nothing, column)
        unzoned = pc.if_else(pc.match_substring_regex(column, _UNZONED), column, nothing)
        zoned = pc.if_else(pc.match_substring_regex(column, _ZONED), column, nothing)
        instants = pc.coalesce(
            unzoned.cast(pa.timestamp("us")), zoned.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
        )
        values, _, bad = self.read(instants)
        mask = counted.to_numpy()
        numeric, _, wrong = self.read(numbers)
        if mask.any():
            # Numbers below 2^53 keep every digit, which is more than any time in milliseconds has.
            values = np.where(mask, numeric, values)
        none = np.zeros(mask.size, bool)
        return values, mask, np.where(mask, none if wrong is None else wrong, none if bad is None else bad)

    def _cast_text(
        self, column: pa.ChunkedArray
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None] | None:
        """The whole column as numbers or times of one form; None if it is not all of one."""
        for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                return self.read(column.cast(kind))
            except pa.ArrowInvalid:
                continue
        return None

    def keep(self, values: NDArray[Any], counted: NDArray[np.bool_] | bool, good: NDArray[np.bool_] | None) -> None:
        """Take the good rows of what `read` gave."""
        if good is not None:
            values = values[good]
            counted = counted if isinstance(counted, bool) else counted[good]
        if isinstance(counted, np.ndarray) and not counted.any():
            counted = False
        if counted is not False:
            numbers = values if counted is True else values[counted]
            size = np.abs(numbers)
            bounds = np.array([unit[0] for unit in UNITS[1:]], size.dtype)
            # Smallest and largest share a unit in nearly every block.
            if size.size and size.min() > 0 and unit_of(size.min(), bounds) == unit_of(size.max(), bounds):
                self._votes[unit_of(size.min(), bounds)] += size.size
            else:
                size = size[size != 0]
                self._votes += np.bincount(np.searchsorted(bounds, size, side="right"), minlength=len(UNITS))
            if self._lookalikes is not None:
                self._lookalikes.see(numbers)
        self._chunks.append(values)
        self._counted.append(counted)

    def next_file(self) -> None:
        """Go on with another file. Raises InputError where the numbers of this one look like years and the like."""
        if self._lookalikes is not None:
            self._lookalikes.refuse(self.name)
            self._lookalikes = Lookalikes()

    def finish(self) -> tuple[NDArray[np.datetime64], NDArray[np.bool_] | None]:
        """All times, (n,), and which lie outside the years 1 to 9999 now that the unit is known.

        Raises InputError where the numbers look like years, days and the like.
        """
        n = sum(np.size(values) for values in self._chunks)
        times = np.empty(n, np.int64)
        bad: NDArray[np.bool_] | None = None
        start = 0
        for number, (some, wrong) in enumerate(self.by_chunk()):
            self._chunks[number] = np.zeros(0, np.int64)  # let go of it
            end = start + some.size
            times[start:end] = some
            if wrong is not None:
                bad = np.zeros(n, bool) if bad is None else bad
                bad[start:end] = wrong
            start = end
        return times.view("datetime64[ms]"), bad

    def by_chunk(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
        """The same, as milliseconds, a block at a time. Raises as `finish`."""
        if self._lookalikes is not None:
            self._lookalikes.refuse(self.name)
        position = int(self._votes.argmax())
        _, divisor, factor = self.unit or UNITS[position]
        mixed = self.unit is None and np.count_nonzero(self._votes) > 1
        n_others = 0
        for values, counted in zip(self._chunks, self._counted, strict=True):
            if counted is False:
                yield values, None
                continue
            converted, wrong = to_milliseconds(values, divisor, factor)
            if mixed:
                own, others = own_milliseconds(values, position)
                others &= counted
                n_others += int(np.count_nonzero(others))
                converted = np.where(others, own, converted)
                wrong = None if wrong is None else wrong & ~others
            if counted is not True:
                converted = np.where(counted, converted, values).astype(np.int64)
                wrong = None if wrong is None else wrong & counted
            yield converted, wrong
        if n_others:
            self.note = (
                f"column `{self.name}` mixes units of time, such as seconds and milliseconds: {n_others:,} of "
                f"{int(self._votes.sum()):,} numbers are read in another unit than most; look at its source"
            )


def _either(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return b if a is None else a if b is None else a | b


def _no_such_day(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which texts start with February 29 of a year that has none."""
    leap_day = pc.match_substring_regex(text, r"^[0-9]{4}-02-29")
    if not pc.any(leap_day).as_py():
        return leap_day
    years = pc.if_else(leap_day, pc.utf8_slice_codeunits(text, 0, 4), pa.scalar("2000", text.type))
    year, _ = to_numpy(years.cast(pa.int64()), 2000)
    common = (year % 4 != 0) | ((year % 100 == 0) & (year % 400 != 0))
    return pa.chunked_array([pa.array(common)])
