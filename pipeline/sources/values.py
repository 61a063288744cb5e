"""Arrow columns → scores and times, with a mark on each value that can't be used.

Every function takes a whole `pyarrow.ChunkedArray` and works on all of its values at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["TimeColumn", "check_codes", "is_text", "plain", "read_scores", "to_numpy"]

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_DATE = (
    r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-9]))"
)
_CLOCK = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_UNZONED = f"^{_DATE}(?:[T ]{_CLOCK})?$"
_ZONED = f"^{_DATE}[T ]{_CLOCK}{_ZONE}$"

# Milliseconds of 0001-01-01T00:00:00.000 and 9999-12-31T23:59:59.999.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999
# A number from 1e11 on would be a second of the year 5138: it counts milliseconds, and so on up.
_UNITS = ((0, 1, 1000), (10**11, 1, 1), (10**14, 1000, 1), (10**17, 1_000_000, 1))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of the type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def check_codes(column: pa.ChunkedArray) -> None:
    """Raise InputError where a code of a dictionary column points past its dictionary: Arrow would read on there."""
    for chunk in column.chunks:
        found = pc.min_max(chunk.indices).as_py()
        if found["max"] is not None and not 0 <= found["min"] <= found["max"] < len(chunk.dictionary):
            raise InputError("Codes of a dictionary have no value in it: the data is damaged, make or fetch it again")


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionary or extension type. Raises InputError as `check_codes`."""
    while isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([c.storage for c in column.chunks], type=column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        check_codes(column)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def to_numpy(column: pa.ChunkedArray, fill: Any = 0) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """The values, (n,), and which of them are null (None: not one); `fill` stands where they are."""
    if not column.null_count:
        return column.to_numpy(), None
    return pc.fill_null(column, pa.scalar(fill, column.type)).to_numpy(), column.is_null().to_numpy()


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as float64; null where it is no number in decimal notation."""
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text.cast(pa.large_string()))
        fits = pc.match_substring_regex(text, _NUMBER)
        return pc.if_else(fits, text, pa.scalar(None, text.type)).cast(pa.float64())


def read_scores(column: pa.ChunkedArray, name: str = "rating") -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Scores, (n,) float32, and which can't be used: null, not a number, not finite, or below zero.

    Any integer, floating or decimal type, and text. Raises InputError for other types.
    """
    column = plain(column)
    kind = column.type
    if is_text(kind):
        column = _numbers(column)
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"Column {name!r} holds {kind}, and scores are numbers: cast it to a number")
    with np.errstate(over="ignore"):
        values, null = to_numpy(column, 0.0 if pa.types.is_floating(column.type) else 0)
        # Adding 0 makes a new array, and 0 of -0: equal data then has equal bytes.
        scores = values.astype(np.float32) + np.float32(0)
    if null is not None:
        scores[null] = np.nan
    # min and max carry NaN, so clean blocks need no array of flags.
    if not scores.size or (scores.min() >= 0 and scores.max() < np.inf):
        return scores, None
    return scores, ~((scores >= 0) & (scores < np.inf))


