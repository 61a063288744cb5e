"""What the columns of raw.ratings and raw.watched_movies can hold. What they can't is refused before it is stored."""

from __future__ import annotations

import json
import math
import re
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache

from pipeline.errors import InputError, InvalidInteractionError
from pipeline.interaction_log.events import Interaction

__all__ = ["AHEAD_MS", "Columns", "Row", "as_id"]

# user, item, rating, milliseconds since 1970 (None: not given)
Row = tuple[int | str, int | str, float | None, int | None]

_LONGEST = 256  # characters of an id, as in training
_INTEGER = re.compile(r"(U?)Int(8|16|32|64)")
_FIXED = re.compile(r"FixedString\((\d+)\)")
_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
# An integer as Python prints it.
_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,18}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# DateTime64(3): the days that ClickHouse has.
_FIRST_MS, _LAST_MS = -2_208_988_800_000, 10_413_791_999_999
# Clocks may differ by as much. A later time would make a rating the latest for years.
AHEAD_MS = 24 * 3600 * 1000
_SHOWN = 60


@dataclass(frozen=True)
class Columns:
    """The types of the columns, as ClickHouse names them. The defaults are those of `sql/ddl`.

    Raises InputError for a type that is none of an id or a rating.
    """

    user: str = "Int64"
    item: str = "Int64"
    rating: str = "Float32"

    def __post_init__(self) -> None:
        for name in ("user", "item"):
            if not _is_id_type(plain(getattr(self, name))):
                raise InputError(
                    f"Ids of {name}s are {getattr(self, name)} in the warehouse's raw tables; the interaction log "
                    "takes integers up to 64 bits, String, FixedString and UUID"
                )
        if not (plain(self.rating) in ("Float32", "Float64") or _INTEGER.fullmatch(plain(self.rating))):
            raise InputError(
                f"Ratings are {self.rating} in raw.ratings; the interaction log takes Float32, Float64 and integers"
            )

    @property
    def text(self) -> str:
        """The types as one text, for `parse`."""
        return json.dumps({entry.name: getattr(self, entry.name) for entry in fields(self)})

    @classmethod
    def parse(cls, text: str) -> Columns:
        """The types of `text`."""
        return cls(**json.loads(text))

    def rows(self, interactions: Sequence[Interaction], latest_ms: int | None = None) -> list[Row]:
        """The interactions as the columns hold them: ids of the column's kind, ratings rounded, times in ms.

        latest_ms : the latest time that is taken; default, the column's

        Raises InvalidInteractionError for the first that a column can't hold, or that is later.
        """
        last = _LAST_MS if latest_ms is None else min(latest_ms, _LAST_MS)
        rows = []
        for position, (user, item, rating, at, *_) in enumerate(interactions):
            try:
                rows.append(
                    (
                        as_id("user", user, self.user),
                        as_id("item", item, self.item),
                        None if rating is None else _as_rating(rating, self.rating),
                        None if at is None else _as_ms(at, last),
                    )
                )
            except ValueError as error:
                where = f"Interaction {position}: " if len(interactions) > 1 else ""
                raise InvalidInteractionError(f"{where}{error}", position) from None
        return rows


@cache
def plain(kind: str) -> str:
    """A type's name without Nullable and LowCardinality."""
    while match := _WRAPPED.fullmatch(kind):
        kind = match[1]
    return kind


def _is_id_type(kind: str) -> bool:
    return kind in ("String", "UUID") or bool(_INTEGER.fullmatch(kind) or _FIXED.fullmatch(kind))


def as_id(name: str, value: object, kind: str) -> int | str:
    """The id as a column of the type holds it: ``"912"`` is 912 in a column of integers, and 912 is ``"912"`` in text.

    Raises ValueError where the column can't hold it, or it is not certain which id is meant (``"007"``).
    """
    kind = plain(kind)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{name}_id must be an integer or text, got {type(value).__name__}")
    if (bounds := _bounds(kind)) is not None:
        return _as_integer(name, value, kind, *bounds)
    text = str(value)
    if not text or len(text) > _LONGEST or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name}_id must be text of 1 to {_LONGEST} characters")
    if kind == "UUID":
        try:
            written = str(uuid.UUID(text))
        except ValueError:
            written = ""
        if written != text:
            raise ValueError(f"{name}_id {_short(value)} is no UUID in lower case, as the warehouse's column shows it")
    if (match := _FIXED.fullmatch(kind)) and len(text.encode()) != int(match[1]):
        raise ValueError(f"{name}_id {_short(value)} has not the {match[1]} bytes that the warehouse's column holds")
    return text


@cache
def _bounds(kind: str) -> tuple[int, int] | None:
    """The smallest and the largest id in a column of integers; None for another column."""
    match = _INTEGER.fullmatch(kind)
    if match is None:
        return None
    # Of unsigned 64 bits, too, the models take only what fits in signed ones.
    bits = int(match[2])
    return (0, 2 ** min(bits, 63) - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _as_integer(name: str, value: int | str, kind: str, low: int, high: int) -> int:
    if isinstance(value, str):
        if not _DIGITS.fullmatch(value):
            raise ValueError(f"{name}_id {_short(value)} is text, and the warehouse's column holds integers ({kind})")
        value = int(value)
    if not low <= value <= high:
        raise ValueError(f"{name}_id {_short(value)} does not fit in the warehouse's column ({kind})")
    return value


def _as_rating(value: object, kind: str) -> float:
    """The rating as the column rounds it."""
    kind = plain(kind)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"rating must be a number, got {type(value).__name__}")
    try:
        rating = float(value)
        if kind == "Float32":
            rating = struct.unpack("f", struct.pack("f", rating))[0]
    except OverflowError:
        raise ValueError(f"rating {value!r} does not fit in the warehouse's column ({kind})") from None
    if not (math.isfinite(rating) and rating >= 0):
        raise ValueError(f"rating must be a number from 0, got {value!r}")
    # From 2 ** 53 on not every integer is a float.
    if (bounds := _bounds(kind)) is not None and (rating != int(rating) or rating > min(bounds[1], 2**53)):
        raise ValueError(f"rating {value!r} does not fit in the warehouse's column ({kind})")
    return rating


def _as_ms(at: object, last: int) -> int:
    if not isinstance(at, datetime):
        raise ValueError(f"at must be a time, got {type(at).__name__}")
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    ms = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    if not _FIRST_MS <= ms <= _LAST_MS:
        raise ValueError("at must be a time from 1900 to 2299, which the warehouse's column holds")
    if ms > last:
        raise ValueError("at has not come yet: it is more than a day from now")
    return ms


def _short(value: int | str) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + "…'"
