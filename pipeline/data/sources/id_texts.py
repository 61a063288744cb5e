"""Ids as text: out of UTF-8, out of UUIDs of 16 bytes, and text that is integers."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.sources.values import is_text

__all__ = ["canonical_integers", "integers", "is_16_bytes", "is_binary", "texts", "uuid_texts", "without_blanks"]

_POWERS_OF_TEN = np.uint64(10) ** np.arange(1, 19, dtype=np.uint64)


_WHOLE = r"-?[0-9]+(?:\.0+)?"


def is_binary(kind: pa.DataType) -> bool:
    """Whether it is bytes, of any length or of a fixed one."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_16_bytes(kind: pa.DataType) -> bool:
    """Whether it is bytes of the length of a UUID."""
    return bool(pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16)


def texts(words: pa.Array) -> pa.Array:
    """Distinct ids as large_string, from UTF-8 (null where it is not)."""
    padded = pa.types.is_fixed_size_binary(words.type)
    # By way of binary: Parquet and ClickHouse call text what was never checked to be UTF-8.
    words = words.cast(pa.large_string() if is_text(words.type) else pa.large_binary()).cast(pa.large_binary())
    try:
        words = words.cast(pa.large_string())
    except pa.ArrowInvalid:
        words = pa.array([_decoded(word) for word in words.to_pylist()], pa.large_string())
    return pc.utf8_rtrim(words, "\0") if padded else words


def without_blanks(words: pa.Array) -> pa.Array:
    """The words of a CSV without blanks around them, and without the quotes that a blank kept from being read."""
    trimmed = pc.utf8_trim(words, " \t\r\ufeff")
    if trimmed.equals(words):
        return words
    quoted = pc.match_substring_regex(words, r'^[ \t]+"(?s:.*)"[ \t\r]*$')
    if pc.any(quoted).as_py():
        inside = pc.replace_substring(pc.utf8_slice_codeunits(trimmed, 1, -1), '""', '"')
        trimmed = pc.if_else(pc.fill_null(quoted, False), inside, trimmed)
    return trimmed


def _decoded(word: bytes | None) -> str | None:
    try:
        return None if word is None else word.decode()
    except UnicodeDecodeError:
        return None


def uuid_texts(words: pa.Array) -> pa.Array:
    """UUIDs as lower-case text, 8-4-4-4-12 hexadecimal digits."""
    n = len(words)
    raw = np.frombuffer(words.buffers()[1], np.uint8).reshape(-1, 16)[words.offset : words.offset + n]
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    pairs = digits[np.stack([raw >> 4, raw & 15], axis=2)].reshape(n, 32)
    text = np.full((n, 36), ord("-"), np.uint8)
    text[:, [i for i in range(36) if i not in (8, 13, 18, 23)]] = pairs
    offsets = np.arange(n + 1, dtype=np.int64) * 36
    result = pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))
    return pc.if_else(words.is_valid(), result, pa.scalar(None, result.type))


def integers(words: pa.Array) -> NDArray[np.int64] | None:
    """The words as int64 where each is a canonical integer, with or without ``.0`` behind it; else None."""
    exact = canonical_integers(pa.chunked_array([words]))
    if exact is not None or not re.fullmatch(_WHOLE, words[0].as_py()):
        return exact
    return canonical_integers(pa.chunked_array([pc.replace_substring_regex(words, r"\.0+$", "")]))


def canonical_integers(words: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """The words as int64 where each is an integer as Python would print it, else None."""
    if words.null_count:
        return None
    try:
        words.slice(0, 100).cast(pa.int64())  # a cast that fails takes as long as the column is
        values: NDArray[np.int64] = words.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    # "007", "+7", "-0" are longer than what would be printed.
    size = 1 + np.searchsorted(_POWERS_OF_TEN, np.abs(values).view(np.uint64), side="right") + (values < 0)
    return values if np.array_equal(size, pc.binary_length(words).to_numpy()) else None
