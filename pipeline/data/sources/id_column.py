"""`IdColumn`: ids arrive block by block, and leave as int32 codes into ids that are kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap, distinct
from pipeline.data.sources.id_texts import (
    canonical_integers,
    integers,
    is_16_bytes,
    is_binary,
    texts,
    uuid_texts,
    without_blanks,
)
from pipeline.data.sources.values import check_codes, is_text, plain, to_numpy
from pipeline.errors import InputError

__all__ = ["IdColumn", "IdForm"]

IdForm = Literal["csv", "file", "query"]

_INT32 = np.iinfo(np.int32)
_TWO_KINDS = "Column {!r} holds integers in some rows and text in others: make its ids all the same"
# What programs write for a missing value, and for a number that is none.
_NO_IDS = pa.array(
    [
        *("NULL", "Null", "null", "NaN", "nan", "NAN", "-nan", "-NaN", "None", "NONE", "none", "NA", "N/A", "n/a"),
        *("<NA>", "#N/A", "#NA", "NaT", "inf", "Inf", "INF", "-inf", "-Inf", "Infinity", "-Infinity", "infinity"),
        r"\N",
    ],
    pa.large_string(),
)
_WAITING = 1 << 18  # words that wait to be merged: a merge takes some 300 bytes a word
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
    form : where the ids come from. In a ``csv``, blanks around an id are no part of it, and text that is an integer
        in every kept row (no ``007``, no ``+1``; ``1.0`` is 1) is integers. In a ``csv`` and a ``file`` of another
        format, words such as NULL and nan stand for a missing id. Of a ``query``, 16 bytes are a UUID; of a file,
        only where its column says so
    chunks : an empty list, or what takes its place, for the values of the blocks
    """

    def __init__(self, name: str, form: IdForm = "query", chunks: Any = None) -> None:
        self.name = name
        self.form: IdForm = form
        self.kind: Literal["int", "str"] | None = None
        self._chunks: Any = [] if chunks is None else chunks
        self._text_chunks: set[int] = set()
        self._typed_text = False  # whether text came from a source that tells text from integers
        self._merged: pa.Array = pa.array([], pa.large_string())
        self._pending: list[tuple[int, pa.Array]] = []
        self._n_pending = 0

    def read(self, column: pa.ChunkedArray) -> tuple[NDArray[Any], pa.Array | None, NDArray[np.bool_] | None]:
        """``(values, words, bad)``: (n,) ids, or (n,) codes into `words`; and which can't be used.

        Raises InputError where the column's type is none of an id, or another kind than before.
        """
        uuids = isinstance(column.type, pa.UuidType)
        if isinstance(column.type, pa.BaseExtensionType):
            column = plain(column)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if is_text(kind) or is_binary(kind):
            numbers = canonical_integers(column) if self.form == "csv" and is_text(column.type) else None
            if numbers is not None:
                return numbers, None, None
            return self._read_text(column, uuids or (self.form == "query" and is_16_bytes(kind)))
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
                raise InputError(
                    f"Column {self.name!r} holds {kind}, with a fraction or past 64 signed bits: pass ids as strings"
                ) from None
        else:
            raise InputError(f"Column {self.name!r} holds {kind}, and ids are integers or strings")
        self._expect("int")
        return values, None, bad

    def _whole(self, column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Floats as integers: that is how a column of integers with a gap leaves pandas."""
        values, _ = to_numpy(column.cast(pa.float64()), np.nan)
        bad = np.isnan(values)
        if not np.all((np.abs(values) < 2**53) & (np.floor(values) == values) | bad):
            some = values[~bad & ~((np.abs(values) < 2**53) & (np.floor(values) == values))][0].item()
            raise InputError(f"Column {self.name!r} holds the id {some!r}: ids are integers or strings, not fractions")
        return np.where(bad, 0, values).astype(np.int64), bad if bad.any() else None

    def _read_text(
        self, column: pa.ChunkedArray, uuids: bool
    ) -> tuple[NDArray[Any], pa.Array | None, NDArray[np.bool_] | None]:
        if self.form != "csv":
            self._expect("str")
            self._typed_text = True
        if pa.types.is_dictionary(column.type):
            check_codes(column)
            encoded = column.unify_dictionaries().combine_chunks()
        else:
            # In one piece (64-bit offsets: it may pass 2 GB): of many, Arrow hashes every dictionary again.
            if is_text(column.type):
                column = column.cast(pa.large_string())
            encoded = pa.concat_arrays(column.chunks).dictionary_encode()
        words = uuid_texts(encoded.dictionary) if uuids else texts(encoded.dictionary)
        if self.form == "csv":
            words = without_blanks(words)
        # A Python loop, but over the distinct ids of the block only where one of them is refused.
        refused = pc.fill_null(
            pc.or_(
                pc.or_(pc.equal(words, ""), pc.greater(pc.utf8_length(words), MAX_ID_LENGTH)),
                # numpy drops NULs from the end of a text, which would make two ids one.
                pc.match_substring(words, "\0"),
            ),
            True,
        )
        if self.form != "query":
            refused = pc.or_(refused, pc.fill_null(pc.is_in(words, value_set=_NO_IDS), False))
        codes = pc.fill_null(encoded.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
        if not encoded.null_count and not pc.any(refused).as_py():
            return codes, words, None
        # The last flag is that of code -1, null.
        return codes, words, np.append(refused.to_numpy(zero_copy_only=False), True)[codes]

    def _expect(self, kind: Literal["int", "str"]) -> None:
        if self.kind not in (None, kind):
            raise InputError(_TWO_KINDS.format(self.name))
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
        if self._n_pending > max(len(self._merged), _WAITING):
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
        ids = np.sort(pc.unique(values).to_numpy())
        codes = pc.index_in(values, pa.array(ids)).to_numpy()
        return codes, IdMap(ids)

    def by_chunk(self) -> tuple[Callable[[], Iterator[NDArray[np.int32]]], IdMap]:
        """As `finish`, the codes a block at a time and as often as they are asked for; the blocks are kept.

        It takes memory for the ids alone.
        """
        if self._pending or len(self._merged):
            self._numbers_to_text()
            ids, table = self._rank_text()
            return lambda: (table[chunk] for chunk in self._chunks), IdMap(ids)
        sizes = [chunk.size for chunk in self._chunks]
        if not sum(sizes):
            return lambda: iter(()), IdMap(np.empty(0, np.int64))
        ends = [(int(chunk.min()), int(chunk.max())) for chunk in self._chunks if chunk.size]
        low, high = min(a for a, _ in ends), max(b for _, b in ends)
        if high - low < max(_TABLE, sum(sizes) // 8):
            present = np.zeros(high - low + 1, bool)
            for chunk in self._chunks:
                present[chunk.astype(np.int64) - low] = True
            ranks = np.cumsum(present, dtype=np.int32) - np.int32(1)
            return lambda: (ranks[chunk.astype(np.int64) - low] for chunk in self._chunks), IdMap(
                np.flatnonzero(present) + low
            )
        ids = np.empty(0, np.int64)
        for chunk in self._chunks:
            ids = distinct(ids, chunk)
        return lambda: (np.searchsorted(ids, chunk).astype(np.int32) for chunk in self._chunks), IdMap(ids)

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
        numbers = None if self._typed_text else integers(words)
        if numbers is not None:
            ids, rank = np.unique(numbers, return_inverse=True)  # 1 and 1.0 are one id
        elif self.kind == "int":
            raise InputError(_TWO_KINDS.format(self.name))
        else:
            order = pc.sort_indices(words).to_numpy()
            words = words.take(pa.array(order))
            ids = np.empty(len(words), f"<U{pc.max(pc.utf8_length(words)).as_py()}")
            # Python's own text objects are ten times the size: a slice of them at a time.
            for start in range(0, len(words), 1 << 16):
                ids[start : start + (1 << 16)] = words.slice(start, 1 << 16).to_numpy(zero_copy_only=False)
            rank = np.empty(len(order), np.int64)
            rank[order] = np.arange(len(order))
        table = np.zeros(used.size, np.int32)
        table[used] = rank
        return ids, table
