"""Bad rows: how many there are, a sample of them, and why each is bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.id_map import MAX_ID_LENGTH
from pipeline.data.sources.columns import ROLES
from pipeline.errors import BadRowsError

__all__ = ["SAMPLE_ROWS", "BadRow", "BadRows", "reason"]

SAMPLE_ROWS = 1000
_SHOWN = 5
_LONGEST_TEXT = 100
_NAMES = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp", "event": "event"}


class BadRow(NamedTuple):
    """One bad row.

    Attributes
    ----------
    number : of the row or line in its file; None if only its key is known
    values : by role
    fault : a short word for the kind of fault: ``negative``, ``time`` or ""
    file : position of its file among several, and the file's name; the name is "" where there is but one
    """

    number: int | None
    values: dict[str, Any]
    reason: str
    fault: str = ""
    file: tuple[int, str] = (0, "")

    def as_json(self, row_word: str) -> dict[str, Any]:
        """For a JSON file."""
        roles = [role for role in ROLES if role != "event" or role in self.values]
        row = {row_word: self.number, **{_NAMES[role]: _text(self.values.get(role)) for role in roles}}
        return {**row, "reason": self.reason, **({"file": self.file[1]} if self.file[1] else {})}

    def in_words(self, row_word: str) -> str:
        """Where it is, and why it is bad."""
        key = f"user {_text(self.values.get('user'))}, item {_text(self.values.get('item'))}"
        place = key if self.number is None else f"{row_word} {self.number}"
        return f"{self.file[1]}{' ' if self.file[1] else ''}{place} ({self.reason})"


class BadRows:
    """Counts rows that are refused, which stop the read at its end, and rows that are left out."""

    def __init__(self) -> None:
        self.n_refused = self.n_left_out = 0
        self._samples: dict[bool, list[BadRow]] = {True: [], False: []}

    def __len__(self) -> int:
        return self.n_refused + self.n_left_out

    def count(self, n: int, refused: bool) -> None:
        """Count `n` rows."""
        self.n_refused += n * refused
        self.n_left_out += n * (not refused)

    def room(self, refused: bool) -> int:
        """How many more rows the sample takes."""
        return max(SAMPLE_ROWS - len(self._samples[refused]), 0)

    def take(self, row: BadRow, refused: bool) -> None:
        """Add a row to the sample."""
        self._samples[refused].append(row)

    def sample(self, row_word: str) -> list[dict[str, Any]]:
        """The first rows that were left out."""
        return [row.as_json(row_word) for row in sorted(self._samples[False], key=_place)]

    def raise_refused(self, n_rows: int, where: str, row_word: str) -> None:
        """Raise BadRowsError with the first refused rows, if there are any."""
        if not self.n_refused:
            return
        first = sorted(self._samples[True], key=_place)
        shown = ", ".join(row.in_words(row_word) for row in first[:_SHOWN])
        more = ", …" if self.n_refused > _SHOWN else ""
        faults = {row.fault for row in first}
        option = "--on-negative" if faults == {"negative"} else "--on-bad-rows"
        advice = f"Correct them, or {option} drop leaves them out."
        if "negative" in faults:
            advice += " --on-negative zero keeps scores below 0 as seen without a score."
        if "time" in faults:
            advice += " --time-format says how times are written, and --timestamp-column off does without."
        place = f"{where}: " if where else ""
        raise BadRowsError(f"{place}{self.n_refused} of {n_rows} rows can't be used: {shown}{more}. {advice}")


def _place(row: BadRow) -> tuple[int, float]:
    return row.file[0], float("inf") if row.number is None else row.number


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _quoted(value: Any) -> str:
    return ascii((_text(value) or "")[:40]) if isinstance(value, str | bytes) else str(value)


def _why_id(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "is missing"
    text = value.decode(errors="replace").strip() if isinstance(value, bytes) else str(value).strip()
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds a NUL character"
    if isinstance(value, bytes) and "\ufffd" in text:
        return "is not UTF-8"
    if len(text) <= MAX_ID_LENGTH:
        return f"is missing ({_quoted(text)} stands there)"
    return f"is longer than {MAX_ID_LENGTH} characters"


def _why_score(value: Any) -> str:
    if value is None or value == "":
        return "is missing"
    try:
        number = float(value)
    except ValueError:
        return f"{_quoted(value)} is not a number"
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # 1_000 is a number in Python alone
        return f"{_quoted(value)} is not a number"
    if number < 0 and number != -np.inf:
        return f"{_quoted(value)} is below 0"
    return f"{_quoted(value)} is not finite"


def _why_time(value: Any) -> str:
    if value is None or value == "":
        return "is missing"
    return f"{_quoted(value)} is not a time"


def _why_event(value: Any) -> str:
    if value is None or value == "":
        return "is missing"
    return f"{_quoted(value)} has no weight in --event-weights"


_WHY: dict[str, Callable[[Any], str]] = {
    "user": _why_id,
    "item": _why_id,
    "rating": _why_score,
    "timestamp": _why_time,
    "event": _why_event,
}


def reason(role: str, name: str, value: Any) -> str:
    """Why the value of a role, in the column of that name, is bad."""
    return f"{name} {_WHY[role](value)}"
