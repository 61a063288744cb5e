"""`IdMap`: the one owner of external id ↔ row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError, RowRangeError

__all__ = ["MAX_ID_LENGTH", "IdMap", "as_ids"]

# A numpy string array gives every id the width of the longest, so one hostile id must not
# decide how much memory all of them take.
MAX_ID_LENGTH = 256


def as_ids(values: ArrayLike) -> NDArray[Any]:
    """The ids as an int64 or str array of shape (n,).

    Raises InputError for object arrays, floats, and any other kind: an id that would have to be
    guessed at (1.0 or "1"?) is refused.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U" and isinstance(values, (list, tuple)) and not all(isinstance(v, str) for v in values):
        raise InputError("Ids must be all integers or all strings")
    if array.ndim != 1:
        raise InputError(f"Ids must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise InputError("Integer ids must fit in 64 signed bits; pass larger ones as strings")
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "U":
        return array
    if array.size == 0:
        return array.astype(np.int64)
    raise InputError(f"Ids must be integers or strings, got {array.dtype}")


class IdMap:
    """External ids in row order: row r belongs to ``values[r]``.

    Ids are kept sorted and unique, so the order of rows is the order of ids (a tie broken by row
    is a tie broken by id) and a look-up is a binary search that needs no second copy.

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
        return cls(np.unique(as_ids(ids)))

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
        """What the ids are."""
        return "str" if self.values.dtype.kind == "U" else "int"

    @property
    def digest(self) -> str:
        """sha256 of the ids in row order."""
        if self._digest is None:
            digest = hashlib.sha256(self.kind.encode())
            # Fixed-width text would tie the digest to the longest id of the day: hash UTF-8 lines.
            for start in range(0, len(self), 65536):
                block = self.values[start : start + 65536]
                if self.kind == "str":
                    digest.update("".join(f"{len(v)}:{v}" for v in block.tolist()).encode())
                else:
                    digest.update(block.astype("<i8").tobytes())
            self._digest = digest.hexdigest()
        return self._digest

    def rows(self, ids: ArrayLike, missing: Literal["error", "negative"] = "error") -> NDArray[np.int32]:
        """Rows of the ids, (n,) int32; an id that is not here raises InputError or gives -1."""
        wanted = as_ids(ids)
        if wanted.size == 0:
            return np.empty(0, np.int32)
        if len(self) == 0 or wanted.dtype.kind != self.values.dtype.kind:
            found = np.zeros(wanted.size, bool)
            rows = np.zeros(wanted.size, np.int64)
        else:
            # Cut to this map's width: searchsorted would widen every id to the longest one asked for.
            cut = wanted.astype(self.values.dtype, copy=False)
            rows = np.minimum(np.searchsorted(self.values, cut), len(self) - 1)
            found = (self.values[rows] == cut) & (cut == wanted)
        if missing == "error" and not found.all():
            unknown = wanted[~found]
            some = ", ".join(repr(v) for v in unknown[:5].tolist())
            raise InputError(f"{unknown.size} unknown id(s): {some}")
        return np.where(found, rows, -1).astype(np.int32)

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
        """A typed or configured id as this map's kind: ``"17"`` is 17 where ids are integers."""
        if self.kind == "str":
            return str(text)
        # Not all that int() takes: "1_0" is nobody's id; nor what it would refuse, thousands of digits.
        digits = str(text).strip()
        return int(digits) if re.fullmatch(r"-?\d{1,30}", digits, re.ASCII) else text

    def parse_all(self, texts: Iterable[str | int]) -> NDArray[Any]:
        """`parse` for several; text that is no integer becomes an id that is in no integer map."""
        values = [self.parse(text) for text in texts]
        if self.kind == "int" and any(isinstance(value, str) for value in values):
            bad = next(value for value in values if isinstance(value, str))
            raise InputError(f"Ids are integers in this model, got {bad!r:.60}")
        try:
            return as_ids(np.array(values, dtype=str if self.kind == "str" else np.int64))
        except OverflowError:
            raise InputError("Integer ids must fit in 64 signed bits") from None