class TimeColumn:
    """Times of any form → (n,) datetime64[ms] in UTC, built block by block.

    Understood are Arrow timestamps (any unit; a zone is applied, none means UTC) and dates, ISO 8601
    text, and numbers, in text too, since 1970-01-01: seconds, or milliseconds (from 1e11 on),
    microseconds (from 1e14 on) or nanoseconds (from 1e17 on). The unit is one for the whole column:
    the one that most of its numbers other than 0 have. Parts of a millisecond are cut off.
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[NDArray[Any], NDArray[np.bool_] | bool]] = []
        self._votes = np.zeros(len(_UNITS), np.int64)

    def read(
        self, column: pa.ChunkedArray, name: str = "timestamp"
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None]:
        """``(values, counted, bad)``, each (n,): milliseconds, or where `counted` numbers whose unit is open."""
        column = plain(column)
        kind = column.type
        if pa.types.is_timestamp(kind):
            values, bad = to_numpy(column.cast(pa.int64()))
            factor, divisor = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}[kind.unit]
            values, wrong = _milliseconds(values, divisor, factor)
            return values, False, _either(bad, wrong)
        if pa.types.is_date(kind):
            return self.read(column.cast(pa.timestamp("s" if pa.types.is_date32(kind) else "ms")), name)
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
        raise InputError(f"Column {name!r} holds {kind}, and a time is a timestamp, a date, ISO text or a number")

    def _read_text(
        self, column: pa.ChunkedArray
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | bool, NDArray[np.bool_] | None]:
        column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                return self.read(column.cast(kind))
            except pa.ArrowInvalid:
                continue
        nothing = pa.scalar(None, column.type)
        counted = pc.fill_null(pc.match_substring_regex(column, _NUMBER), False)
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

    def keep(self, values: NDArray[Any], counted: NDArray[np.bool_] | bool, good: NDArray[np.bool_] | None) -> None:
        """Take the good rows of what `read` gave."""
        if good is not None:
            values = values[good]
            counted = counted if isinstance(counted, bool) else counted[good]
        if isinstance(counted, np.ndarray) and not counted.any():
            counted = False
        if counted is not False:
            size = np.abs(values if counted is True else values[counted])
            bounds = np.array([unit[0] for unit in _UNITS[1:]], size.dtype)
            # Smallest and largest share a unit in nearly every block.
            if size.size and size.min() > 0 and _unit(size.min(), bounds) == _unit(size.max(), bounds):
                self._votes[_unit(size.min(), bounds)] += size.size
            else:
                size = size[size != 0]
                self._votes += np.bincount(np.searchsorted(bounds, size, side="right"), minlength=len(_UNITS))
        self._chunks.append((values, counted))

    def finish(self) -> tuple[NDArray[np.datetime64], NDArray[np.bool_] | None]:
        """All times, (n,), and which lie outside the years 1 to 9999 now that the unit is known."""
        _, divisor, factor = _UNITS[int(self._votes.argmax())]
        times = np.empty(sum(values.size for values, _ in self._chunks), np.int64)
        bad: NDArray[np.bool_] | None = None
        start = 0
        self._chunks.reverse()
        while self._chunks:
            values, counted = self._chunks.pop()
            end = start + values.size
            if counted is False:
                times[start:end] = values
            else:
                converted, wrong = _milliseconds(values, divisor, factor)
                if counted is not True:
                    converted = np.where(counted, converted, values).astype(np.int64)
                    wrong = None if wrong is None else wrong & counted
                times[start:end] = converted
                if wrong is not None:
                    bad = np.zeros(times.size, bool) if bad is None else bad
                    bad[start:end] = wrong
            start = end
        return times.view("datetime64[ms]"), bad


def _unit(size: Any, bounds: NDArray[Any]) -> int:
    return int(np.searchsorted(bounds, size, side="right"))


def _either(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return b if a is None else a if b is None else a | b


def _milliseconds(
    values: NDArray[Any], divisor: int, factor: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """``values · factor / divisor`` rounded down, and which pass the years 1 to 9999 (0 stands there)."""
    low, high = _FIRST * divisor // factor, _LAST * divisor // factor
    wrong = None
    if values.size and not (values.min() >= low and values.max() <= high):
        wrong = ~((values >= low) & (values <= high))
        values = np.where(wrong, 0, values)
    if values.dtype.kind == "f":
        return np.floor(values * factor / divisor).astype(np.int64), wrong
    if divisor > 1:
        return values // divisor, wrong
    return values * factor if factor > 1 else values, wrong


def _no_such_day(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which texts start with February 29 of a year that has none."""
    leap_day = pc.match_substring_regex(text, r"^[0-9]{4}-02-29")
    if not pc.any(leap_day).as_py():
        return leap_day
    years = pc.if_else(leap_day, pc.utf8_slice_codeunits(text, 0, 4), pa.scalar("2000", text.type))
    year, _ = to_numpy(years.cast(pa.int64()), 2000)
    common = (year % 4 != 0) | ((year % 100 == 0) & (year % 400 != 0))
    return pa.chunked_array([pa.array(common)])
