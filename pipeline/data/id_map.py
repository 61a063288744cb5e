"""`IdMap` maps external ids to rows and back; `distinct` sorts ids, or rows, each once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError, RowRangeError

__all__ = ["MAX_ID_LENGTH", "IdMap", "as_ids", "distinct"]

# A numpy string array gives every id the width of the longest. The bound keeps one hostile id from using up the memory.
MAX_ID_LENGTH = 256


def as_ids(values: ArrayLike) -> NDArray[Any]:
    """The ids as an int64 or str array of shape (n,): all integers or all text, in whatever holds them.

    Raises InputError for floats, missing values or any other type: it is not guessed whether an id
    means 1.0 or "1".
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"Ids must be one-dimensional, got shape {array.shape}")
    if array.size == 0:
        return array if array.dtype.kind == "U" else array.astype(np.int64)
    if array.dtype.kind == "O":
        array = _of_objects(array.tolist())
    elif isinstance(values, (list, tuple)) and array.dtype.kind in "Ui":
        # numpy makes text of 1 beside "a", and 1 of True.
        array = _of_objects(values)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
            raise InputError("Integer ids must fit in 64 signed bits; pass larger ones as strings")
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "T":
        return array.astype(str)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "f" and np.isnan(array).any():
        # A column of integers with a gap, as pandas has it.
        raise InputError(f"Ids must be integers or strings, and {_missing(int(np.isnan(array).argmax()))}")
    raise InputError(f"Ids must be integers or strings, got {array.dtype}")


