"""Spoilt bytes and odd tables for the fuzzing tests, and what may come of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from pipeline.errors import RanklineError

# Numbers at the ends of their types, and bytes that mean something to one parser or another.
TOKENS: Sequence[bytes] = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b"\r\n", b"\t", b'"', b'""', b"'", b"\\"),
    *(b",", b";", b":", b"::", b"[", b"]", b"{", b"}", b"(", b")", b"[[[[", b"/", b"../", b" ", b"\x1b[2J"),
    *(b"-1", b"0", b"-0", b"00", b"1e309", b"1e-400", b"-1e5", b"0.1", b"NaN", b"nan", b"inf", b"-Infinity", b"null"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1" * 400, b"true", b"None"),
    *(b"2021-02-29", b"2021-01-01T00:00:00Z", b"0000-01-01", b"99999-01-01", b"1e20", b"\\ud800", b"\\u0000"),
    *(b"user_id", b"item_id", b"rating", b"timestamp", b"user", b"x" * 300, b"\xff\xff\xff\x7f", b"\0\0\0\x80"),
    *((2**32 - 1).to_bytes(4, "little"), (2**63).to_bytes(8, "little"), b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY"),
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, base: bytes, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """`base` with a few of its bytes flipped, cut, repeated, moved, or overwritten."""
    data = bytearray(base)
    for _ in range(draw(st.integers(1, 4))):
        size = len(data)
        at = draw(st.integers(0, size))
        length = draw(st.sampled_from([1, 1, 2, 4, 8, 30, size]))
        what = draw(st.sampled_from(["flip", "flip", "cut", "insert", "insert", "overwrite", "repeat", "end", "swap"]))
        if what == "flip" and at < size:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at : at + length]
        elif what == "insert":
            data[at:at] = draw(st.sampled_from(tokens) | st.binary(max_size=20))
        elif what == "overwrite":
            token = draw(st.sampled_from(tokens))
            data[at : at + len(token)] = token
        elif what == "repeat":
            data[at:at] = data[at : at + length] * draw(st.sampled_from([1, 3, 50]))
        elif what == "end":
            del data[at:]
        else:
            data[at:at], data[at : at + length] = data[at : at + length], b""
    return bytes(data)


def outcome(call: Callable[[], Any], longest: int = 3000) -> Any:
    """What the call gives, or None where it refuses; anything but a RanklineError in one line fails the test."""
    try:
        return call()
    except RanklineError as error:
        refusal = error
    message = str(refusal)
    assert message
    assert message.isprintable(), repr(message)
    assert len(message) < longest, len(message)
    assert refusal.__cause__ is None or isinstance(refusal.__cause__, RanklineError)
    return None


def _arrays(kind: pa.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[pa.Array]:
    return st.lists(st.none() | values, min_size=1, max_size=6).map(lambda some: pa.array(some, kind))


_WHOLE = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_REALS = st.floats() | st.sampled_from([0.5, 1.0, 5.0, 1e300])
_NESTED = st.lists(st.integers(0, 9), max_size=3)
# Every kind of column that a query may give, with nulls, at the ends of its range.
COLUMNS: st.SearchStrategy[pa.Array] = st.one_of(
    _arrays(pa.int64(), _WHOLE),
    _arrays(pa.int64(), st.integers(1, 3)),
    _arrays(pa.int8(), st.integers(-128, 127)),
    _arrays(pa.uint64(), st.integers(0, 2**64 - 1)),
    _arrays(pa.float64(), _REALS),
    _arrays(pa.float32(), st.floats(width=32)),
    _arrays(pa.float16(), st.floats(width=16)),
    _arrays(pa.bool_(), st.booleans()),
    _arrays(pa.string(), _TEXT | st.sampled_from(["1", "007", "nan", "1e5", "2021-02-29", " 1 ", "", "x" * 300])),
    _arrays(pa.large_string(), _TEXT),
    _arrays(pa.string_view(), _TEXT),
    _arrays(pa.binary(), st.binary(max_size=8)),
    _arrays(pa.binary_view(), st.binary(max_size=8)),
    _arrays(pa.binary(16), st.binary(min_size=16, max_size=16)),
    _arrays(pa.binary(3), st.binary(min_size=3, max_size=3)),
    _arrays(pa.decimal128(20, 3), st.decimals(-(10**16), 10**16, places=3)),
    _arrays(pa.decimal256(60, 0), st.integers(-(10**59), 10**59).map(str).map(__import__("decimal").Decimal)),
    _arrays(pa.decimal32(5, 2), st.decimals(-999, 999, places=2)),
    *(_arrays(pa.timestamp(unit), _WHOLE) for unit in ("s", "ms", "us", "ns")),
    _arrays(pa.timestamp("us", "UTC"), _WHOLE),
    _arrays(pa.timestamp("ms", "Europe/Berlin"), _WHOLE),
    _arrays(pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    _arrays(pa.date64(), st.integers(-(2**60), 2**60).map(lambda n: n // 86_400_000 * 86_400_000)),
    _arrays(pa.time32("s"), st.integers(0, 86399)),
    _arrays(pa.duration("ms"), _WHOLE),
    _arrays(pa.month_day_nano_interval(), st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))),
    _arrays(pa.list_(pa.int64()), _NESTED),
    _arrays(pa.list_view(pa.int64()), _NESTED),
    _arrays(pa.struct([("a", pa.int64())]), st.builds(dict, a=st.integers(0, 9))),
    _arrays(pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(_TEXT, st.integers(0, 9)), max_size=2)),
    st.integers(1, 6).map(pa.nulls),
    _arrays(pa.string(), _TEXT).map(lambda a: a.dictionary_encode()),
    _arrays(pa.int64(), st.integers(1, 3)).map(lambda a: a.dictionary_encode()),
    _arrays(pa.float64(), _REALS).map(lambda a: a.dictionary_encode()),
    _arrays(pa.bool_(), st.booleans()).map(lambda a: a.dictionary_encode()),
    # Codes that point past their dictionary, as damaged Parquet has them.
    st.lists(st.integers(-1, 3), min_size=1, max_size=6).map(
        lambda codes: pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(["a", "b"]), safe=False)
    ),
    _arrays(pa.int64(), st.integers(1, 3)).map(pc.run_end_encode),
    _arrays(pa.uuid(), st.binary(min_size=16, max_size=16)),
    # Text that was never checked to be UTF-8, as Parquet and ClickHouse may give it.
    st.lists(st.binary(max_size=6), min_size=1, max_size=6).map(
        lambda some: pa.array(some, pa.binary()).view(pa.string())
    ),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A block of a query's result: most often with the columns it should have, of any type."""
    names = draw(
        st.lists(
            st.sampled_from(["user_id", "item_id", "score", "at", "rating", "User_Id", "timestamp", "", "x", "user"]),
            max_size=3,
        )
    )
    names = [*draw(st.sampled_from([["user_id", "item_id"], ["user_id", "item_id"], ["user_id"], []])), *names]
    columns = [draw(COLUMNS) for _ in names]
    n = min((len(column) for column in columns), default=0)
    # Sliced, for that is where offsets go wrong.
    start = draw(st.integers(0, n))
    return pa.Table.from_arrays([column.slice(start, n - start) for column in columns], names)
