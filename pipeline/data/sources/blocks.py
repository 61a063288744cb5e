"""What `InteractionsBuilder` takes and gives: blocks of columns with the numbers of their rows, and the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.sources.columns import ChosenColumns

__all__ = ["Block", "Numbering", "ReadResult", "chunked", "joined", "numbering", "one_line", "python_value"]

Numbering = Callable[[NDArray[np.intp]], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class ReadResult:
    """The result of reading a source.

    Attributes
    ----------
    interactions : the good rows, in the order of the source
    n_rows, n_bad : all rows, and those of them that were left out
    bad_rows : the first of these, at most `SAMPLE_ROWS`, each a dict for JSON with ``row`` or
        ``line`` (its number; None if only the key is known), ``user_id``, ``item_id``,
        ``rating`` and ``timestamp`` as text (None: null), ``reason``, and of several files ``file``
    columns : which column was read as what
    notes : sentences on what was read otherwise than it may seem
    """

    interactions: Interactions
    n_rows: int
    n_bad: int
    bad_rows: list[dict[str, Any]]
    columns: ChosenColumns | None = None
    notes: tuple[str, ...] = ()


class Block(NamedTuple):
    """Columns of a block by position in the builder's roles, its rows' numbers, and its file."""

    picked: list[pa.Array]
    numbering: Numbering
    file: tuple[int, str]


def numbering(numbers: NDArray[np.int64] | Numbering | None, first: int) -> Numbering:
    """From a row's position in its block to its number; by default they count from `first`."""
    if numbers is None:
        return lambda rows: rows.astype(np.int64) + first
    if callable(numbers):
        return numbers
    return lambda rows: numbers[rows]


def chunked(columns: list[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """The columns of several blocks, one after the other."""
    chunks = [chunk for c in columns for chunk in (c.chunks if isinstance(c, pa.ChunkedArray) else [c])]
    return pa.chunked_array(chunks, type=columns[0].type)


def joined(chunks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The chunks in one array; each is released after it is copied."""
    array = np.empty(sum(chunk.size for chunk in chunks), np.float32)
    start = 0
    chunks.reverse()
    while chunks:
        chunk = chunks.pop()
        array[start : start + chunk.size] = chunk
        start += chunk.size
    return array


def python_value(scalar: pa.Scalar) -> Any:
    """The value in Python, for a message; bytes or text where Python has none."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # A time that Python's datetime can't hold, text that is not UTF-8.
        if isinstance(scalar, pa.DictionaryScalar):
            return python_value(scalar.value)
        return scalar.as_buffer().to_pybytes() if hasattr(scalar, "as_buffer") else str(scalar.value)


def one_line(error: BaseException) -> str:
    """The first line of the error's message."""
    return str(error).split("\n", 1)[0][:200]
