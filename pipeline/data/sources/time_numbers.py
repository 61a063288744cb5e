"""Numbers as times: their unit, and numbers that are no count of seconds but look like years or days."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["UNITS", "Lookalikes", "own_milliseconds", "to_milliseconds", "unit_of", "unit_of_word"]

# Milliseconds of 0001-01-01T00:00:00.000 and 9999-12-31T23:59:59.999.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999
# A number from 1e11 on would be a second of the year 5138: it counts milliseconds, and so on up.
# (the smallest number, divisor and factor to milliseconds)
UNITS = ((0, 1, 1000), (10**11, 1, 1), (10**14, 1000, 1), (10**17, 1_000_000, 1))
_DAYS = (0, 1, 86_400_000)
_WORDS = {
    "seconds": UNITS[0],
    "milliseconds": UNITS[1],
    "microseconds": UNITS[2],
    "nanoseconds": UNITS[3],
    "days": _DAYS,
}
# Milliseconds of 1980-01-01 and 2100-01-01: a time in between is one that people and programs write today.
_PLAUSIBLE = (315_532_800_000, 4_102_444_800_000)


def unit_of_word(word: str) -> tuple[int, int, int]:
    """The unit that a word names, as in `UNITS`."""
    return _WORDS[word]


def unit_of(size: Any, bounds: NDArray[Any]) -> int:
    """Position in `UNITS` of a number's unit; `bounds` are the smallest numbers of the units after the first."""
    return int(np.searchsorted(bounds, size, side="right"))


def to_milliseconds(
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


def own_milliseconds(values: NDArray[Any], usual: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each number in its own unit, and which are a plausible time in a unit other than `usual`."""
    bounds = np.array([unit[0] for unit in UNITS[1:]], values.dtype)
    units = np.searchsorted(bounds, np.abs(values), side="right")
    milliseconds = np.zeros(values.size, np.int64)
    others = np.zeros(values.size, bool)
    for position, (_, divisor, factor) in enumerate(UNITS):
        if position != usual and (mask := units == position).any():
            milliseconds[mask], wrong = to_milliseconds(values[mask], divisor, factor)
            others[mask] = True if wrong is None else ~wrong
    return milliseconds, others & (milliseconds >= _PLAUSIBLE[0]) & (milliseconds < _PLAUSIBLE[1])


# What numbers may be that are no count: in words, what --time-format calls it, the smallest, the largest, and the
# number of digits after the year (None: a number may have a fraction).
_FORMS: tuple[tuple[str, str, int, int, int | None], ...] = (
    ("years", "%Y", 1900, 2100, 0),
    ("months as yyyymm", "%Y%m", 190001, 210012, 2),
    ("days as yyyymmdd", "%Y%m%d", 19000101, 21001231, 4),
    ("times as yyyymmddHHMM", "%Y%m%d%H%M", 190001010000, 210012312359, 8),
    ("times as yyyymmddHHMMSS", "%Y%m%d%H%M%S", 19000101000000, 21001231235959, 10),
    ("days of a spreadsheet, counted from 1899-12-30", "", 32874, 73050, None),
    ("days since 1970", "days", 7000, 47500, None),
)
# Largest values of month, day, hour, minute and second; a month and a day begin at 1.
_LARGEST = ((1, 12), (1, 31), (0, 23), (0, 59), (0, 59))


class Lookalikes:
    """Watches the numbers of a column: do all of them look like years, days or the like?

    As counts of seconds they would lie within months of 1970-01-01, all of them.
    """

    def __init__(self) -> None:
        self._left = list(_FORMS)
        self._example: int | None = None

    def see(self, numbers: NDArray[Any]) -> None:
        """Look at more of the column's numbers; 0 stands for a missing time and is passed over."""
        if not self._left or not numbers.size:
            return
        low, high = numbers.min(), numbers.max()
        if low == 0:
            numbers = numbers[numbers != 0]
            if not numbers.size:
                return
            low = numbers.min()
        self._left = [form for form in self._left if form[2] <= low and high <= form[3] and _fits(numbers, form[4])]
        if self._left and self._example is None:
            self._example = int(numbers[0])

    def refuse(self, name: str) -> None:
        """Raise InputError, with the way out, where all numbers had one of the forms."""
        if not self._left or self._example is None:
            return
        words, form, *_ = self._left[0]
        unit = "seconds" if self._example < UNITS[1][0] else "milliseconds"
        way = (
            f"Say how they are written: --time-format {form}, or {unit}; in a query, make them a time"
            if form
            else f"Write them as dates such as 2020-12-31; --time-format {unit}, if that is what they are"
        )
        raise InputError(
            f"Column {name!r} holds numbers such as {self._example}, which look like {words}, and not like "
            f"{unit} since 1970. {way}. --timestamp-column off does without"
        )


def _fits(numbers: NDArray[Any], digits: int | None) -> bool:
    """Whether the last digits of all numbers are a month, a day, an hour and so on, two digits each."""
    if digits is None:
        return True
    rest = numbers.astype(np.int64)
    if numbers.dtype.kind == "f" and not np.array_equal(rest, numbers):
        return False
    for low, high in reversed(_LARGEST[: digits // 2]):
        part = rest % 100
        if not (part.min() >= low and part.max() <= high):
            return False
        rest //= 100
    return True