def distinct(*arrays: NDArray[Any]) -> NDArray[Any]:
    """The distinct values of all arrays, (n,), ascending: as `numpy.unique` of their concatenation.

    Arrays of integers or text, or of floats without NaN. numpy 2.3 and later look for distinct values in a hash table
    and sort them after that. Where most values differ, this takes 20 to 90 times as long as a vectorised sort.
    """
    values = np.concatenate(arrays).ravel() if len(arrays) > 1 else np.array(arrays[0]).ravel()
    values.sort()
    first = np.ones(values.size, bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def _missing(position: int) -> str:
    return f"the one at position {position} is missing"


def _of_objects(values: Sequence[Any]) -> NDArray[Any]:
    """Python's or numpy's own integers, or texts, as an array of integers or text."""
    kinds = set(map(type, values))
    if all(issubclass(kind, str) for kind in kinds):
        return np.array(values, dtype=str)
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            raise InputError("Integer ids must fit in 64 signed bits; pass larger ones as strings") from None
    for position, value in enumerate(values):
        if type(value).__name__ in ("NoneType", "NAType", "NaTType") or (isinstance(value, float) and value != value):
            raise InputError(f"Ids must be integers or strings, and {_missing(position)}")
    if all(issubclass(kind, str | int | np.integer) and kind is not bool for kind in kinds):
        raise InputError("Ids must be all integers or all strings")
    raise InputError(f"Ids must be integers or strings, got {', '.join(sorted(kind.__name__ for kind in kinds))}")


_SHOWN = 80  # characters of an id in a message
# An integer as Python prints it; 19 digits may pass 64 bits.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_INT64 = np.iinfo(np.int64)


class IdMap:
    """External ids in row order: row r belongs to ``values[r]``.

    Ids are sorted and unique. So the order of rows is the order of ids (ties broken by row are broken by
    id), and a look-up is a binary search without a second copy.

    Parameters
    ----------
    ids : (n,) int64 or str, strictly ascending. `IdMap.of` sorts for you.
    """

    __slots__ = ("_digest", "values")

    def __init__(self, ids: ArrayLike) -> None:
        values = as_ids(ids)
        if values.size > 1 and not bool(np.all(values[1:] > values[:-1])):
            raise InputError("Ids must be unique and in ascending order")
        if values.dtype.kind == "U" and values.dtype.itemsize > 4 * MAX_ID_LENGTH:
            raise InputError(f"Ids must be at most {MAX_ID_LENGTH} characters long")
        if values.dtype.kind == "U":
            points = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False)).view(np.uint32)
            if bool(((points >= 0xD800) & (points <= 0xDFFF)).any()):
                raise InputError("Ids must be text that UTF-8 can hold; a lone surrogate is none")
        if values is ids:
            values = values.copy()
        values.flags.writeable = False
        self.values: NDArray[Any] = values
        self._digest: str | None = None

    @classmethod
    def of(cls, ids: ArrayLike) -> IdMap:
        """The map of the distinct values of `ids`, sorted."""
        return cls(distinct(as_ids(ids)))

    def __len__(self) -> int:
        return int(self.values.size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} ids, {self.kind})"

    @property
    def kind(self) -> Literal["int", "str"]:
        """Type of the ids."""
        return "str" if self.values.dtype.kind == "U" else "int"

    @property
    def digest(self) -> str:
        """sha256 of the ids in row order."""
        if self._digest is None:
            digest = hashlib.sha256(self.kind.encode())
            # Hash UTF-8 lines: with fixed-width text the digest would depend on the length of the longest id.
            for start in range(0, len(self), 65536):
                block = self.values[start : start + 65536]
                if self.kind == "str":
                    digest.update("".join(f"{len(v)}:{v}" for v in block.tolist()).encode())
                else:
                    digest.update(block.astype("<i8").tobytes())
            self._digest = digest.hexdigest()
        return self._digest

    def same_kind(self, ids: ArrayLike) -> NDArray[Any]:
        """The ids as this map has them, (n,): 7 is "7" where ids are text, and "7" is 7 where they are integers.

        Raises InputError where that is not certain: for "007", "7.0" or "abc" beside integers.
        """
        wanted = as_ids(ids)
        if not len(self) or not wanted.size or wanted.dtype.kind == self.values.dtype.kind:
            return wanted
        if self.kind == "str":
            return wanted.astype(str)
        for text in wanted.tolist():
            if not _INTEGER.fullmatch(text) or not _INT64.min <= int(text) <= _INT64.max:
                raise InputError(f"The id {_short(text)} is text, and these ids are integers, such as {self.values[0]}")
        return wanted.astype(np.int64)

    def rows(self, ids: ArrayLike, missing: Literal["error", "negative"] = "error") -> NDArray[np.int32]:
        """Rows of the ids, (n,) int32; an unknown id raises InputError or gives -1.

        Ids of the other kind are taken as `same_kind` does.
        """
        wanted = self.same_kind(ids)
        if wanted.size == 0:
            return np.empty(0, np.int32)
        if len(self) == 0:
            known = np.zeros(wanted.size, bool)
            rows = np.zeros(wanted.size, np.int64)
        else:
            # Cut to this map's width: searchsorted would widen every id to the longest wanted id.
            cut = wanted.astype(self.values.dtype, copy=False)
            rows = np.minimum(np.searchsorted(self.values, cut), len(self) - 1)
            known = (self.values[rows] == cut) & (cut == wanted)
        if missing == "error" and not known.all():
            unknown = wanted[~known]
            some = ", ".join(_short(v) for v in unknown[:5].tolist())
            raise InputError(f"{unknown.size} unknown id(s): {some}")
        return np.where(known, rows, -1).astype(np.int32)

    def row(self, wanted: int | str) -> int:
        """Row of one id, -1 for an unknown one: as `rows`, for a service, in a few microseconds.

        An id of the other kind is unknown where it is not certain which one is meant.
        """
        if self.kind == "str":
            wanted = wanted if isinstance(wanted, str) else str(wanted)
            if not 0 < 4 * len(wanted) <= self.values.dtype.itemsize or wanted[-1] == "\0":
                return -1 if wanted else self._row_of_empty()
        elif isinstance(wanted, str):
            if not _INTEGER.fullmatch(wanted):
                return -1
            wanted = int(wanted)
        if isinstance(wanted, int) and not _INT64.min <= wanted <= _INT64.max:
            return -1
        row = int(self.values.searchsorted(wanted))
        return row if row < len(self) and self.values[row] == wanted else -1

    def _row_of_empty(self) -> int:
        return 0 if len(self) and self.values[0] == "" else -1

    def ids(self, rows: ArrayLike) -> NDArray[Any]:
        """External ids of the rows, (n,)."""
        index = np.asarray(rows)
        if not index.size:
            return self.values[:0]
        if index.dtype.kind not in "iu":
            raise InputError(f"Rows must be integers, got {index.dtype}")
        if index.min() < 0 or index.max() >= len(self):
            raise RowRangeError(f"Rows must be in range [0, {len(self)})")
        result: NDArray[Any] = self.values[index]
        return result

    def parse(self, text: str | int) -> int | str:
        """A typed or configured id with this map's type: ``"17"`` is 17 where ids are integers.

        What can't be an id of that type stays text, and is unknown.
        """
        if self.kind == "str":
            return str(text)
        # Stricter than int(), which takes "1_0" and refuses thousands of digits.
        digits = str(text).strip()
        number = int(digits) if re.fullmatch(r"-?\d{1,30}", digits, re.ASCII) else None
        return number if number is not None and _INT64.min <= number <= _INT64.max else str(text)


def _short(value: int | str) -> str:
    """The id as a message shows it; what somebody typed may be a page of text."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + "…'"
