"""`IdColumn`: ids arrive block by block, and leave as int32 codes into ids that are kept once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.ids import MAX_ID_LENGTH, IdMap
from pipeline.sources.values import check_codes, is_text, plain, to_numpy

__all__ = ["IdColumn"]

_INT32 = np.iinfo(np.int32)
_POWERS_OF_TEN = np.uint64(10) ** np.arange(1, 19, dtype=np.uint64)
# Up to this many values, or twice as many as there are rows, a look-up table beats hashing.
_TABLE = 1 << 22


class IdColumn:
    """The ids of one column.

    Integers wait as they are (in 32 bits where a block allows it) and get their codes at the end.
    Of text, a block keeps only its distinct values and a code a row; these dictionaries are merged
    whenever they outgrow what was merged before, so each id is hashed a few times and stored once.

    Parameters
    ----------
    name : the column's name, for messages
    infer : text that is a canonical integer in every kept row (no ``007``, no ``+1``) is integers
    """

    def __init__(self, name: str, infer: bool = False) -> None:
        self.name = name
        self.infer = infer
        self.kind: Literal["int", "str"] | None = None
        self._chunks: list[NDArray[Any]] = []
        self._text_chunks: set[int] = set()
        self._merged: pa.Array = pa.array([], pa.large_string())
        self._pending: list[tuple[int, pa.Array]] = []
        self._n_pending = 0

    def read(self, column: pa.ChunkedArray) -> tuple[NDArray[Any], pa.Array | None, NDArray[np.bool_] | None]:
        """``(values, words, bad)``: (n,) ids, or (n,) codes into `words`; and which can't be used.

        Raises InputError where the column's type is none of an id, or another kind than before.
        """
        if isinstance(column.type, pa.BaseExtensionType):
            column = plain(column)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if is_text(kind) or _is_binary(kind):
            numbers = _canonical_integers(column) if self.infer and is_text(column.type) else None
            return self._read_text(column) if numbers is None else (numbers, None, None)
        column = plain(column)
        if pa.types.is_null(kind):
            return np.zeros(len(column), np.int64), None, np.ones(len(column), bool)
        if pa.types.is_integer(kind):
            if pa.types.is_uint64(kind) and (pc.max(column).as_py() or 0) >= 2**63:
                raise InputError(f"Column {self.name!r} has integers past 64 signed bits: pass such ids as strings")
            values, bad = to_numpy(column.cast(pa.int64()))
        elif pa.types.is_floating(kind):
            values, bad = self._whole(column)
        elif pa.types.is_decimal(kind):
            try:
                values, bad = to_numpy(column.cast(pa.int64()))
            except pa.ArrowInvalid:
                raise InputError(f"Column {self.name!r} holds {kind} that is no integer: pass ids as strings") from None
        else:
            raise InputError(f"Column {self.name!r} holds {kind}, and ids are integers or strings")
        self._expect("int")
        return values, None, bad

    def _whole(self, column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Floats as integers: that is how a column of integers with a gap leaves pandas."""
        values, _ = to_numpy(column.cast(pa.float64()), np.nan)
        bad = np.isnan(values)
        if not np.all((np.abs(values) < 2**53) & (np.floor(values) == values) | bad):
            some = values[~bad & ~((np.abs(values) < 2**53) & (np.floor(values) == values))][0]
            raise InputError(f"Column {self.name!r} holds the id {some!r}: ids are integers or strings, not fractions")
        return np.where(bad, 0, values).astype(np.int64), bad if bad.any() else None

    def _read_text(self, column: pa.ChunkedArray) -> tuple[NDArray[Any], pa.Array | None, NDArray[np.bool_] | None]:
        self._expect("str")
        if pa.types.is_dictionary(column.type):
            check_codes(column)
            encoded = column.unify_dictionaries().combine_chunks()
        else:
            # In one piece (64-bit offsets: it may pass 2 GB): of many, Arrow hashes every dictionary again.
            if is_text(column.type):
                column = column.cast(pa.large_string())
            encoded = pa.concat_arrays(column.chunks).dictionary_encode()
        words = _texts(encoded.dictionary)
        # A Python loop, but over the distinct ids of the block only where one of them is refused.
        refused = pc.fill_null(
            pc.or_(
                pc.or_(pc.equal(words, ""), pc.greater(pc.utf8_length(words), MAX_ID_LENGTH)),
                # numpy drops NULs from the end of a text, which would make two ids one.
                pc.match_substring(words, "\0"),
            ),
            True,
        )
        codes = pc.fill_null(encoded.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
        if not encoded.null_count and not pc.any(refused).as_py():
            return codes, words, None
        # The last flag is that of code -1, null.
        return codes, words, np.append(refused.to_numpy(zero_copy_only=False), True)[codes]

    def _expect(self, kind: Literal["int", "str"]) -> None:
        if self.kind not in (None, kind):
            raise InputError(
                f"Column {self.name!r} holds integers in some rows and text in others: make its ids all the same"
            )
        self.kind = kind

    def keep(self, values: NDArray[Any], words: pa.Array | None, good: NDArray[np.bool_] | None) -> None:
        """Take the good rows of what `read` gave."""
        if good is not None:
            values = values[good]
        if words is not None:
            self._text_chunks.add(len(self._chunks))
            self._pending.append((len(self._chunks), words))
            self._n_pending += len(words)
        elif values.size and values.min() >= _INT32.min and values.max() <= _INT32.max:
            values = values.astype(np.int32)
        self._chunks.append(values)
        if self._n_pending > max(len(self._merged), 1 << 20):
            self._merge()

    def _merge(self) -> None:
        """One dictionary out of all; the codes of what was merged before stay as they are."""
        dictionaries = [self._merged, *(words for _, words in self._pending)]
        encoded = pa.concat_arrays(dictionaries).dictionary_encode()
        codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        start = len(self._merged)
        for chunk, words in self._pending:
            self._chunks[chunk] = codes[start : start + len(words)][self._chunks[chunk]]
            start += len(words)
        self._merged = encoded.dictionary
        self._pending, self._n_pending = [], 0

    def finish(self) -> tuple[NDArray[np.int32], IdMap]:
        """Codes, (n,), and the ids of the kept rows, each used at least once. Call it once."""
        n = sum(chunk.size for chunk in self._chunks)
        if not n:
            return np.empty(0, np.int32), IdMap(np.empty(0, np.int64))
        if self._pending or len(self._merged):
            self._numbers_to_text()
            ids, table = self._rank_text()
            return self._translate(n, table, 0), IdMap(ids)
        low = min(int(chunk.min()) for chunk in self._chunks if chunk.size)
        high = max(int(chunk.max()) for chunk in self._chunks if chunk.size)
        if high - low < max(_TABLE, 2 * n):
            present = np.zeros(high - low + 1, bool)
            for chunk in self._chunks:
                present[chunk.astype(np.int64) - low] = True
            table = np.cumsum(present, dtype=np.int32)
            table -= 1
            return self._translate(n, table, low), IdMap(np.flatnonzero(present) + low)
        values = pa.chunked_array([pa.array(chunk.astype(np.int64, copy=False)) for chunk in self._chunks])
        self._chunks = []
        distinct = np.sort(pc.unique(values).to_numpy())
        codes = pc.index_in(values, pa.array(distinct)).to_numpy()
        return codes, IdMap(distinct)

    def _numbers_to_text(self) -> None:
        """Blocks of canonical integers become text again, where other blocks turned out to be text."""
        for i, chunk in enumerate(self._chunks):
            if i not in self._text_chunks:
                encoded = pa.array(chunk).dictionary_encode()
                self._chunks[i] = encoded.indices.to_numpy()
                self._pending.append((i, encoded.dictionary.cast(pa.large_string())))

    def _translate(self, n: int, table: NDArray[np.int32], low: int) -> NDArray[np.int32]:
        """``table[chunk - low]`` of all chunks, each let go once it is done."""
        codes = np.empty(n, np.int32)
        start = 0
        self._chunks.reverse()
        while self._chunks:
            chunk = self._chunks.pop()
            # "clip" writes straight to `out`; no index is out of bounds.
            np.take(table, chunk.astype(np.int64) - low, out=codes[start : start + chunk.size], mode="clip")
            start += chunk.size
        return codes

    def _rank_text(self) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """The ids that kept rows use, sorted, and the rank of each of the merged words."""
        self._merge()
        used = np.zeros(len(self._merged), bool)
        for chunk in self._chunks:
            used[chunk] = True
        words, self._merged = self._merged.filter(pa.array(used)), None
        if self.infer and (numbers := _canonical_integers(pa.chunked_array([words]))) is not None:
            order = np.argsort(numbers)
            ids: NDArray[Any] = numbers[order]
        else:
            order = pc.sort_indices(words).to_numpy()
            words = words.take(pa.array(order))
            ids = np.empty(len(words), f"<U{pc.max(pc.utf8_length(words)).as_py()}")
            # Python's own text objects are ten times the size: a slice of them at a time.
            for start in range(0, len(words), 1 << 16):
                ids[start : start + (1 << 16)] = words.slice(start, 1 << 16).to_numpy(zero_copy_only=False)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        table = np.zeros(used.size, np.int32)
        table[used] = rank
        return ids, table


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_uuid(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16)


def _texts(words: pa.Array) -> pa.Array:
    """Distinct ids as large_string: 16 bytes are a UUID, all else is UTF-8 (null where it is not)."""
    if _is_uuid(words.type):
        return _uuid_texts(words)
    padded = pa.types.is_fixed_size_binary(words.type)
    # By way of binary: Parquet and ClickHouse call text what was never checked to be UTF-8.
    words = words.cast(pa.large_string() if is_text(words.type) else pa.large_binary()).cast(pa.large_binary())
    try:
        words = words.cast(pa.large_string())
    except pa.ArrowInvalid:
        words = pa.array([_decoded(word) for word in words.to_pylist()], pa.large_string())
    return pc.utf8_rtrim(words, "\0") if padded else words


def _decoded(word: bytes | None) -> str | None:
    try:
        return None if word is None else word.decode()
    except UnicodeDecodeError:
        return None


def _uuid_texts(words: pa.Array) -> pa.Array:
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


def _canonical_integers(words: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """The words as int64 where each is an integer as Python would print it, else None."""
    if words.null_count:
        return None
    try:
        values: NDArray[np.int64] = words.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    # "007", "+7", "-0" are longer than what would be printed.
    size = 1 + np.searchsorted(_POWERS_OF_TEN, np.abs(values).view(np.uint64), side="right") + (values < 0)
    return values if np.array_equal(size, pc.binary_length(words).to_numpy()) else None
