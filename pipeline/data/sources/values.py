"""Arrow columns → scores, with a mark on each value that can't be used.

Every function takes a whole `pyarrow.ChunkedArray` and works on all of its values at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError

__all__ = ["NUMBER", "check_codes", "is_text", "plain", "read_scores", "to_numpy"]

NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def is_text(kind: pa.DataType) -> bool:
    """Whether values of the type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def check_codes(column: pa.ChunkedArray) -> None:
    """Raise InputError where a code of a dictionary column points past its dictionary: Arrow would read on there."""
    for chunk in column.chunks:
        codes = pc.min_max(chunk.indices).as_py()
        if codes["max"] is not None and not 0 <= codes["min"] <= codes["max"] < len(chunk.dictionary):
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
        fits = pc.match_substring_regex(text, NUMBER)
        return pc.if_else(fits, text, pa.scalar(None, text.type)).cast(pa.float64())


def read_scores(
    column: pa.ChunkedArray, name: str = "rating"
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Scores, (n,) float32; which can't be used (null, not a number, not finite); and which are below zero.

    Any integer, floating or decimal type, and text. Raises InputError for other types.
    """
    column = plain(column)
    kind = column.type
    if is_text(kind):
        column = _numbers(column)
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(
            f"Column {name!r} holds {kind}, and scores are numbers: cast it to a number, or leave it out "
            "(--rating-column off)"
        )
    with np.errstate(over="ignore"):
        values, null = to_numpy(column, 0.0 if pa.types.is_floating(column.type) else 0)
        # Adding 0 makes a new array, and 0 of -0: equal data then has equal bytes.
        scores = values.astype(np.float32) + np.float32(0)
    if null is not None:
        scores[null] = np.nan
    # min and max carry NaN, so clean blocks need no array of flags.
    if not scores.size or (scores.min() >= 0 and scores.max() < np.inf):
        return scores, None, None
    return scores, ~np.isfinite(scores), (scores < 0) & (scores > -np.inf)
